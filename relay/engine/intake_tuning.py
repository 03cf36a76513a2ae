"""The intervals, thresholds and limits of intake."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tuning:
    """Durations are in seconds."""

    wait: float = 5.0
    """One blocking wait for an element."""
    idle_wait: float = 10.0
    """The same after a wait without an element, while the watchdog finds none in the queue either. It ends
    well before `relay.redis_client.connect.ANSWER_TIMEOUT`."""
    empty_polls: int = 3
    """Waits without an element before a fetch: a worker that died may have left elements staged. While the
    watchdog looks at all queues, a fetch follows only if it has found some."""
    max_queue_length: int = 1
    """Keep to the fast path while the queue holds at most this many elements; more are fetched together."""

    fetch_size: int = 200
    """The most elements of a fetch if they go into few lanes."""
    fetch_per_lane: int = 10
    """Elements to fetch for each lane of the previous fetch, because a script for one message costs almost as
    much as one for ten."""
    max_fetch_size: int = 2000
    """The most elements of any fetch, which bounds a worker's memory."""

    high_watermark: int = 10_000
    """The intake yields to the senders if each lane of a full fetch has more ready messages than this."""
    high_watermark_bytes: int = 3 << 20
    """The same in bytes: a worker keeps the payloads of as many large messages until it claims them."""
    large_fetch: int = 900_000
    """A fetch of so many bytes is full, too."""
    yield_ratio: float = 2.0
    """Yield for the duration of the fetch times this factor. Without it a long backlog takes half of the
    senders' time."""

    refusal_pause: float = 0.5
    """Pause after a refusal by Redis."""
    stall_threshold: float = 1.0
    """After this long without an answer, a failover may have undone writes that Redis has acknowledged."""
    preceding_timeout: float = 30.0
    """Wait for earlier fetches for this long. Those of a dead worker are recovered long before."""
    max_poll_interval: float = 0.05
    """The longest pause between two checks for earlier fetches or deferred elements."""
    deferred_interval: float = 1.0
    """Pause between two attempts to enqueue elements whose lane refuses messages."""


DEFAULTS = Tuning()
