"""File descriptors: the limit of this process, and the number of requests that it allows."""

from __future__ import annotations

import resource

import structlog

from relay.settings.models import Settings

RESERVE = 24
"""Descriptors for Redis, the event loop, logs, name resolution and the admin port."""

logger = structlog.get_logger()


ENOUGH = 65_536
"""The highest soft limit that relay sets, because some systems have a hard limit of a billion."""


def raise_limit() -> int:
    """Raise the soft limit of open files as far as the hard limit allows. Returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ValueError, OSError):  # some systems refuse their own hard limit
        return soft
    return wanted


def within(settings: Settings, limit: int) -> Settings:
    """Reduce `concurrency` to the requests that `limit` descriptors allow, with a warning."""
    providers = settings.providers
    wanted = sum(options.concurrency for options in providers.values())
    room = max(limit - RESERVE - len(settings.queues), len(providers))
    if limit == resource.RLIM_INFINITY or wanted <= room:
        return settings
    logger.warning(
        "too few file descriptors; sending fewer requests at a time",
        hint="raise the limit of open files: `ulimit -n`, or LimitNOFILE= in systemd",
        limit=limit,
        needed=wanted + RESERVE + len(settings.queues),
    )
    return settings.model_copy(
        update={
            "providers": {
                name: options.model_copy(update={"concurrency": max(1, options.concurrency * room // wanted)})
                for name, options in providers.items()
            }
        }
    )
