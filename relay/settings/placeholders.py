"""Values that `relay init` and the example leave to the user of the file. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, SecretStr

from relay.settings.example import PLACEHOLDER


def placeholders(options: BaseModel) -> Iterator[str]:
    """Yield the keys of a provider whose value, or the file with it, is still a placeholder."""
    for name in type(options).model_fields:
        value = getattr(options, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        if isinstance(value, str) and PLACEHOLDER in value:
            yield name
