"""Two adapters of the tests' own, and a reader of configurations."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network

import pytest
from pydantic import Field, field_validator

from relay.errors import ConfigError
from relay.settings.load import loads
from relay.settings.models import Settings
from relay.settings.options import ProviderOptions
from relay.settings.values import Secret

Read = Callable[..., Settings]
Problems = Callable[..., list[str]]


class PusherOptions(ProviderOptions):
    app_id: str
    key: str
    secret: Secret
    """Signs every request."""
    cluster: str = "mt1"
    url: str | None = None
    event: str | None = None
    max_data: int = 10240


class WebhookOptions(ProviderOptions):
    url: str | None = None
    secret: Secret | None = None
    secrets: list[Secret] = Field(default_factory=list)
    method: str = "POST"
    headers: dict[str, str] = Field(default_factory=dict)
    allow_private: bool | list[IPv4Network | IPv6Network] = False

    @field_validator("secret")
    @classmethod
    def _begins_right(cls, secret: Secret | None) -> Secret | None:
        if secret is not None and not secret.get_secret_value().startswith("whsec_"):
            raise ValueError(f"{secret.get_secret_value()} does not begin with whsec_")  # a careless author
        return secret


@pytest.fixture
def adapters() -> dict[str, type[ProviderOptions]]:
    return {"pusher": PusherOptions, "webhook": WebhookOptions}


@pytest.fixture
def read(adapters: dict[str, type[ProviderOptions]]) -> Read:
    def read(text: str, filename: str = "relay.yaml", **env: str) -> Settings:
        return loads(text, filename, adapters, env)

    return read


@pytest.fixture
def problems(read: Read) -> Problems:
    """The lines of the error that a configuration raises."""

    def problems(text: str, filename: str = "relay.yaml", **env: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            read(text, filename, **env)
        return list(caught.value.problems)

    return problems
