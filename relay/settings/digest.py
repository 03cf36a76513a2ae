"""A digest of a configuration, which reveals workers with different configurations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b

from pydantic import BaseModel, SecretStr

from relay.settings.models import Settings

SIZE = 6
"""Bytes of a digest. Secrets cannot be computed from it; at best it confirms a guess of the whole file."""


def digest(settings: Settings) -> str:
    """Return a text that is the same for settings that treat messages in the same way.

    It covers queues and providers with their secrets. `redis.url`, `admin`, `processes`,
    `shutdown_timeout` and `log` may differ between hosts. Keys that are at their default count as absent, so
    that a version with more keys gives the same digest for the same file.
    """
    document = {"queues": _plain(settings.queues), "providers": _plain(settings.providers)}
    text = json.dumps(document, sort_keys=True, ensure_ascii=True)
    return blake2b(text.encode(), digest_size=SIZE).hexdigest()


def _plain(value: object) -> object:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case SecretStr():
            return value.get_secret_value()
        case BaseModel():
            known = type(value).model_fields
            return {
                name: _plain(getattr(value, name))
                for name, field in known.items()
                if getattr(value, name) != field.get_default(call_default_factory=True)
            }
        case Mapping():
            return {str(key): _plain(entry) for key, entry in value.items()}
        case list() | tuple():
            return [_plain(entry) for entry in value]
        case set() | frozenset():
            return sorted(str(entry) for entry in value)
        case _:
            return str(value)
