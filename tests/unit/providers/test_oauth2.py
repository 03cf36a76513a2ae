"""Access tokens by OAuth 2.0 client credentials, from a token endpoint of oauthlib."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, unquote_plus

import pytest
from oauthlib.oauth2 import BackendApplicationServer, RequestValidator
from pydantic import ValidationError

from providers.http import Http
from providers.webhook import Webhook, WebhookOptions
from relay.errors import TransportError, UsageError
from relay.http.curl_transport import CurlTransport
from relay.outcome import Delivered, Outcome, Unauthorised
from relay.settings.load import loads
from testing.deliveries import DELIVERIES, Delivery
from testing.receiver import Answer, Received, Receiver, receiving
from tests.unit.providers.test_webhook import a_message

CLIENT, SECRET = "relay client", "p@ss/word+%"


class Validator(RequestValidator):  # type: ignore[misc]
    """One client, which gives its credentials in the header, the body or either."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.tokens: set[str] = set()
        self.scopes: list[list[str]] = []

    def authenticate_client(self, request: Any, *_: Any, **__: Any) -> bool:
        header = request.headers.get("authorization", "")
        pair = base64.b64decode(header.removeprefix("Basic ")).decode()
        by_header = [unquote_plus(part) for part in pair.split(":")] == [CLIENT, SECRET]
        by_body = (request.client_id, request.client_secret) == (CLIENT, SECRET)
        if by_header and by_body:
            return False  # a client must not use both
        request.client = type("Client", (), {"client_id": CLIENT})()
        return {"header": by_header, "body": by_body}[self.place]

    def validate_grant_type(self, *_: Any, **__: Any) -> bool:
        return True

    def get_default_scopes(self, *_: Any, **__: Any) -> list[str]:
        return ["default"]

    def validate_scopes(self, client_id: str, scopes: list[str], *_: Any, **__: Any) -> bool:
        self.scopes.append(scopes)
        return "forbidden" not in scopes

    def save_bearer_token(self, token: dict[str, Any], *_: Any, **__: Any) -> None:
        self.tokens.add(token["access_token"])

    def validate_bearer_token(self, token: str, scopes: Any, request: Any) -> bool:
        return token in self.tokens


class Api:
    """A token endpoint and a receiver that needs its tokens."""

    def __init__(self, receiver: Receiver, place: str = "header") -> None:
        self.receiver = receiver
        self.validator = Validator(place)
        self._server = BackendApplicationServer(self.validator, token_expires_in=3600)
        receiver.answer = self._answer

    def _answer(self, request: Received) -> Answer:
        if request.path == "/token":
            fields = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
            headers, body, status = self._server.create_token_response(
                f"https://api.example{request.path}", "POST", fields, request.headers
            )
            return Answer(status, body.encode(), dict(headers))
        good, _ = self._server.verify_request(
            f"https://api.example{request.path}",
            "POST",
            "",
            {"Authorization": request.headers.get("authorization", "")},
        )
        return Answer(200 if good else 401)

    def paths(self) -> list[str]:
        return [request.path for request in self.receiver.requests]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running


@pytest.fixture
async def transport() -> AsyncIterator[CurlTransport]:
    transport = CurlTransport(timeout=10, concurrency=8)
    yield transport
    await transport.close()


def client(receiver: Receiver, **fields: Any) -> dict[str, Any]:
    return {"token_url": f"{receiver.url}/token", "client_id": CLIENT, "client_secret": SECRET, **fields}


async def a_hook(receiver: Receiver, transport: CurlTransport, **fields: Any) -> Webhook:
    options = {"type": "webhook", "url": f"{receiver.url}/hook", "oauth2": client(receiver, **fields)}
    hook = Webhook("hook", WebhookOptions.model_validate(options))
    await hook.start(transport)
    return hook


async def deliver(adapter: Webhook | Http, payload: Any = None) -> Outcome:
    (outcome,) = await adapter.deliver([a_message(payload or {"body": {}})])
    return outcome


@pytest.mark.parametrize("by", DELIVERIES)
@pytest.mark.parametrize("place", ["header", "body"])
async def test_a_token_serves_many_requests_wherever_the_server_expects_the_credentials(
    receiver: Receiver, transport: CurlTransport, place: str, by: Delivery
) -> None:
    api = Api(receiver, place)
    hook = await a_hook(receiver, transport, scope="push send")
    message = a_message({"body": {}})
    for _ in range(3):
        assert isinstance(await by(hook, message), Delivered)
    tries = {"header": 1, "body": 2}[place]
    assert api.paths() == ["/token"] * tries + ["/hook"] * 3
    assert api.validator.scopes == [["push", "send"]]
    api.validator.tokens.clear()
    assert isinstance(await by(hook, message), Delivered)
    assert api.paths()[tries + 3 :] == ["/hook", "/token", "/hook"], "a refused token is replaced once"
    await hook.close()


async def test_an_http_provider_sends_tokens_too(receiver: Receiver, transport: CurlTransport) -> None:
    Api(receiver)
    text = json.dumps({"type": "http", "url": f"{receiver.url}/api", "oauth2": client(receiver)})
    file = f'{{"queues": [{{"name": "q"}}], "providers": {{"api": {text}}}}}'
    options = loads(file, "relay.yaml", {"http": Http.Options}, {}).providers["api"]
    adapter = Http("api", options)
    await adapter.start(transport)
    assert isinstance(await deliver(adapter, {"a": 1}), Delivered)
    assert await adapter.verify() == (
        f"nothing was sent; requests go to {receiver.url}; {receiver.url}/token gives us access tokens"
    )
    await adapter.close()


@pytest.mark.parametrize(
    ("fields", "why"),
    [({"client_secret": "wrong-secret"}, "invalid_client"), ({"scope": "forbidden"}, "invalid_scope")],
)
async def test_refused_credentials_hold_the_lane_and_cost_no_message(
    receiver: Receiver, transport: CurlTransport, fields: dict[str, str], why: str
) -> None:
    api = Api(receiver)
    hook = await a_hook(receiver, transport, **fields)
    outcome = await deliver(hook)
    assert isinstance(outcome, Unauthorised)
    assert why in outcome.reason
    assert "wrong-secret" not in outcome.reason
    tried = len(api.paths())
    assert isinstance(await deliver(hook), Unauthorised)
    assert len(api.paths()) == tried, "the next message does not ask again immediately"
    with pytest.raises(UsageError, match=rf"oauth2: the token endpoint answered 40. .*{why}"):
        await hook.verify()
    assert "/hook" not in api.paths()
    await hook.close()


async def test_a_broken_token_endpoint_is_tried_again_later(
    receiver: Receiver, transport: CurlTransport
) -> None:
    receiver.answer = lambda request: Answer(503)
    hook = await a_hook(receiver, transport)
    with pytest.raises(TransportError, match="the token endpoint answered 503"):
        await deliver(hook)
    assert len(receiver.requests) == 3
    await hook.close()


async def test_a_message_with_credentials_of_its_own_needs_no_token(
    receiver: Receiver, transport: CurlTransport
) -> None:
    hook = await a_hook(receiver, transport)
    await deliver(hook, {"body": {}, "headers": {"Authorization": "Bearer own"}})
    (request,) = receiver.requests
    assert (request.path, request.headers["authorization"]) == ("/hook", "Bearer own")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"url": None}, "`oauth2` would send an access token to the URL of any message"),
        ({"headers": {"authorization": "Bearer x"}}, "`oauth2` and the header Authorization are both set"),
        (
            {"oauth2": {"token_url": "ftp://a", "client_id": "a", "client_secret": "b"}},
            "must begin with https",
        ),
        ({"oauth2": {"token_url": "https://a/t", "client_id": "", "client_secret": "b"}}, "client_id"),
        ({"oauth2": {"token_url": "https://a/t", "client_id": "a"}}, "client_secret"),
    ],
)
def test_a_combination_that_would_leak_or_cannot_work_is_a_clear_error(
    fields: dict[str, Any], reason: str
) -> None:
    oauth2 = {"token_url": "https://a.example/t", "client_id": "a", "client_secret": "b"}
    with pytest.raises(ValidationError, match=reason):
        WebhookOptions.model_validate(
            {"type": "webhook", "url": "https://a.example", "oauth2": oauth2, **fields}
        )


def test_the_secret_of_the_client_may_be_in_a_file(tmp_path: Any) -> None:
    (tmp_path / "secret").write_text("from a file\n")
    oauth2 = {"token_url": "https://a.example/t/?b=c", "client_id": "a", "client_secret_file": "secret"}
    hook = {"type": "webhook", "url": "https://a.example", "oauth2": oauth2}
    file = json.dumps({"queues": [{"name": "q"}], "providers": {"hook": hook}})
    found = loads(file, str(tmp_path / "relay.yaml"), {"webhook": WebhookOptions}, {}).providers["hook"]
    assert isinstance(found, WebhookOptions)
    assert found.oauth2 is not None
    assert found.oauth2.client_secret.get_secret_value() == "from a file"
    assert found.oauth2.token_url == "https://a.example/t/?b=c"
