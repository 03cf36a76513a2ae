"""The recording of the demo: pictures of a terminal, and the animation made of them."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from testing.recording import Frame, frames, svg, thinned

PICTURES = Path(__file__).parents[3] / "docs" / "images"
SVG = "{http://www.w3.org/2000/svg}"


def test_pictures_are_those_between_two_redraws() -> None:
    written = [
        (0.1, b"\x1b[?25lone\r\ntwo"),
        (0.6, b"\r\x1b[2K\x1b[1A\x1b[2K\x1b[32mthree"),
        (0.7, b"\x1b[0m\r\n"),
        (0.9, b"\r\x1b[2K\x1b[1A\x1b[2Kthe end\r\n"),
    ]
    found = list(frames(iter(written)))
    assert found == [Frame(0.1, "one\ntwo"), Frame(0.7, "\x1b[32mthree\x1b[0m"), Frame(0.9, "the end")]
    assert thinned([Frame(0.1, "a"), Frame(0.2, "b"), Frame(0.7, "c"), Frame(0.8, "end")], 0.5) == [
        Frame(0.2, "b"),
        Frame(0.7, "c"),
        Frame(0.8, "end"),
    ]


def test_each_picture_of_an_animation_has_its_text_in_its_columns() -> None:
    document = ElementTree.fromstring(svg([Frame(0, "a < b"), Frame(1, "  \x1b[1;32mdone\x1b[0m")], "a demo"))
    first, last = document.findall(f"{SVG}g")
    assert ["".join(picture.itertext()) for picture in (first, last)] == ["a < b", "done"]
    (part,) = last.iter(f"{SVG}tspan")
    assert (part.get("x"), part.get("font-weight")) == ("32.8", "700")
    assert part.get("fill", "").startswith("#")


def test_the_recording_of_the_demo_is_small_and_shows_its_end() -> None:
    text = (PICTURES / "demo.svg").read_text("utf-8")
    assert len(text) < 300_000
    assert "busiest" in "".join(ElementTree.fromstring(text).itertext())
