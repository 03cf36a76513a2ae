"""The pages of `docs/` that have parts made from the code."""

from __future__ import annotations

from pathlib import Path

from testing.reference import commands, configuration, http_api, messages, metrics
from testing.reference.markdown import fill

DOCS = Path(__file__).parents[2] / "docs"


def documents() -> dict[Path, str]:
    """The files as they should be. Raises ValueError if a page lacks the marks of a block."""
    blocks = {
        "../README.md": {"fields": messages.fields()},
        "reference/messages.md": {"fields": messages.fields()},
        "reference/commands.md": {"commands": commands.all_commands()},
        "reference/http-api.md": {
            "routes": http_api.all_routes(),
            "documents": http_api.all_documents(),
        },
        "reference/metrics.md": {
            "metrics of a port": metrics.of_port(),
            "metrics of the fleet": metrics.of_fleet(),
        },
        "reference/configuration.md": {"keys": configuration.all_keys()},
        "reference/providers/README.md": {
            "every provider": configuration.every_provider(),
            "over HTTP": configuration.over_http(),
        },
    }
    for name, adapter in configuration.built_in().items():
        blocks[f"reference/providers/{name}.md"] = {"options": configuration.own_options(adapter)}
    return {DOCS / page: _filled(DOCS / page, texts) for page, texts in blocks.items()}


def _filled(page: Path, blocks: dict[str, str]) -> str:
    text = page.read_text()
    for name, block in blocks.items():
        try:
            text = fill(text, name, block)
        except ValueError as error:
            raise ValueError(f"{page}: {error}") from None
    return text
