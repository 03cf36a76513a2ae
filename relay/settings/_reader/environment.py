"""`${NAME}` and `${NAME:-default}` in the scalars of the file.

A name with a full stop in it, as in `${payload.user}`, is no variable of the environment. Its value comes
with each message (see `template`), so it stays as it is here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_DEFAULT = r"(?::-((?:[^{}\n]|\{\})*))?"  # braces only as an empty object
_LATER = rf"\$\{{{_NAME}(?:\.[A-Za-z0-9_-]+)+{_DEFAULT}\}}"
_REFERENCE = re.compile(
    rf"\$\$\{{|(?P<later>{_LATER})|\$\{{(?P<name>{_NAME})(?::-(?P<default>[^{{}}\n]*))?\}}|\$\{{"
)
_ANY = re.compile(rf"\$\{{{_NAME}(?:\.[A-Za-z0-9_-]+)*{_DEFAULT}\}}")
_OF_MESSAGES = {
    "id": " (the message's own is ${message.id})",
    "provider": " (the provider's name is ${provider.name})",
    "payload": " (a field of the payload is ${payload.FIELD})",
}
_STRUCTURE = "{}[],:?#&*!|>%@ "
_SHIFT = 0x10FF00  # the end of a plane for private use, which no text contains
_HIDE = {ord(char): chr(_SHIFT + ord(char)) for char in _STRUCTURE}
_SHOW = {ord(hidden): chr(char) for char, hidden in _HIDE.items()}


class UndefinedVariableError(ValueError):
    """A reference that cannot be filled. The text contains the remedy."""


@dataclass(frozen=True, slots=True)
class Filled:
    """A text after substitution.

    `template` is the same text as a template of messages, with literal parts escaped (`$${`).
    `references` are those to messages, as they were written; they are left in both.
    """

    text: str
    template: str
    references: tuple[str, ...] = ()


def substitute(text: str, env: Mapping[str, str]) -> Filled:
    """Return the text with each reference filled from `env`. Filled-in text is not substituted again.

    The default also stands in for a variable that is set but empty, as in a shell. `$${` is a
    literal `${`. Raises UndefinedVariableError with one line for all references that cannot be filled.
    """
    troubles: list[str] = []
    references: list[str] = []

    def fill(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        if match[0] == "$${":
            return "${"
        if match["later"]:
            references.append(match[0])
            return match[0]
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
                f"{_OF_MESSAGES.get(name, '')}"
            )
        return ""

    plain, template, literal, end = "", "", "", 0
    for match in _REFERENCE.finditer(text):
        literal += text[end : match.start()]
        filled, end = fill(match), match.end()
        if match["later"]:
            plain += literal + filled
            template += escape(literal) + filled
            literal = ""
        else:
            literal += filled
    if troubles:
        raise UndefinedVariableError("; ".join(dict.fromkeys(troubles)))
    literal += text[end:]
    return Filled(plain + literal, template + escape(literal), tuple(references))


def escape(text: str) -> str:
    """Return the text as a template without references."""
    return text.replace("${", "$${")


def hide(source: str) -> str:
    """Return YAML source in which references contain none of YAML's special characters, at the same length.

    Without it `{token: ${TOKEN:-}}` would end at the first brace. Undone by `show`.
    """
    return _ANY.sub(lambda match: match[0].translate(_HIDE), source)


def show(text: str) -> str:
    """Return the text before `hide`."""
    return text.translate(_SHOW)
