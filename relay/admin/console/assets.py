"""Static files. Their URLs change with their content, so browsers keep them for a year."""

from __future__ import annotations

from aiohttp import web

from relay.admin.console.rendering import STATIC, static_url

TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


async def serve(request: web.Request) -> web.Response:
    """Return a file of the folder `static`."""
    name = request.match_info["name"]
    path = next((found for found in STATIC.iterdir() if found.name == name and found.suffix in TYPES), None)
    if path is None:
        raise web.HTTPNotFound
    kept = static_url(name).split("/")[2] == request.match_info["digest"]
    return web.Response(
        body=path.read_bytes(),
        content_type=TYPES[path.suffix],
        charset="utf-8",
        headers={"Cache-Control": "public, max-age=31536000, immutable" if kept else "no-store"},
    )
