"""The option `oauth2`: requests carry an access token, which a token endpoint gives to our client.

Source: https://www.rfc-editor.org/rfc/rfc6749#section-4.4
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, Self, TypeVar
from urllib.parse import quote_plus, urlencode

from pydantic import Field, field_validator, model_validator

from relay.errors import TransportError, UsageError
from relay.http.transport import OnDone, PendingRequest, Transport
from relay.message import Message
from relay.outcome import Outcome, Unauthorised
from relay.provider import HttpProvider, Request, Response
from relay.provider.base import Repeat
from relay.settings.http import HttpOptions
from relay.settings.options import Options
from relay.settings.values import Secret

from .answers import json_object, reason
from .oauth_tokens import TokenRefused, Tokens, read_token, with_token
from .webhook_limits import check_url

_REFUSED = frozenset({400, 401, 403, 404, 405})
"""Answers of a token endpoint that mean a mistake in the file. A retry does not help."""

_CLIENT_ERRORS = frozenset({"invalid_client", "invalid_request"})
"""Errors that may mean that the server expects the credentials in another place."""


class OAuth2Options(Options):
    """The client that gets access tokens by its credentials."""

    token_url: str
    """URL of the token endpoint."""
    client_id: Annotated[str, Field(min_length=1)]
    """Id of the client."""
    client_secret: Secret
    """Secret of the client."""
    scope: str = ""
    """Scopes to ask for, with spaces in between. Default: those that the server gives."""

    @field_validator("token_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        try:
            check_url(value)
        except ValueError as error:
            raise ValueError(str(error).removeprefix("url: ")) from None
        return value


class AuthorisedOptions(HttpOptions):
    """Options of providers whose requests may carry an access token."""

    oauth2: OAuth2Options | None = None
    """Client that gets access tokens by OAuth 2.0. Each request carries one. Default: no tokens."""

    @model_validator(mode="after")
    def _has_one_authorization(self) -> Self:
        headers: Mapping[str, object] = getattr(self, "headers", {})
        if self.oauth2 is not None and any(name.lower() == "authorization" for name in headers):
            raise ValueError("`oauth2` and the header Authorization are both set; keep one")
        return self


OptionsT = TypeVar("OptionsT", bound=AuthorisedOptions)


class AuthorisedProvider(HttpProvider[OptionsT]):
    """Adds an access token to each request if `oauth2` is set."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._tokens: Tokens | None = None
        if self.options.oauth2 is not None:
            self._client = ClientCredentials(self.options.oauth2)
            self._tokens = Tokens(self._fetch, self.clock)

    async def close(self) -> None:
        if self._tokens is not None:
            await self._tokens.close()

    async def _fetch(self) -> tuple[str, float]:
        return await self._client.fetch(self._transport)

    async def deliver(self, batch: Sequence[Message]) -> Sequence[Outcome]:
        return await self._deliver(batch, self.deliver_again)

    async def deliver_again(self, batch: Sequence[Message]) -> Sequence[Outcome]:
        return await self._deliver(batch, None)

    async def _deliver(
        self,
        batch: Sequence[Message],
        again: Callable[[Sequence[Message]], Awaitable[Sequence[Outcome]]] | None,
    ) -> Sequence[Outcome]:
        """Deliver a batch, and repeat it by `again` if the access token is refused."""
        request, token = self.request(batch), ""
        if self._tokens is not None and not _has_credentials(request):
            try:
                token = await self._tokens.get()
            except TokenRefused as error:
                return [Unauthorised(str(error))] * len(batch)
        response = await self._transport.send(with_token(request, token))
        if again is not None and self._refuses_token(response, token):
            return await again(batch)
        return self.outcomes(batch, response)

    def start_request(self, batch: Sequence[Message], on_done: OnDone) -> PendingRequest | None:
        if self._tokens is None:
            return super().start_request(batch, on_done)
        token = self._tokens.current()
        if token is None:
            return None
        request = self.request(batch)
        sent = "" if _has_credentials(request) else token

        def answered(pending: PendingRequest, answer: Response | Exception) -> None:
            refused = isinstance(answer, Response) and self._refuses_token(answer, sent)
            on_done(pending, Repeat() if refused else answer)

        return self._transport.start(with_token(request, sent), answered)

    def _refuses_token(self, response: Response, token: str) -> bool:
        """Return whether the provider refuses the access token, which is then forgotten."""
        if self._tokens is None or not token or response.status != 401:
            return False
        self._tokens.forget(token)
        return True

    async def verify_token(self) -> str:
        """Get an access token and return a line about it. Raises UsageError."""
        if self._tokens is None or self.options.oauth2 is None:
            return ""
        try:
            await self._tokens.get()
        except (TokenRefused, TransportError) as error:
            raise UsageError(f"oauth2: {error}") from error
        return f"; {self.options.oauth2.token_url} gives us access tokens"


def _has_credentials(request: Request) -> bool:
    """Return whether the message has credentials of its own."""
    return "authorization" in request.headers


class ClientCredentials:
    """Fetches tokens. Sends the credentials in a header, or in the body if the server wants them there."""

    def __init__(self, options: OAuth2Options) -> None:
        self._options = options
        self._in_body = False

    async def fetch(self, transport: Transport) -> tuple[str, float]:
        """Return a token and its lifetime in seconds. Raises TokenRefused or TransportError."""
        response = await transport.send(self.request(in_body=self._in_body))
        if _blames_client(response):
            other = await transport.send(self.request(in_body=not self._in_body))
            if other.status == 200:
                self._in_body, response = not self._in_body, other
        return _read(response)

    def request(self, *, in_body: bool) -> Request:
        """Return the request for a token (RFC 6749, sections 2.3.1 and 4.4.2)."""
        options = self._options
        secret = options.client_secret.get_secret_value()
        fields = {"grant_type": "client_credentials"}
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        if options.scope:
            fields["scope"] = options.scope
        if in_body:
            fields |= {"client_id": options.client_id, "client_secret": secret}
        else:
            pair = f"{quote_plus(options.client_id)}:{quote_plus(secret)}"
            headers["authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        return Request(options.token_url, urlencode(fields).encode(), headers)


def _blames_client(response: Response) -> bool:
    return response.status == 401 or json_object(response.body).get("error") in _CLIENT_ERRORS


def _read(response: Response) -> tuple[str, float]:
    if response.status in _REFUSED:
        raise TokenRefused(f"the token endpoint answered {reason(response)}")
    return read_token(response)
