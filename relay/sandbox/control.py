"""The sandbox's own pages: what came in, the counters, the faults, and the page that shows them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from aiohttp import web
from pydantic import ValidationError

from relay.sandbox.faults import Troublemaker
from relay.sandbox.journal import LATEST, Journal
from relay.sandbox.options import Faults
from relay.sandbox.page import PAGE, POLICY

_LIMIT = 100
"""Messages that are listed where nobody says how many."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Control:
    """`GET /`, and below `/_sandbox/`: `GET` and `DELETE received`, `GET stats`, `GET` and `POST faults`,
    `GET files/NAME`: the certificates and keys that a client of the stand-ins needs."""

    def __init__(
        self,
        journal: Journal,
        troublemaker: Troublemaker,
        providers: Collection[str],
        files: Mapping[str, bytes],
    ) -> None:
        self._journal, self._troublemaker, self._providers = journal, troublemaker, providers
        self._files = files

    def routes(self) -> list[web.RouteDef]:
        """What to add to the application."""
        return [
            web.get("/", self._page),
            web.get("/_sandbox/stats", self._stats),
            web.get("/_sandbox/received", self._received),
            web.delete("/_sandbox/received", self._clear),
            web.get("/_sandbox/faults", self._faults),
            web.post("/_sandbox/faults", self._order),
            web.get("/_sandbox/files/{name}", self._file),
        ]

    async def _page(self, request: web.Request) -> web.Response:
        headers = {**_HEADERS, "Content-Security-Policy": POLICY}
        return web.Response(body=PAGE, content_type="text/html", charset="utf-8", headers=headers)

    async def _stats(self, request: web.Request) -> web.Response:
        return _json(self._journal.stats())

    async def _received(self, request: web.Request) -> web.Response:
        limit = request.query.get("limit") or str(_LIMIT)
        if not (limit.isascii() and limit.isdigit() and len(limit) < 10):
            return _wrong("limit: must be a whole number")
        provider = request.query.get("provider") or None
        return _json(self._journal.latest(provider, min(int(limit), LATEST)))

    async def _clear(self, request: web.Request) -> web.Response:
        self._journal.clear()
        return _json({})

    async def _faults(self, request: web.Request) -> web.Response:
        return _json(_document(self._troublemaker.faults))

    async def _file(self, request: web.Request) -> web.Response:
        body = self._files.get(request.match_info["name"])
        if body is None:
            return web.Response(status=404, text=f"there are {', '.join(self._files)}", headers=_HEADERS)
        return web.Response(body=body, content_type="application/x-pem-file", headers=_HEADERS)

    async def _order(self, request: web.Request) -> web.Response:
        try:
            faults = Faults.model_validate(_decode(await request.read()))
        except ValidationError as error:
            return _wrong(*(f"{_path(each['loc'])}{_why(each['msg'])}" for each in error.errors()))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return _wrong(f"the body is not a JSON object: {error}")
        if faults.provider is not None and faults.provider not in self._providers:
            return _wrong(f"provider: there are {', '.join(self._providers)}")
        self._troublemaker.order(faults)
        return _json(_document(faults))


def _document(faults: Faults) -> object:
    """Only what was ordered, in a form that can be posted again."""
    return faults.model_dump(mode="json", exclude_unset=True)


def _path(location: tuple[int | str, ...]) -> str:
    return f"{'.'.join(map(str, location))}: " if location else ""


def _why(message: str) -> str:
    return message.removeprefix("Value error, ")


def _json(document: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), content_type="application/json", headers=_HEADERS)


def _wrong(*lines: str) -> web.Response:
    return web.Response(status=400, text="\n".join(lines), headers=_HEADERS)
