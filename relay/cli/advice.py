"""Findings about files and Redis: `relay check` prints them, `relay run` logs them once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import structlog

from relay.errors import StoreError, UsageError
from relay.redis_client import binaries
from relay.redis_client.client import Client
from relay.redis_client.embedded import address_of
from relay.settings.deprecation import deprecated_keys
from relay.settings.example import PLACEHOLDER
from relay.settings.exposure import exposed
from relay.settings.models import Settings
from relay.settings.placeholders import placeholders
from relay.settings.redis_url import EMBEDDED, EmbeddedPlace
from relay.store.findings import Finding, Level
from relay.store.preflight import Permitted, delete_unused_names, examine

TIMEOUT = 15.0
"""Timeout of the examination of Redis by `relay run`, in seconds."""

logger = structlog.get_logger()


def local_findings(settings: Settings) -> Iterator[Finding]:
    """Findings that need no Redis."""
    for path in exposed(settings.secret_files):
        yield Finding(
            Level.WARNING,
            "secrets",
            f"{path} holds secrets, and every user of this host can read it: chmod o-r {path}",
        )
    yield from (Finding(Level.WARNING, "deprecated", warning) for warning in deprecated_keys(settings))
    for name, provider in settings.providers.items():
        yield from (Finding(Level.WARNING, name, warning) for warning in provider.warnings())
        if unfilled := sorted(placeholders(provider)):
            yield Finding(Level.WARNING, name, f"still {PLACEHOLDER}: fill in {', '.join(unfilled)}")
    url = settings.redis.url.get_secret_value()
    if url.startswith(EMBEDDED):
        try:
            binary = binaries.choose(EmbeddedPlace.of(url).directory)
        except UsageError as error:
            yield Finding(Level.WARNING, "embedded", str(error))
        else:
            yield Finding(Level.OK, "embedded", str(binary))


async def log_findings(client: Client, settings: Settings) -> None:
    """Log the findings once for all workers of this host. Raises no error of Redis."""
    findings = list(local_findings(settings))
    try:
        async with asyncio.timeout(TIMEOUT):
            findings += await examine(client, settings, Permitted.LEAST_RIGHTS)
            await delete_unused_names(client, settings)
    except StoreError as error:
        logger.warning("cannot examine Redis", error=str(error))
    except TimeoutError:
        logger.warning("cannot examine Redis", error=f"no answer within {TIMEOUT:g} s")
    for finding in findings:
        if finding.level in (Level.WARNING, Level.FAILED):
            logger.warning("startup check", about=finding.subject, finding=finding.text)
        elif finding.subject == "embedded":
            logger.info("using an embedded Redis", server=finding.text, url=await address_of(client))
