"""Executes a command of `relay dead` in the lean process. Modules that few commands need are imported
late."""

from __future__ import annotations

import sys

from relay.cli import terminal
from relay.cli.dead_work import PURGE, RETRY, list_all, list_reasons, show, work_on
from relay.cli.lean import Job


def perform(job: Job) -> None:
    """Execute the command. After Ctrl-C, end with code 1."""
    try:
        _perform(job)
    except KeyboardInterrupt:
        terminal.note("stopped")
        sys.exit(1)


def _perform(job: Job) -> None:
    match job.action:
        case "list":
            list_all(job)
        case "by-reason":
            list_reasons(job)
        case "show":
            show(job)
        case "retry":
            work_on(job, RETRY)
        case "purge":
            work_on(job, PURGE)
        case "edit":
            from relay.cli.dead_edit import edit

            edit(job)
        case "export":
            from relay.cli.dead_export import export_letters

            export_letters(job)
