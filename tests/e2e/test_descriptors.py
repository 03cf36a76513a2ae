"""Workers with few file descriptors deliver everything, once, with fewer connections."""

from __future__ import annotations

import asyncio
import json
import resource

import pytest

from testing.site import Site


@pytest.mark.parametrize(("limit", "providers"), [(40, 1), (30, 1), (256, 6)])
async def test_a_worker_with_few_descriptors_loses_nothing_and_makes_no_dead_letters(
    site: Site, limit: int, providers: int
) -> None:
    """Sixty messages for each provider, all of which the receiver holds until it has many of them."""
    names = [f"hook{number}" for number in range(providers)]
    retry = {"attempts": 2, "base": "100ms"}
    site.configure({name: site.webhook(retry=retry) for name in names}, [{"name": "notifications"}])
    for name in names:
        sent = [json.dumps({"provider": name, "payload": {"body": {"n": n}}}) for n in range(60)]
        await site.push(*sent)
    site.receiver.gate.clear()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with site.worker(limits={resource.RLIMIT_NOFILE: (limit, limit)}) as running:
        await site.receiver.until(min(4, limit - 28))
        site.receiver.gate.set()
        await site.receiver.until(60 * providers, seconds=60)
        async with asyncio.timeout(60):
            for name in names:
                while int(await site.redis.hget(f"relay:{{{name}}}:control", "delivered") or 0) < 60:
                    await asyncio.sleep(0.05)
        await running.says("too few file descriptors")
    assert (soft, hard) == resource.getrlimit(resource.RLIMIT_NOFILE)
    identities = [request.headers["webhook-id"] for request in site.receiver.requests]
    assert (len(identities), len(set(identities))) == (60 * providers, 60 * providers)
    for name in names:
        assert await site.redis.exists(f"relay:{{{name}}}:dead") == 0
