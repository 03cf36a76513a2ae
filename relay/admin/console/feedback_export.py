"""Export the feedback stream as NDJSON, a page at a time."""

from __future__ import annotations

import msgspec
from aiohttp import web

from relay.admin.console.call import Services
from relay.errors import StoreError
from relay.store.feedback import read_feedback

PAGE = 500
"""Entries that Redis returns together."""


class FeedbackExport:
    """The handler of the export."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def send(self, request: web.Request) -> web.StreamResponse:
        """Send one entry per line, the newest first; with `provider`, only its own."""
        wanted, prefix = request.query.get("provider", ""), self._services.prefix
        try:
            client = await self._services.client()
            page = await read_feedback(client, prefix, limit=PAGE)
        except StoreError as error:
            return web.json_response({"error": str(error)}, status=503)
        response = web.StreamResponse(
            headers={
                "Content-Type": "application/x-ndjson",
                "Content-Disposition": 'attachment; filename="feedback.ndjson"',
            }
        )
        await response.prepare(request)
        while page:
            lines = [msgspec.json.encode(entry) for entry in page if wanted in ("", entry.provider)]
            await response.write(b"".join(line + b"\n" for line in lines))
            page = await read_feedback(client, prefix, limit=PAGE, before=page[-1].entry)
        return response
