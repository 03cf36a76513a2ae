"""Decode the known fields of a payload."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from relay.message import Message

PayloadT = TypeVar("PayloadT", bound=msgspec.Struct)


def reader(kind: type[PayloadT], must_be: Mapping[str, str]) -> Callable[[Message], PayloadT]:
    """Return a function that decodes the payload of a message as `kind`.

    It raises ValueError if a field has another type; `must_be` describes the type of each field. The result
    stays with the message and is shared, so it must not be changed.
    """
    decode = msgspec.json.Decoder(kind).decode
    place = f"_as_{kind.__module__}.{kind.__qualname__}"

    def read(message: Message) -> PayloadT:
        seen = message.__dict__
        try:
            payload: PayloadT | None = seen.get(place)
            if payload is None:
                payload = seen[place] = decode(message.payload_json)
            return payload
        except msgspec.ValidationError as error:
            # msgspec names the field at the end: Expected `str`, got `int` - at `$.rooms[...]`
            name = re.split(r"[^a-z_]", str(error).rpartition("$.")[2], maxsplit=1)[0]
            raise ValueError(f"{name}: must be {must_be[name]}") from None

    return read
