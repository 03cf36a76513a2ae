"""`relay reload`: every process of the fleet reads its configuration file again, and reports."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from relay.cli import common
from relay.cli.lanes import BecauseOption
from relay.operations.lanes import pause_seconds
from relay.operations.reload import ReloadReport, reload_fleet
from relay.operations.who import operator


def reload(
    context: typer.Context,
    wait: Annotated[
        str, typer.Option("--wait", metavar="DURATION", help="Wait for the reports for this long.")
    ] = "10s",
    because: BecauseOption = "",
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
) -> None:
    """Make every process of the fleet read its configuration file again, as SIGHUP does.

    Each process reports. If its file has mistakes, it keeps its old configuration. Exit code 1 if one does,
    or sends no report.

    Example: `relay reload --wait 30s`
    """
    seconds = pause_seconds(wait, "--wait") or 0.0
    settings = common.load_settings(context, config)
    reports = common.act(
        settings,
        reload_fleet,
        who=operator(),
        because=because,
        wait=seconds,
        on_report=_ignore if as_json else _print,
    )
    if as_json:
        print(common.as_json([msgspec.to_builtins(report) for report in reports]))
    if not all(report.ok for report in reports):
        raise typer.Exit(1)


def _print(report: ReloadReport) -> None:
    result = "reloaded" if report.ok else f"not reloaded: {report.error}"
    common.note(f"{report.host} ({report.process}): {result}")


def _ignore(report: ReloadReport) -> None:
    pass
