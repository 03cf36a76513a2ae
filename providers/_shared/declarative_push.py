"""Declarative Web Push: notifications that the browser shows without a service worker.

Source: https://w3c.github.io/push-api/#declarative-push-message. Other browsers hand the same JSON to their
service worker.
"""

from __future__ import annotations

from typing import Any, TypeGuard

CONTENT_TYPE = "application/notification+json"

MARK = 8030
"""The value of `web_push` in a declarative message: the number of the RFC of Web Push."""

_LARGEST_BADGE = 2**64 - 1


def is_declarative(data: object) -> TypeGuard[dict[str, Any]]:
    """Return whether the data of a message describes its notification."""
    return isinstance(data, dict) and data.get("web_push") == MARK


def check_declarative(data: dict[str, Any]) -> None:
    """Raise ValueError for a description that browsers ignore: nothing would be shown."""
    notification = data.get("notification")
    if not isinstance(notification, dict):
        raise ValueError("data.notification: must be an object, with title and navigate")
    for name in ("title", "navigate"):
        _check_text(notification, "data.notification", name)
    actions = notification.get("actions")
    if not isinstance(actions, list | None):
        raise ValueError("data.notification.actions: must be a list")
    for index, action in enumerate(actions or []):
        where = f"data.notification.actions[{index}]"
        if not isinstance(action, dict):
            raise ValueError(f"{where}: must be an object, with action, title and navigate")
        for name in ("action", "title", "navigate"):
            _check_text(action, where, name)
    badge = data.get("app_badge")
    if badge is not None and (type(badge) is not int or not 0 <= badge <= _LARGEST_BADGE):
        raise ValueError("data.app_badge: must be a whole number, 0 or more")
    if not isinstance(data.get("mutable"), bool | None):
        raise ValueError("data.mutable: must be true or false")


def _check_text(owner: dict[str, Any], where: str, name: str) -> None:
    if not isinstance(owner.get(name), str) or not owner[name]:
        raise ValueError(f"{where}.{name}: must be a text that is not empty")
