"""The dialogs of `relay status --watch`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from relay.redis_client.client import Client
from relay.store import dead
from relay.text import one_line, printable

ResultT = TypeVar("ResultT")

MOST_LETTERS = 500
"""Dead letters that are read for the list of reasons."""


@dataclass(frozen=True, slots=True)
class PauseOrder:
    """A pause as an operator types it."""

    because: str
    duration: str
    """Empty: until `resume`."""


class Question(ModalScreen[ResultT | None]):
    """A box with lines to fill in. Enter in the last line confirms, Escape cancels."""

    CSS = """
    Question { align: center middle; }
    Question > Vertical { width: 70; max-width: 90%; height: auto; border: thick $warning; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "cancel", "Cancel"), ("ctrl+c", "cancel", "Cancel")]

    def __init__(self, provider: str) -> None:
        super().__init__()
        self._provider = provider

    def action_cancel(self) -> None:
        """Change nothing."""
        self.dismiss(None)


class PauseDialog(Question[PauseOrder]):
    """Asks for a reason, then for a time."""

    def compose(self) -> ComposeResult:
        """Return the question and its two lines."""
        with Vertical():
            yield Static(Text(f"Pause {printable(self._provider)} for all workers? Escape cancels."))
            yield Input(placeholder="reason", id="because", max_length=500)
            yield Input(
                placeholder="time, such as 2h; empty: until you resume it", id="duration", max_length=50
            )

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Go to the next line, or confirm."""
        if event.input.id == "because":
            self.query_one("#duration", Input).focus()
            return
        because = self.query_one("#because", Input).value
        self.dismiss(PauseOrder(because.strip(), event.value.strip()))


class ResumeDialog(Question[str]):
    """Asks for a reason."""

    def compose(self) -> ComposeResult:
        """Return the question and its line."""
        with Vertical():
            yield Static(Text(f"Resume {printable(self._provider)}? Enter confirms, Escape cancels."))
            yield Input(placeholder="reason (optional)", id="because", max_length=500)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Confirm."""
        self.dismiss(event.value.strip())


class DeadLetters(ModalScreen[None]):
    """Dead letters of a lane by reason."""

    CSS = """
    DeadLetters { align: center middle; }
    DeadLetters > VerticalScroll {
        width: 90%; height: auto; max-height: 80%; border: thick $error; padding: 0 1;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape", "close", "Close"),
        ("q", "close", "Close"),
        ("d", "close", "Close"),
        ("ctrl+c", "close", "Close"),
    ]

    def __init__(self, provider: str, total: int, reasons: Mapping[str, int]) -> None:
        super().__init__()
        self._provider = provider
        self._total = total
        self._reasons = reasons

    def compose(self) -> ComposeResult:
        """Return the list."""
        name, read = printable(self._provider), sum(self._reasons.values())
        lines = [f"{name}: {self._total:,} dead letters. Escape closes this list."]
        if read < self._total:
            lines.append(f"Reasons of the oldest {read:,}:")
        lines += ["", *(f"{number:>7,}  {reason}" for reason, number in self._reasons.items())]
        lines += ["", f"relay dead list {name}    relay dead retry {name} --reason TEXT --dry-run"]
        with VerticalScroll():
            yield Static(Text("\n".join(lines)), id="letters")

    def action_close(self) -> None:
        """Return to the lanes."""
        self.dismiss(None)


async def reasons_of(client: Client, prefix: str, provider: str) -> Mapping[str, int]:
    """Count the reasons of a lane's oldest dead letters. Raises StoreError."""
    found: Counter[str] = Counter()
    read = 0
    async for page in dead.pages(client, dead.lane_stream(prefix, provider)):
        found.update(one_line(letter.reason) for letter in page)
        read += len(page)
        if read >= MOST_LETTERS:
            break
    return dict(found.most_common())
