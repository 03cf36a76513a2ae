"""Every error that relay raises on purpose, as one tree.

    RelayError
    ├── UsageError            the operator: exit code 2
    │   └── ConfigError       the YAML file; with every problem found
    ├── MessageError          one queue element; it becomes a dead letter
    ├── StoreError            Redis cannot be reached or answers strangely
    └── TransportError        no response from a provider; becomes a retry
        └── Exhausted         this process lacks descriptors, memory or ports: no attempt is spent

A provider's *answer* is never an exception: it is an `Outcome`. Anything else that is raised is a
bug of relay.
"""

from __future__ import annotations

from collections.abc import Sequence


class RelayError(Exception):
    """Base of all errors below."""


class UsageError(RelayError):
    """The operator's request cannot be fulfilled. The text contains the remedy."""


class ConfigError(UsageError):
    """The configuration file is wrong. `problems` holds one line for each mistake, all at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class MessageError(RelayError):
    """A queue element that cannot become a message; the text is one line for its dead letter."""


class StoreError(RelayError):
    """Redis is not available, or not suitable."""


class TransportError(RelayError):
    """The request got no complete response: refused, reset, timed out, TLS or DNS failure."""


class Exhausted(TransportError):
    """The request could not be made because this process or host lacks descriptors, memory or ports."""
