"""Findings about the workers of a fleet: failed reloads, other settings, missing workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from relay.store.fleet import Member, Profile
from relay.store.neighbours import Rival
from relay.store.overview import Overview


def findings(overview: Overview, settings: str, others: Sequence[Rival] = ()) -> list[str]:
    """One line for each finding.

    `settings` is the digest of the configuration that the reader has, `others` are workers of other fleets on
    the same queues.
    """
    profiles = [member.profile for member in overview.alive]
    return [
        *_reloads(profiles),
        *_other_settings(profiles, settings),
        *_missing(overview),
        *map(str, others),
    ]


def has_other_settings(profile: Profile, settings: str) -> bool:
    """Whether a worker works by another configuration; older versions do not publish theirs."""
    return profile.settings not in ("", settings)


def _reloads(profiles: Iterable[Profile]) -> Iterator[str]:
    failures = {
        (profile.host, profile.deployment.supervisor or profile.worker): profile.deployment.reload_failure
        for profile in profiles
    }
    for (host, _), failure in failures.items():
        if failure is not None:
            at = datetime.fromtimestamp(failure.at, UTC).isoformat(timespec="seconds")
            yield f"reload failed on {host} at {at}, the previous configuration stays in force: {failure}"


def _other_settings(profiles: Iterable[Profile], settings: str) -> Iterator[str]:
    others = [profile for profile in profiles if has_other_settings(profile, settings)]
    if others:
        places = ", ".join(f"{profile.host} pid {profile.pid}" for profile in others)
        yield (
            f"{len(others)} of the workers use other settings than this file ({places}): an older version of "
            "it, which SIGHUP reloads, or another file with the same prefix"
        )


def _missing(overview: Overview) -> Iterator[str]:
    by_supervisor: dict[str, list[Member]] = {}
    for member in (*overview.workers, *overview.lost):
        if member.profile.deployment.supervisor:
            by_supervisor.setdefault(member.profile.deployment.supervisor, []).append(member)
    for supervisor, members in by_supervisor.items():
        alive = [member.profile for member in members if member in overview.alive]
        if not alive:
            continue  # the supervisor may have ended, too
        newest = max(alive, key=lambda profile: profile.started)
        expected = newest.deployment.processes
        if len(alive) < expected:
            yield f"{len(alive)} of {expected} workers of supervisor {supervisor} are alive"
