"""Redis: PUBLISH for present subscribers and XADD for later readers, in one transaction.

Also the wire format of Socket.IO's Redis emitter, so that any Socket.IO fleet delivers to browsers.
Sources: https://redis.io/docs/latest/commands/publish/ and …/xadd/, the npm package @socket.io/redis-emitter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator

from relay.message import Message
from relay.names import matches
from relay.outcome import Outcome, Rejected
from relay.provider.redis import Answer, Argument, RedisProvider, Transaction
from relay.settings.options import ProviderOptions
from relay.settings.redis_url import FORMS, check_redis_url
from relay.settings.values import Count, Patterns, Secret, Switch

from ._shared import redis_payload as payloads
from ._shared.redis_answers import outcome

MOST_AT_ONCE = 100
"""Messages in one pipeline."""

LONGEST_STREAM = 2**63 - 1
"""The largest MAXLEN that Redis accepts."""

_Command = tuple[Argument, ...]
_Name = Annotated[str, Field(min_length=1)]


class RedisOptions(ProviderOptions):
    """Options of `type: redis`."""

    url: Annotated[Secret, AfterValidator(check_redis_url)] | None = None
    """URL of another Redis, in any form of `redis.url` except embedded. Default: relay's own Redis."""
    channel: _Name | None = None
    """Default channel, for messages without one."""
    stream: _Name | None = None
    """Default stream, for messages without one. Default: publish only."""
    maxlen: Annotated[Count, Field(le=LONGEST_STREAM)] | None = None
    """Trim streams to about this many entries unless the message has a `maxlen`. Default: keep all."""
    min_maxlen: Annotated[Count, Field(le=LONGEST_STREAM)] = 1
    """Smallest `maxlen` that a message may ask for, because a small one deletes entries of other messages."""
    channels: Patterns = ("*",)
    """Patterns of the channels that messages may name. relay's own channels and the queues never match."""
    streams: Patterns = ("*",)
    """Patterns of the streams that messages may name. relay's own keys and the queues never match."""
    socketio: Switch = False
    """Send messages in Socket.IO's format unless the message has `socketio: false`."""
    event: _Name | None = None
    """Default Socket.IO event, for messages without one."""
    namespace: _Name = "/"
    """Default Socket.IO namespace, for messages without one."""
    prefix: _Name = "socket.io"
    """Prefix of Socket.IO's channels: the `key` of its Redis adapter."""

    def redis_names(self) -> Mapping[str, str]:
        named = {"channel": self.channel, "stream": self.stream, "prefix": f"{self.prefix}#"}
        return {option: name for option, name in named.items() if name is not None}

    @field_validator("url")
    @classmethod
    def _is_a_server(cls, value: Secret | None) -> Secret | None:
        if value is not None and value.get_secret_value().startswith("embedded:"):
            allowed = ", ".join(scheme for scheme in FORMS if scheme != "embedded")
            raise ValueError(f"cannot be embedded; leave it out for relay's own Redis, or use {allowed}")
        return value

    @field_validator("event")
    @classmethod
    def _is_event(cls, value: str | None) -> str | None:
        if value is not None:
            payloads.check_event(value)
        return value


class RedisPublisher(RedisProvider[RedisOptions]):
    """Publishes to Redis channels and streams in one transaction, also in Socket.IO's format."""

    Options = RedisOptions
    batch_size = MOST_AT_ONCE

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.target_field = "room" if self.options.socketio else "channel"

    @property
    def redis_url(self) -> str | None:
        return self.options.url.get_secret_value() if self.options.url else None

    def check(self, message: Message) -> Rejected | None:
        try:
            self.transaction(message)
        except ValueError as error:
            return Rejected(str(error))
        return None

    def transaction(self, message: Message) -> Transaction:
        """Raises ValueError if channel and stream are missing, or if a field is wrong."""
        payload = payloads.read(message)
        socketio = self.options.socketio if payload.socketio is None else payload.socketio
        encoded = payloads.data(message, payload, socketio=socketio)
        publish, fields = (
            self._emit(message, payload, encoded) if socketio else self._publish(payload, encoded)
        )
        stream = payload.stream if payload.stream is not None else self.options.stream
        if stream == "":
            raise ValueError("stream: is empty")
        if stream is not None and stream != self.options.stream:
            self._check_name("stream", stream, self.options.streams)
            narrow = [pattern for pattern in self.options.streams if pattern != "*"]
            if self.own_names.is_receipt_list(stream) and not matches(narrow, stream):
                raise ValueError(
                    f"stream: {stream[:60]!r} may be a list for receipts; allow it with the option `streams`"
                )
        if stream is None:
            if payload.maxlen is not None:
                raise ValueError("maxlen: needs a stream, and the message has none")
            if publish is None:
                raise ValueError("channel, stream: missing, and the configuration has no default")
            return Transaction([publish], str(publish[1]))
        append = (*self._append(stream, payload), "id", message.id, *fields)
        # XADD comes first because Redis may refuse it: then subscribers get nothing either.
        return Transaction([append] if publish is None else [append, publish], stream)

    def _publish(self, payload: payloads.Payload, encoded: bytes) -> tuple[_Command | None, _Command]:
        """The PUBLISH, if there is a channel, and the fields of a stream entry besides the id."""
        channel = payload.channel if payload.channel is not None else self.options.channel
        if channel == "":
            raise ValueError("channel: is empty")
        if channel is not None and channel != self.options.channel:
            self._check_name("channel", channel, self.options.channels)
        content = payloads.text(encoded)
        if channel is None:
            return None, ("data", content)
        return ("PUBLISH", channel, content), ("channel", channel, "data", content)

    def _emit(self, message: Message, payload: payloads.Payload, encoded: bytes) -> tuple[_Command, _Command]:
        """The same for Socket.IO."""
        payloads.check_socketio(payload)
        event = payload.event if payload.event is not None else self.options.event
        if event is None:
            raise ValueError("event: missing, and the option `event` supplies none")
        payloads.check_event(event)
        rooms = payloads.rooms(payload)
        where = payload.namespace if payload.namespace is not None else self.options.namespace
        where = payloads.namespace(where)
        channel = payloads.channel(self.options.prefix, where, rooms)
        self._check_name("channel", channel, self.options.channels)
        packet = payloads.packet(payload, event, where, rooms, encoded)
        entry: list[Argument] = ["namespace", where, "rooms", payloads.json_text(rooms), "event", event]
        if payload.args is not None:
            entry += ["args", message.raw("args") or b"[]"]
        elif encoded:
            entry += ["data", encoded]
        return ("PUBLISH", channel, packet), tuple(entry)

    def _check_name(self, field: str, name: str, allowed: Sequence[str]) -> None:
        """Raises ValueError for a name that is relay's own, a queue, or outside the option `FIELDs`."""
        if refusal := self.own_names.refusal(name):
            raise ValueError(f"{field}: {refusal}")
        if not matches(allowed, name):
            raise ValueError(f"{field}: {name[:60]!r} matches none of the option `{field}s`")

    def _append(self, stream: str, payload: payloads.Payload) -> _Command:
        most = payload.maxlen if payload.maxlen is not None else self.options.maxlen
        if most is None:
            return ("XADD", stream, "*")
        if not 1 <= most <= LONGEST_STREAM:
            raise ValueError("maxlen: must be a whole number of at least 1")
        if payload.maxlen is not None and most < self.options.min_maxlen:
            raise ValueError(f"maxlen: must be at least {self.options.min_maxlen}, the option `min_maxlen`")
        return ("XADD", stream, "MAXLEN", "~", most, "*")

    def outcome(self, message: Message, answer: Answer) -> Outcome:
        return outcome(answer)
