"""The deployment of a worker process: its supervisor, the number of its workers, the last failed reload."""

from __future__ import annotations

import msgspec


class ReloadFailure(msgspec.Struct, frozen=True):
    """A configuration file that could not be used; the previous configuration stays in force."""

    problem: str
    """The first problem, `file:line:column: path: text`."""
    others: int
    """The number of further problems in the file."""
    at: float
    """The time at which the file was read, in Unix seconds."""

    def __str__(self) -> str:
        return f"{self.problem}{f' (and {self.others} more)' if self.others else ''}"


class Deployment(msgspec.Struct, frozen=True):
    """The deployment of a worker. The defaults are those of a process without a supervisor."""

    supervisor: str = ""
    """Name of the supervisor, unique in the fleet; empty for a process without one."""
    processes: int = 1
    """The number of workers that the supervisor keeps running."""
    reload_failure: ReloadFailure | None = None
    """The last reload, if it failed."""
    reloaded: str = ""
    """The last request of an operator to reload that was carried out, or failed."""
