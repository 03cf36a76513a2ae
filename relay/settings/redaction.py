"""Secrets out of texts, and texts made fit for a terminal. Pure.

What we write ourselves names no secret. This is for what others say and we pass on: a receiver that
echoes our request in its answer, an exception of a library or of somebody's adapter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote

from pydantic import BaseModel, SecretStr

from relay.settings.redis_url import FORMS as REDIS_SCHEMES
from relay.settings.template import Template
from relay.text import HIDDEN

_PART = 8  # characters of a part of a URL from which on it is a secret on its own
_LINE = 16  # the same of a line of PEM, and of a URL that is no secret as a whole
_NAME = re.compile(r"(?i)auth|cookie|credential|key|passw|secret|session|token")
_PASSWORD = re.compile(r"//[^/?#]*?:([^/?#]+)@")
_IN_QUERY = re.compile(r"(?i)(?:password|passwd|secret|token)=([^&#\s]+)")
_MEMBER = re.compile(
    # A name, a colon, and a text that may be cut, a list of texts, or a word.
    r'("(?:[^"\\]|\\.)*")(\s*:\s*)(?:"(?:[^"\\]|\\.)*(?:"|\\?$)|\[[^\]]*(?:\]|$)|[^\s,}\]\[{"]+)'
)
_IN_TEXT = re.compile(r"(?i)auth|cookie|credential|api.?key|passw|secret|session|access.?token")
"""Names of members that are hidden wherever they stand; `token` alone may be a device's."""
_WEBHOOK_SECRET = re.compile(r"whs(?:ec|k)_[A-Za-z0-9+/=]*")
_IN_PATH, _QUERY = "~!$&'()*+,;=:@", "~:@/"  # what stands there as it is
_SCHEME = re.compile(r"(?i)(?:basic|bearer|token|vapid) +")


def secrets_in(value: object, name: str = "") -> Iterator[str]:
    """The secrets below a model: its `Secret`s, and texts in mappings under a name that says so."""
    match value:
        case Template():
            yield from _in_template(value, name)
        case SecretStr():
            yield from _forms(value.get_secret_value())
        case BaseModel():
            for field in type(value).model_fields:
                yield from secrets_in(getattr(value, field))
        case Mapping():
            for key, entry in value.items():
                yield from secrets_in(entry, str(key))
        case list() | tuple():
            for entry in value:
                yield from secrets_in(entry)
        case str() if names_a_secret(name):
            yield from _forms(_SCHEME.sub("", value, count=1))


def _in_template(template: Template, name: str) -> Iterator[str]:
    """What of a template is no word of its own: all of a secret header, and tokens in a URL's path."""
    literals = [part for part in template.parts if isinstance(part, str)]
    if names_a_secret(name):
        yield from (form for text in literals for form in secrets_in(text, name))
    elif literals and literals[0].startswith(("http://", "https://")):
        path = "/".join(literals).split("/", 3)[3:]
        tokens = (part for text in path for part in re.split(r"[/?&=:]", text) if len(part) >= _LINE)
        yield from (form for token in tokens for form in _forms(token))


def names_a_secret(name: str) -> bool:
    """Whether a header of this name, or an option, says who somebody is: Authorization, X-Api-Key, Cookie."""
    return _NAME.search(name) is not None


def is_credential(name: str, value: str) -> bool:
    """Whether a header holds credentials, by its name or by a scheme such as `Bearer` in its value."""
    return names_a_secret(name) or _SCHEME.match(value) is not None


def without_credentials(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A message's payload as it can be shown: without credentials in `headers`, and without `secrets`."""
    shown = dict(payload)
    headers = payload.get("headers")
    if isinstance(headers, Mapping):
        shown["headers"] = {
            name: HIDDEN if is_credential(name, str(value)) else value for name, value in headers.items()
        }
    if "secrets" in payload:
        shown["secrets"] = HIDDEN
    return shown


def text_without_credentials(text: str) -> str:
    """The same for an element that could not be read, so that only its text can be searched.

    Every other character stays as it is.
    """

    def hidden(found: re.Match[str]) -> str:
        return f'{found[1]}{found[2]}"{HIDDEN}"' if _IN_TEXT.search(_unescaped(found[1])) else found[0]

    return _WEBHOOK_SECRET.sub(HIDDEN, _MEMBER.sub(hidden, text))


def _unescaped(quoted: str) -> str:
    try:
        return str(json.loads(quoted))
    except ValueError:
        return quoted


def _forms(secret: str) -> Iterator[str]:
    """The ways in which a secret is written: as it is, in URLs, in forms, in JSON; a key by its lines."""
    scheme, separator, rest = secret.partition("://")
    if separator and (scheme in REDIS_SCHEMES or "/" not in rest.strip("/")):
        # A server's address, of which only the passwords are secret.
        whole = [*_PASSWORD.findall(secret), *_IN_QUERY.findall(secret)]
    elif separator:
        whole = [secret, *(part for part in re.split(r"[/?&=:@#]", rest) if len(part) >= _PART)]
    else:
        lines = [line.strip() for line in secret.splitlines()]
        whole = [secret, secret.removeprefix("whsec_").removeprefix("whsk_")]
        whole += [line for line in lines if len(line) >= _LINE and not line.startswith("-----")]
    for text in whole:
        yield from (text, unquote(text), quote_plus(text), json.dumps(text)[1:-1])
        yield from (quote(text, safe=safe) for safe in ("", "/", _IN_PATH, _QUERY))
