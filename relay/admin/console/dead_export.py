"""Export dead letters as NDJSON, a page at a time."""

from __future__ import annotations

import msgspec
from aiohttp import web

from relay.admin.console.api.dead_arguments import DeadArguments
from relay.admin.console.call import Services
from relay.errors import RelayError, StoreError
from relay.operations import dead
from relay.operations.dead import DeadScope
from relay.operations.dead_documents import letter_document


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
        async for letter in dead.list_letters(client, scope, selection):
            await response.write(msgspec.json.encode(letter_document(letter)) + b"\n")
        return response
