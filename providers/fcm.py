"""Firebase Cloud Messaging, HTTP v1.

Sources: https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages/send,
https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import quote

import msgspec
from pydantic import field_validator, model_validator

from relay.errors import TransportError, UsageError
from relay.extras import install, is_installed
from relay.http.transport import OnDone, PendingRequest, Transport
from relay.message import Message
from relay.outcome import Outcome, Rejected, Unauthorised
from relay.provider import HttpProvider, Request, Response
from relay.provider.base import Repeat
from relay.settings.http import HttpOptions, pem_text
from relay.settings.values import Secret, Switch

from ._shared.fcm_answers import outcome, read_error
from ._shared.fcm_message import check_message, with_envelope
from ._shared.google_token import (
    fetch_by_assertion,
    fetch_by_default_credentials,
    preload,
    read_private_key,
)
from ._shared.hosts import base_url
from ._shared.oauth_tokens import TokenRefused, Tokens

URL = "https://fcm.googleapis.com"


class FcmOptions(HttpOptions):
    """Options of `type: fcm`."""

    service_account: Secret | None = None
    """JSON key of a service account, from the Firebase console, usually by its path,
    `service_account_file`."""
    credentials: Literal["service_account", "adc"] = "service_account"
    """Source of the credentials. `adc`: Application Default Credentials, on machines of Google Cloud. Needs
    the extra `fcm`."""
    project_id: str | None = None
    """Id of the Firebase project. Default: the project of the service account."""
    validate_only: Switch = False
    """Ask FCM to validate messages without delivering them."""
    target_field: Literal["token", "fid"] = "token"
    """Field that each entry of `targets` fills: a registration token or a Firebase installation id."""
    url: str = URL
    """Base URL of FCM, or of another server such as `relay sandbox`."""
    token_url: str | None = None
    """URL of the token endpoint. Default: `token_uri` of the service account."""

    @field_validator("service_account")
    @classmethod
    def _is_account(cls, value: Secret | None) -> Secret | None:
        if value is not None:
            read_account(value.get_secret_value())
        return value

    @field_validator("credentials")
    @classmethod
    def _can_be_had(cls, value: str) -> str:
        if value == "adc" and not (is_installed("google.auth") and is_installed("requests")):
            raise ValueError(f"`adc` needs the library google-auth: {install('fcm')}")
        return value

    @field_validator("url", "token_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        return None if value is None else base_url(value)

    @model_validator(mode="after")
    def _is_complete(self) -> FcmOptions:
        if self.credentials == "service_account" and self.service_account is None:
            raise ValueError("service_account_file: missing (or `credentials: adc`)")
        if self.credentials == "adc" and self.project_id is None:
            raise ValueError("project_id: needed with `credentials: adc`")
        return self


class Fcm(HttpProvider[FcmOptions]):
    """Sends each message in one request, over HTTP/2."""

    Options = FcmOptions
    prefers_http2 = True

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        options = self.options
        self.target_field = options.target_field
        secret = options.service_account
        self._account = read_account(secret.get_secret_value()) if secret else {}
        project = options.project_id or self._account.get("project_id", "")
        self._url = f"{options.url}/v1/projects/{quote(project, safe='')}/messages:send"
        self._tokens = Tokens(self._fetch, self.clock)

    async def start(self, transport: Transport) -> None:
        await super().start(transport)
        preload(self.options.credentials)

    async def close(self) -> None:
        await self._tokens.close()

    async def _fetch(self) -> tuple[str, float]:
        if self.options.credentials == "adc":
            return await fetch_by_default_credentials(self.clock(), self.options.timeout)
        token_url = self.options.token_url or self._account["token_uri"]
        return await fetch_by_assertion(self._transport, self._account, token_url, self.clock())

    async def verify(self) -> str:
        """Get an access token and send an empty message with it, which FCM must refuse."""
        try:
            token = await self._tokens.get()
            body = b'{"message":{},"validate_only":true}'
            response = await self._transport.send(self._request(body, token))
        except (TokenRefused, TransportError) as error:
            raise UsageError(str(error)) from error
        found = outcome(response, {}, self.clock())
        if isinstance(found, Unauthorised):
            raise UsageError(found.reason)
        return f"FCM accepts our access token at {self._url}"

    def check(self, message: Message) -> Rejected | None:
        try:
            check_message(message.payload)
        except ValueError as error:
            return Rejected(str(error))
        return None

    async def deliver(self, batch: Sequence[Message]) -> Sequence[Outcome]:
        try:
            token = await self._tokens.get()
        except TokenRefused as error:
            return [Unauthorised(str(error))]
        response = await self._transport.send(self._request(self._body(batch), token))
        if self._refuses_token(response, token):
            return await self.deliver_again(batch)
        return self.outcomes(batch, response)

    async def deliver_again(self, batch: Sequence[Message]) -> Sequence[Outcome]:
        try:
            token = await self._tokens.get()
        except TokenRefused as error:
            return [Unauthorised(str(error))]
        return self.outcomes(batch, await self._transport.send(self._request(self._body(batch), token)))

    def start_request(self, batch: Sequence[Message], on_done: OnDone) -> PendingRequest | None:
        token = self._tokens.current()
        if token is None:
            return None

        def answered(pending: PendingRequest, answer: Response | Exception) -> None:
            refused = isinstance(answer, Response) and self._refuses_token(answer, token)
            on_done(pending, Repeat() if refused else answer)

        return self._transport.start(self._request(self._body(batch), token), answered)

    def _refuses_token(self, response: Response, token: str) -> bool:
        """Return whether FCM refuses the access token, which is then forgotten."""
        if response.status != 401 or read_error(response).code:
            return False
        self._tokens.forget(token)
        return True

    def request(self, batch: Sequence[Message]) -> Request:
        """Return the request without its access token."""
        return self._request(self._body(batch))

    def _body(self, batch: Sequence[Message]) -> bytes:
        (message,) = batch
        body = b'{"message":' + with_envelope(message, self.clock())
        return body + (b',"validate_only":true}' if self.options.validate_only else b"}")

    def _request(self, body: bytes, token: str = "") -> Request:
        headers = {"content-type": "application/json", "x-goog-api-format-version": "2"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        return Request(self._url, body, headers)

    def outcomes(self, batch: Sequence[Message], response: Response) -> Sequence[Outcome]:
        (message,) = batch
        return [outcome(response, message.payload, self.clock())]


def read_account(text: str) -> dict[str, Any]:
    """Read the key file of a service account. Raises ValueError, one line."""
    try:
        account = msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, UnicodeError):
        raise ValueError(
            "must be the JSON of a service account's key, as the Firebase console issues it"
        ) from None
    needed = ("client_email", "private_key", "private_key_id", "token_uri", "project_id")
    missing = [name for name in needed if not isinstance(account, dict) or not account.get(name)]
    if missing:
        raise ValueError(f"is not the key of a service account: {', '.join(missing)} missing")
    try:
        account["private_key"] = pem_text(str(account["private_key"]))
        read_private_key(account["private_key"])
    except ValueError as error:
        raise ValueError(f"private_key: {error}") from None
    found: dict[str, Any] = account
    return found
