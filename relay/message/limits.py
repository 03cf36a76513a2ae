"""Limits of the elements of a queue, and the size from which a message counts as large."""

from __future__ import annotations

MAX_DEPTH = 64
"""Levels of nesting that an element may have."""

MAX_CONTAINERS = 100_000
"""Opening brackets and braces that an element may have: bounds the time that it takes."""

MAX_VALUES = 250_000
"""Values in an element that is larger than `max_size` because of its targets: bounds its decoded form."""

MAX_PROVIDER = 64
"""Characters in the name of a provider."""

TARGETS_SIZE = 16 * 1024 * 1024
"""Bytes that the targets of one message may have; `max_size` does not count them."""

LARGE = 1024
"""Bytes from which a message is large, and takes other ways into its lane and out of it."""
