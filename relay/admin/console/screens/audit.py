"""The audit log: the actions of operators, with their time, user, number of messages and reason."""

from __future__ import annotations

from relay.admin.console.call import Call
from relay.admin.console.sampler import Sample
from relay.admin.console.screen import Screen, Values
from relay.store import audit

MOST_ROWS = 200


async def _values(call: Call, sample: Sample) -> Values:
    provider = call.query("provider")
    entries = await audit.read(
        await call.services.client(), call.services.prefix, limit=MOST_ROWS, provider=provider or None
    )
    return {"entries": entries, "provider": provider, "most": MOST_ROWS}


SCREEN = Screen("audit", "/audit", "audit.html", _values, "Audit", every=5)
