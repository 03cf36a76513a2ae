"""The tables of options on the pages of providers, made from the adapters' models.

`python -m testing.option_tables` writes them; a test checks that they are up to date. A page has its table
between the two marks.
"""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from relay.provider import AdapterType, discover
from relay.provider.discovery import ENTRY_POINTS
from relay.settings._reader.model_info import twins
from relay.settings.durations import format_duration
from relay.settings.http import HttpOptions
from relay.settings.options import ProviderOptions

PAGES = Path(__file__).parents[1] / "docs/providers"
BEGIN, END = "<!-- options: begin -->\n", "<!-- options: end -->\n"
COMMON = {*ProviderOptions.model_fields, *HttpOptions.model_fields}


def built_in() -> dict[str, AdapterType]:
    """The adapters of this repository by their type."""
    adapters = discover()
    ours = entry_points(group=ENTRY_POINTS)
    return {entry.name: adapters[entry.name] for entry in ours if entry.value.startswith("providers.")}


def table(adapter: AdapterType) -> str:
    """The options of an adapter that are not common to several, as a table in Markdown."""
    model = adapter.Options
    properties = model.model_json_schema()["properties"]
    files = {key: twin for twin, key in twins(model).items()}
    rows = ["| option | default | meaning |", "| --- | --- | --- |"]
    for name, field in model.model_fields.items():
        if name in COMMON:
            continue
        meaning, _, said = " ".join((field.description or "").split()).partition(" Default: ")
        default = "required" if field.is_required() else _default(properties[name].get("default"))
        if said:
            default = said.removesuffix(".")
        if name in files and files[name] not in meaning:
            meaning += f" Or `{files[name]}`."
        rows.append(f"| `{name}` | {default} | {meaning} |")
    return "\n".join(rows) + "\n"


def _default(value: Any) -> str:
    """A default as it stands in YAML; none for nothing."""
    if value in (None, [], {}) or (isinstance(value, dict) and not any(value.values())):
        return "none"
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if isinstance(value, float):
        value = format_duration(value)
    return f"`{value if isinstance(value, str) and value != '*' else json.dumps(value)}`"


def filled(page: str, adapter: AdapterType) -> str:
    """The text of a page with its table. Raises ValueError if the page has no marks for it."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN.strip()} and {END.strip()}")
    return before + begin + table(adapter) + end + after


def main() -> None:
    for name, adapter in built_in().items():
        path = PAGES / f"{name}.md"
        path.write_text(filled(path.read_text(), adapter))


if __name__ == "__main__":
    main()
