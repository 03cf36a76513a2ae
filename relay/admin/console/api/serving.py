"""Serves the routes of the API: arguments in, documents out, errors as `{"error": …}`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import structlog
from aiohttp import web

from relay.admin.console.api.openapi import openapi_document
from relay.admin.console.api.route import Arguments, Reply, Route
from relay.admin.console.call import Call, Services
from relay.admin.doorway import VISITOR
from relay.errors import RelayError, StoreError, UsageError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

logger = structlog.get_logger()

LONGEST_BODY = 2 * 1024 * 1024
"""Bytes of a request: a message of the largest default size fits."""


def handler(services: Services, route: Route) -> Handler:
    """Return the handler of a route."""

    async def handle(request: web.Request) -> web.Response:
        call = Call(services, request[VISITOR], request)
        try:
            arguments = await _arguments(request, route)
            reply = await route.handle(call, arguments)
        except UsageError as error:
            reply = _error(400, error)
        except StoreError as error:
            reply = _error(503, error)
        except RelayError as error:
            reply = _error(422, error)
        except Exception:
            logger.exception("a request to the API failed", path=route.path)
            bug = {"error": "this is a bug of relay; the log of this process has the details"}
            reply = Reply(bug, 500)
        return web.Response(
            body=msgspec.json.encode(reply.document), status=reply.status, content_type="application/json"
        )

    return handle


def openapi(services: Services) -> Handler:
    """Return the handler of the OpenAPI document."""

    async def handle(request: web.Request) -> web.Response:
        from relay.admin.console.api.routes import ROUTES

        return web.json_response(openapi_document(ROUTES, services.base))

    return handle


async def _arguments(request: web.Request, route: Route) -> Arguments:
    """Return the arguments of a request. Raises UsageError if they are wrong."""
    try:
        if route.method == "GET":
            given = {name: request.query.getall(name)[-1] for name in request.query}
            return msgspec.convert(given, route.arguments, strict=False)
        if (request.content_length or 0) > LONGEST_BODY:
            raise UsageError(f"the body is larger than {LONGEST_BODY:,} bytes")
        body = await request.content.read(LONGEST_BODY + 1)
        if len(body) > LONGEST_BODY:
            raise UsageError(f"the body is larger than {LONGEST_BODY:,} bytes")
        return msgspec.json.decode(body.strip() or b"{}", type=route.arguments)
    except msgspec.MsgspecError as error:
        raise UsageError(f"wrong arguments: {error}") from error
    except UnicodeError as error:
        raise UsageError("wrong arguments: the body is not UTF-8") from error


def _error(status: int, error: RelayError) -> Reply:
    return Reply({"error": str(error)}, status)
