"""Export dead letters as NDJSON, a page at a time.

Operators get the lines of `relay dead export`, whose messages can be pushed again. Viewers get those of
`relay dead list --json`, without credentials.
"""

from __future__ import annotations

from contextlib import suppress

import msgspec
from aiohttp import web

from relay.admin.console.api.dead_arguments import DeadArguments
from relay.admin.console.call import Services
from relay.admin.doorway import VISITOR
from relay.errors import RelayError, StoreError
from relay.operations.dead import DeadScope
from relay.operations.dead_documents import letter_document
from relay.operations.dead_export import complete_letters, letter_line


class DeadExport:
    """The handler of the export."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def send(self, request: web.Request) -> web.StreamResponse:
        """Send one letter per line."""
        try:
            selection = msgspec.convert(dict(request.query), DeadArguments).selection()
            client = await self._services.client()
        except (RelayError, msgspec.MsgspecError) as error:
            status = 503 if isinstance(error, StoreError) else 400
            return web.json_response({"error": str(error)}, status=status)
        response = web.StreamResponse(
            headers={
                "Content-Type": "application/x-ndjson",
                "Content-Disposition": 'attachment; filename="dead-letters.ndjson"',
            }
        )
        await response.prepare(request)
        scope = DeadScope.of(self._services.settings)
        may_act = request[VISITOR].may_act
        with suppress(ConnectionError):  # the browser is gone
            async for letter in complete_letters(client, scope, selection):
                line = letter_line(letter) if may_act else msgspec.json.encode(letter_document(letter))
                await response.write(line + b"\n")
        return response
