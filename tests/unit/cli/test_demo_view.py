"""The view of `relay demo` in a terminal."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from relay.cli.demo_view import panel
from relay.cli.demo_world import RATES, Moment
from relay.store.overview import Overview


def test_a_panel_of_the_demo_fits_into_80_columns_after_an_hour() -> None:
    many = dict.fromkeys(RATES, 1_850_000)
    history = {provider: [rate] * 60 for provider, rate in RATES.items()}
    moment = Moment(3600.0, many, many, history, RATES, Overview(0.0, [], [], []))
    terminal = Console(width=80, record=True, file=StringIO())
    for provider, rate in RATES.items():
        terminal.print(panel(moment, provider, "running"))
        text = terminal.export_text()
        assert "now 500/s" in text or "now 50/s" in text
        assert "held back by the rate 0" in text
        assert f"the busiest {rate}; {rate} and the burst are allowed" in text
