"""The workloads: payloads, and relay's configuration for them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay.sandbox import certificates, fcm_account

Element = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Workload:
    name: str
    element: Callable[[int, float], Element]
    """Returns the nth message. The second argument is the time of its push in Unix seconds, or 0."""
    providers: Callable[[str, Path, Path], dict[str, dict[str, Any]]]
    """Returns relay's providers for the URL of a receiver and its authority. The folder is for keys."""
    tls: bool = False
    per_request: int = 1
    """Messages per request, when a backlog is drained."""
    targets: int = 1
    """Deliveries of each message."""
    bare: bool = True
    """Whether elements are payloads. Otherwise they are envelopes that name a provider."""


def filler(size: int) -> str:
    return "x" * size


def hit(number: int, pushed: float, size: int = 190) -> Element:
    """Return an event like those of the stats site, about 60 bytes longer than `size`."""
    return {"channel": "site-1", "hits": 3, "path": "/" + filler(size), "t": stamp(pushed)}


def stamp(pushed: float) -> float:
    """Return the time with a fraction, which the receiver's pattern requires."""
    return round(pushed, 6) + 1e-6 if pushed else 0.0


def mixed(number: int, pushed: float, providers: int = 10) -> Element:
    return {"provider": f"p{number % providers}", "payload": hit(number, pushed)}


def two_channels(number: int, pushed: float) -> Element:
    """Return an event for two channels, which Pusher does not accept in a batch."""
    element = hit(number, pushed)
    del element["channel"]
    return {"channels": ["site-1", "site-2"], **element}


def apns_push(number: int, pushed: float) -> Element:
    alert = {"title": "3 hits", "body": filler(100)}
    return {"device_token": f"{number:064x}", "aps": {"alert": alert}, "t": stamp(pushed)}


def fcm_message(number: int, pushed: float) -> Element:
    notification = {"title": "3 hits", "body": filler(100)}
    return {"token": f"token-{number}", "notification": notification, "data": {"t": f"{stamp(pushed):.6f}"}}


def to_tokens(
    element: Callable[[int, float], Element], field: str, count: int
) -> Callable[[int, float], Element]:
    """Return the same messages, each to so many tokens instead of one."""

    def fan_out(number: int, pushed: float) -> Element:
        message = element(number, pushed)
        del message[field]
        return {"targets": [f"{number * count + index:064x}" for index in range(count)], **message}

    return fan_out


def webhooks(count: int) -> Callable[[str, Path, Path], dict[str, dict[str, Any]]]:
    def providers(url: str, ca: Path, folder: Path) -> dict[str, dict[str, Any]]:
        return {f"p{number}": {"type": "webhook", "url": f"{url}/p{number}"} for number in range(count)}

    return providers


def webhook(url: str, ca: Path, folder: Path) -> dict[str, dict[str, Any]]:
    return {"webhook": {"type": "webhook", "url": f"{url}/hook"}}


def pusher(url: str, ca: Path, folder: Path) -> dict[str, dict[str, Any]]:
    provider = {"type": "pusher", "app_id": "3", "key": "k", "secret": "s", "url": url, "event": "hit"}
    return {"pusher": provider}


def apns(url: str, ca: Path, folder: Path) -> dict[str, dict[str, Any]]:
    key = folder / "key.p8"
    key.write_bytes(certificates.new_key())
    account = {"key_file": str(key), "key_id": "ABC123DEFG", "team_id": "DEF123GHIJ"}
    return {"apns": {"type": "apns", "url": url, "ca_file": str(ca), "topic": "com.example.app", **account}}


def fcm(url: str, ca: Path, folder: Path) -> dict[str, dict[str, Any]]:
    account = folder / "account.json"
    account.write_bytes(fcm_account.make())
    files = {"ca_file": str(ca), "service_account_file": str(account)}
    return {"fcm": {"type": "fcm", "url": url, "token_url": f"{url}/token", **files}}


WORKLOADS = (
    Workload("webhook", hit, webhook),
    Workload("pusher", hit, pusher, per_request=10),
    Workload("pusher-single", two_channels, pusher),
    Workload("apns", apns_push, apns, tls=True),
    Workload("apns-100", to_tokens(apns_push, "device_token", 100), apns, tls=True, targets=100),
    Workload("fcm", fcm_message, fcm, tls=True),
    Workload("mixed", mixed, webhooks(10), bare=False),
)


def elements(workload: Workload, start: int, count: int) -> list[str]:
    """Return a part of a backlog, as JSON."""
    return [json.dumps(workload.element(number, 0.0)) for number in range(start, start + count)]


def fresh(workload: Workload, number: int) -> str:
    """Return a message that is pushed now, as JSON."""
    return json.dumps(workload.element(number, time.time()))
