"""`${NAME}` and `${NAME:-default}` in the scalars of the file."""

from __future__ import annotations

import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}\n]*))?\}|\$\{")
_STRUCTURE = "{}[],:?#&*!|>%@ "
_SHIFT = 0x10FF00  # the end of a plane for private use: nobody's text
_HIDE = {ord(char): chr(_SHIFT + ord(char)) for char in _STRUCTURE}
_SHOW = {ord(hidden): chr(char) for char, hidden in _HIDE.items()}


class UndefinedVariableError(ValueError):
    """A reference that cannot be filled; the text says what to do about it."""


def substitute(text: str, env: Mapping[str, str]) -> str:
    """The text with each reference filled from `env`; what is filled in is not looked at again.

    The default also stands in for a variable that is set but empty, as in a shell. `$${` is a
    literal `${`. Raises UndefinedVariableError with one line for all references that cannot be filled.
    """
    troubles: list[str] = []

    def fill(match: re.Match[str]) -> str:
        name, default = match[1], match[2]
        if match[0] == "$${":
            return "${"
        if name is None:
            troubles.append(
                "`${` must be followed by a name and `}`; write ${NAME}, ${NAME:-default}, or $${ for ${"
            )
        elif default is not None:
            return env.get(name) or str(default)
        elif name in env:
            return env[name]
        else:
            troubles.append(
                f"the environment variable {name} is not set; set it or write ${{{name}:-default}}"
            )
        return ""

    filled = _REFERENCE.sub(fill, text)
    if troubles:
        raise UndefinedVariableError("; ".join(dict.fromkeys(troubles)))
    return filled


def hide(source: str) -> str:
    """YAML source in which references hold none of YAML's own characters, at the same length.

    Without it `{token: ${TOKEN:-}}` would end at the first brace. Undone by `show`.
    """
    return re.sub(
        r"\$\{[A-Za-z_][A-Za-z0-9_]*(?::-[^{}\n]*)?\}", lambda match: match[0].translate(_HIDE), source
    )


def show(text: str) -> str:
    """The text as it was before `hide`."""
    return text.translate(_SHOW)
