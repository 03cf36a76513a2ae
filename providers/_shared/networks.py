"""`allow_private`: the private addresses that URLs of messages may reach."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated

from pydantic import AfterValidator


def networks(values: Sequence[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    """Networks from CIDR texts. Raises ValueError."""
    return tuple(ip_network(value) for value in values)


def _are_networks(value: bool | list[str]) -> bool | list[str]:
    if isinstance(value, list):
        networks(value)
    return value


PrivateAccess = Annotated[bool | list[str], AfterValidator(_are_networks)]
"""true, false, or a list of networks such as 10.0.0.0/8."""
