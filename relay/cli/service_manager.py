"""Messages to the service manager: ready, reloading, stopping, alive, and a status line.

The protocol is that of sd_notify(3). systemd names a datagram socket in `NOTIFY_SOCKET`; without it nothing
is sent.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, MutableMapping

import structlog

from relay.admin.health import WorkerReport
from relay.cli.configuration import ConfigurationFile
from relay.store.deployment import Deployment
from relay.text import one_line

INTERVAL = 1.0
"""Seconds between two looks at the workers."""

LONGEST_STATUS = 200

logger = structlog.get_logger()


class ServiceManager:
    """Tells the service manager about one process that runs alone, or about a supervisor and its workers."""

    def __init__(
        self,
        file: ConfigurationFile,
        deployment: Callable[[], Deployment],
        reports: Callable[[], list[WorkerReport]],
        environment: MutableMapping[str, str] = os.environ,
    ) -> None:
        """Takes its variables out of the environment, because processes that this one starts must not use
        them. `reports` returns the last report of each worker."""
        self._file = file
        self._deployment = deployment
        self._reports = reports
        self._address = _address(environment.pop("NOTIFY_SOCKET", ""))
        self._interval = min(INTERVAL, _watchdog_seconds(environment) / 3 or INTERVAL)
        self._is_ready = False
        self._status = ""

    async def run(self) -> None:
        """Report until cancelled. Returns immediately if no service manager listens."""
        if not self._address:
            return
        while True:
            reports = self._reports()
            if not self._is_ready and reports and all(r.health and r.health.worker for r in reports):
                self._is_ready = True
                self._send("READY=1")
            status = self._current_status()
            if status != self._status:
                self._status = status
                self._send(f"STATUS={status}")
            self._send("WATCHDOG=1")
            await asyncio.sleep(self._interval)

    def reload(self, request: str = "") -> None:
        """Read the configuration file again, and report the beginning and the end of it.

        `request` is that of an operator; empty for a signal.
        """
        # systemd.service(5), `Type=notify-reload`: the time shows which request this message answers.
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
        self._file.notify(request)
        self._reloading = asyncio.ensure_future(self._report_reload())

    async def _report_reload(self) -> None:
        await self._file.idle()
        # In one message, so that `systemctl status` shows the result as soon as `systemctl reload` returns.
        self._status = self._current_status()
        self._send("READY=1", f"STATUS={self._status}")

    def _current_status(self) -> str:
        return status_line(self._deployment(), self._reports())

    def stopping(self) -> None:
        """Report that the process is about to end."""
        self._send("STOPPING=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as end:
                end.setblocking(False)
                end.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            logger.debug("the service manager does not listen", error=str(error))


def status_line(deployment: Deployment, reports: list[WorkerReport]) -> str:
    """For example `2 of 4 workers are healthy; worker 81: no report for 12 s`, for `systemctl status`."""
    healthy = sum(bool(r.health) and not r.troubles for r in reports)
    troubles = [f"worker {r.pid}: {trouble}" for r in reports for trouble in r.troubles]
    if (failure := deployment.reload_failure) is not None:
        troubles.insert(0, f"the last reload failed: {failure.problem}")
    text = f"{healthy} of {len(reports)} workers are healthy"
    return one_line("; ".join([text, *troubles]))[:LONGEST_STATUS]


def _address(name: str) -> str:
    """The address of a `NOTIFY_SOCKET`; empty if there is none. `@` begins a name in the abstract space."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else ""


def _watchdog_seconds(environment: MutableMapping[str, str]) -> float:
    """The time within which the service manager expects the next sign of life; 0 if it expects none."""
    micros, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
    if not micros.isdecimal() or pid not in ("", str(os.getpid())):
        return 0.0
    return int(micros) / 1_000_000
