"""How a worker process was deployed: by which supervisor, with how many other workers, after which reload."""

from __future__ import annotations

import msgspec


class ReloadFailure(msgspec.Struct, frozen=True):
    """A configuration file that could not be used; the previous configuration stays in force."""

    problem: str
    """The first problem, `file:line:column: path: text`."""
    others: int
    """How many further problems the file has."""
    at: float
    """When it was read, in Unix seconds."""

    def __str__(self) -> str:
        return f"{self.problem}{f' (and {self.others} more)' if self.others else ''}"


class Deployment(msgspec.Struct, frozen=True):
    """The surroundings of a worker. The defaults are those of a process without a supervisor."""

    supervisor: str = ""
    """A name of the supervisor, unique in the fleet; empty for a process that runs alone."""
    processes: int = 1
    """How many workers the supervisor keeps running."""
    reload_failure: ReloadFailure | None = None
    """The last reload, if it failed."""
