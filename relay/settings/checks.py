"""Rules between fields of the file, checked on the tree, which works if other parts are invalid, too."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as AnyMapping

from relay.names import OwnNames, hashed_part, is_reserved, key_beside
from relay.settings._reader.nodes import Location, Mapping, Node, Problems, Scalar, Sequence, child
from relay.settings.formatting import listing, near_miss
from relay.settings.models import DEFAULT_PREFIX, is_loopback
from relay.settings.options import ProviderOptions
from relay.text import quote


def check(root: Mapping, options: AnyMapping[str, ProviderOptions], problems: Problems) -> None:
    """Check queues and alerts against providers, queues against each other, and the admin port against other
    hosts.

    `options` by provider: the names in Redis that they give, against relay's own.
    """
    _check_queues(root, problems)
    _check_admin(root, problems)
    _check_alerts(root, problems)
    _check_names(root, options, problems)


def _check_names(root: Mapping, options: AnyMapping[str, ProviderOptions], problems: Problems) -> None:
    redis = child(root, "redis")
    prefix = _text(redis, "prefix") if isinstance(redis, Mapping) else None
    queues = frozenset(name.text for _, queue in _queues(root) if (name := _text(queue, "name")))
    own = OwnNames(prefix.text, queues) if prefix else OwnNames(queues=queues)
    providers = child(root, "providers")
    if not isinstance(providers, Mapping):
        return
    for provider, entry in providers.entries.items():
        for option, target in options[provider].redis_names().items():
            named = _text(entry.node, option)
            if named and (refusal := own.refusal(target)):
                text = f"{quote(named.text)} cannot be used: {refusal}; choose another name"
                problems.add(named.position, ("providers", provider, option), text)


def _check_queues(root: Mapping, problems: Problems) -> None:
    providers = child(root, "providers")
    names = _QueueNames(root, problems)
    first: dict[str, int] = {}
    for location, queue in _queues(root):
        name = _text(queue, "name")
        if name is not None and name.text in first:
            text = (
                f"the queue {quote(name.text)} appears twice (first in line {first[name.text]}); remove one"
            )
            problems.add(name.position, (*location, "name"), text)
        elif name is not None:
            first[name.text] = name.position.line
            names.check(name, (*location, "name"))
        _check_provider(queue, location, providers, problems)
        _check_allowed_providers(queue, location, providers, problems)


class _QueueNames:
    """Check queue names by the keys that relay derives from them."""

    def __init__(self, root: Mapping, problems: Problems) -> None:
        redis = child(root, "redis")
        prefix = _text(redis, "prefix") if isinstance(redis, Mapping) else None
        url = _text(redis, "url") if isinstance(redis, Mapping) else None
        self._prefix = prefix.text if prefix else DEFAULT_PREFIX
        self._is_cluster = url is not None and "+cluster:" in url.text[:20]
        self._problems = problems
        self._first: dict[str, Scalar] = {}

    def check(self, name: Scalar, location: Location) -> None:
        if problem := self._problem(name):
            self._problems.add(name.position, location, problem)

    def _problem(self, name: Scalar) -> str | None:
        shown = quote(name.text)
        if is_reserved(self._prefix, name.text):
            return (
                f"{shown} is one of relay's own keys, which begin with {quote(self._prefix + ':')} "
                "(`redis.prefix`); rename the queue, or choose another prefix"
            )
        own = key_beside(self._prefix, name.text)
        other = self._first.setdefault(own, name)
        if other is not name:
            return (
                f"the queue {shown} has the same keys in Redis as the queue {quote(other.text)} "
                f"(line {other.position.line}); rename one"
            )
        if self._is_cluster and hashed_part(own) != hashed_part(name.text):
            return (
                f"{shown} has braces that are not a hash tag, so a cluster keeps relay's keys for it on "
                "another node; write a pair such as {tag}, or no brace"
            )
        return None


def _check_provider(queue: Mapping, location: Location, providers: Node | None, problems: Problems) -> None:
    provider = child(queue, "provider")
    if provider is None or (isinstance(provider, Scalar) and _is_none(provider)):
        queue_format = _text(queue, "format")
        if queue_format is not None and queue_format.text == "bare":
            text = "the key `provider` is missing: a bare message cannot name its provider, so the queue must"
            problems.add(queue.position, location, text)
        return
    named = _text(queue, "provider")
    if named is None or not isinstance(providers, Mapping) or named.text in providers.entries:
        return
    hint = near_miss(named.text, providers.entries) or f"there is {listing(providers.entries)}"
    text = f"no provider is named {quote(named.text)}; {hint}"
    problems.add(named.position, (*location, "provider"), text)


def _check_allowed_providers(
    queue: Mapping, location: Location, providers: Node | None, problems: Problems
) -> None:
    allowed = child(queue, "providers")
    names = allowed.items if isinstance(allowed, Sequence) else [] if allowed is None else [allowed]
    if not isinstance(providers, Mapping):
        return
    for index, name in enumerate(names):
        if not isinstance(name, Scalar) or name.value is None or name.broken:
            continue
        if name.text == "*" or name.text in providers.entries:
            continue
        hint = near_miss(name.text, providers.entries) or f"there is {listing(providers.entries)}"
        place = (*location, "providers", index) if isinstance(allowed, Sequence) else (*location, "providers")
        problems.add(name.position, place, f"no provider is named {quote(name.text)}; {hint}")


def _check_admin(root: Mapping, problems: Problems) -> None:
    admin = child(root, "admin")
    if not isinstance(admin, Mapping):
        return
    listen, token = _text(admin, "listen"), child(admin, "token")
    _check_viewer(admin, token, problems)
    if listen is None or not listen.text or listen.value is False or ":" not in listen.text:
        return
    if is_loopback(listen.text) or (
        token is not None and not (isinstance(token, Scalar) and _is_none(token))
    ):
        return
    text = (
        f"{quote(listen.text)} can be reached from other hosts: set `token` (or `token_file`), or 127.0.0.1"
    )
    problems.add(listen.position, ("admin", "listen"), text)


def _check_viewer(admin: Mapping, token: Node | None, problems: Problems) -> None:
    """Check that a token of viewers is of use: operators need another one."""
    viewer = _text(admin, "viewer_token")
    if viewer is None or not viewer.text:
        return
    if token is None or (isinstance(token, Scalar) and _is_none(token)):
        text = "without `token`, everybody may do everything: set `token` too"
        problems.add(viewer.position, ("admin", "viewer_token"), text)
    elif isinstance(token, Scalar) and token.text == viewer.text:
        text = "is the same as `token`, so viewers could do everything: generate another one"
        problems.add(viewer.position, ("admin", "viewer_token"), text)


def _check_alerts(root: Mapping, problems: Problems) -> None:
    alerts, providers = child(root, "alerts"), child(root, "providers")
    if not isinstance(alerts, Mapping) or not isinstance(providers, Mapping):
        return
    named = _text(alerts, "provider")
    if named is None or not named.text or named.text in providers.entries:
        return
    hint = near_miss(named.text, providers.entries) or f"there is {listing(providers.entries)}"
    text = f"no provider is named {quote(named.text)}; {hint}"
    problems.add(named.position, ("alerts", "provider"), text)


def _queues(root: Mapping) -> Iterator[tuple[Location, Mapping]]:
    queues = child(root, "queues")
    if isinstance(queues, Sequence):
        for index, queue in enumerate(queues.items):
            if isinstance(queue, Mapping):
                yield ("queues", index), queue


def _text(node: Node, key: str) -> Scalar | None:
    """Return the scalar below a key if it exists and is valid so far."""
    found = child(node, key)
    return found if isinstance(found, Scalar) and found.value is not None and not found.broken else None


def _is_none(scalar: Scalar) -> bool:
    return scalar.value in (None, "") and not scalar.broken
