"""Lets a wheel install one package, `relay`, with the adapters of `providers/` in `relay/_providers`.

`[tool.hatch.build.targets.wheel.sources]` in pyproject.toml moves the files; this hook makes the entry points
follow them. An editable install keeps `providers` as it is in the checkout.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class EntryPointsFollowTheAdapters(BuildHookInterface[Any]):
    """Rewrites `providers.x:X` to `relay._providers.x:X`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before each build; `version` is its kind."""
        if version == "editable":
            return
        adapters = self.metadata.core.entry_points["relay.providers"]
        for name, target in adapters.items():
            adapters[name] = f"relay._{target.removeprefix('relay._')}"
