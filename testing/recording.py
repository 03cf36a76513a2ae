"""Records the output of a command in a terminal as an animated SVG: `make docs-pictures`.

The command must redraw its picture as rich's `Live` does: by erasing its lines and printing them again.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from rich.style import Style
from rich.terminal_theme import MONOKAI
from rich.text import Text

WIDTH, HEIGHT = 80, 24
"""Columns and lines of the terminal."""

STEP = 0.5
"""Seconds between two frames."""

HOLD = 4.0
"""Seconds for which the last frame stays."""

CELL, LINE, FONT = 8.4, 18, 14
"""The width of a character, the height of a line, and the size of the font, in pixels."""

_REDRAW = re.compile(rb"(?:\r\x1b\[2K)(?:\x1b\[1A\x1b\[2K)*|\x1b\[1A\x1b\[2K(?:\x1b\[1A\x1b\[2K)*")
_INVISIBLE = re.compile(rb"\x1b\[\?\d+[hl]|\x1b\]8;[^\x1b\x07]*(?:\x1b\\|\x07)|\r")


@dataclass(frozen=True)
class Frame:
    """The picture at a time, in seconds after the start."""

    at: float
    text: str


def record(command: Sequence[str]) -> Iterator[tuple[float, bytes]]:
    """Run a command in a terminal, and yield its output with the seconds since its start."""
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    env = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        env.pop(name, None)
    started = time.monotonic()
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=env) as process:
        os.close(terminal)
        try:
            while data := os.read(main, 65536):
                yield time.monotonic() - started, data
        except OSError:
            pass  # the command has ended
        finally:
            os.close(main)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with code {process.returncode}")


def frames(written: Iterator[tuple[float, bytes]]) -> Iterator[Frame]:
    """Yield each complete picture. The last one is the text after the last redraw."""
    text, at = b"", 0.0
    for moment, data in written:
        text += data
        *whole, text = _REDRAW.split(text)
        for picture in whole:
            if picture.strip():
                yield Frame(at, _clean(picture))
        at = moment
    yield Frame(at, _clean(text))


def thinned(found: Sequence[Frame], step: float = STEP) -> list[Frame]:
    """Return one frame for each step: the last one that was there by its end."""
    chosen: dict[int, Frame] = {}
    for frame in found[:-1]:
        chosen[int(frame.at / step)] = frame
    return [*chosen.values(), found[-1]]


def svg(pictures: Sequence[Frame], title: str) -> str:
    """Return an animation: each picture for a step, and the last one for longer. Without motion, the last."""
    total = STEP * (len(pictures) - 1) + HOLD
    share, last = 100 * STEP / total, 100 * HOLD / total
    lines = min(HEIGHT, max(picture.text.count("\n") + 1 for picture in pictures))
    width, height = round(WIDTH * CELL + 32), lines * LINE + 32
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title)}"><title>{escape(title)}</title><style>'
        f"text{{font:{FONT}px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
        "white-space:pre;fill:#e8eaed}"
        f".f{{visibility:hidden;animation:f {total:g}s steps(1) infinite}}"
        f".l{{animation-name:l}}"
        f"@keyframes f{{0%{{visibility:visible}}{share:.3f}%,100%{{visibility:hidden}}}}"
        f"@keyframes l{{0%{{visibility:visible}}{last:.3f}%,100%{{visibility:hidden}}}}"
        "@media(prefers-reduced-motion:reduce){.f{animation:none}.l{visibility:visible}}"
        f'</style><rect width="{width}" height="{height}" rx="8" fill="#111417"/>'
    ]
    for place, picture in enumerate(pictures):
        kind = "f l" if place == len(pictures) - 1 else "f"
        begin = f"animation-delay:{place * STEP:g}s"
        parts.append(f'<g class="{kind}" style="{begin}">{_picture(picture.text)}</g>')
    parts.append("</svg>\n")
    return "".join(parts)


def _picture(text: str) -> str:
    lines = Text.from_ansi(text, no_wrap=True).split("\n", allow_blank=True)
    return "".join(
        f'<text y="{16 + LINE * number + FONT}">{spans}</text>'
        for number, line in enumerate(lines[:HEIGHT])
        if (spans := "".join(_spans(line)))
    )


def _spans(line: Text) -> Iterator[str]:
    """Yield the parts of a line that look alike. Each is as long as its characters, with any font."""
    plain = line.plain
    styles = [Style.null()] * len(plain)
    for span in line.spans:
        style = span.style if isinstance(span.style, Style) else Style.parse(span.style)
        for place in range(span.start, min(span.end, len(plain))):
            styles[place] += style
    first = 0
    for place in range(1, len(plain) + 1):
        if place < len(plain) and styles[place] == styles[first]:
            continue
        part = plain[first:place]
        if part.strip():
            x, length = 16 + first * CELL, len(part) * CELL
            text = escape(part, quote=False)
            yield f'<tspan x="{x:g}" textLength="{length:g}"{_look(styles[first])}>{text}</tspan>'
        first = place


def _look(style: Style) -> str:
    look = ""
    if style.color is not None and not style.color.is_default:
        color = style.color.get_truecolor(MONOKAI)
        look += f' fill="{color.hex}"'
    if style.bold:
        look += ' font-weight="700"'
    if style.dim:
        look += ' opacity=".6"'
    return look


def _clean(data: bytes) -> str:
    return _INVISIBLE.sub(b"", data).decode("utf-8", "replace").strip("\n")


def main() -> None:
    """Record `relay demo` into the file that is named."""
    command = (str(Path(sys.executable).with_name("relay")), "demo", "--seconds", "12")
    found = list(frames(record(command)))
    prompt = "\x1b[1m$ make demo\x1b[0m\n"
    pictures = [Frame(frame.at, prompt + frame.text) for frame in thinned(found)]
    Path(sys.argv[1]).write_text(
        svg(pictures, "relay demo: a backlog is sent at the configured rate"), "utf-8"
    )


if __name__ == "__main__":
    main()
