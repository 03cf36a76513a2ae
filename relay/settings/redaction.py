"""The secrets of a configuration, in all the forms in which a text of others may contain them. Pure.

Relay's own texts name no secret. Texts of others may: the answer of a receiver that echoes the request, an
exception of a library or of an adapter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote, quote_plus, unquote

from pydantic import BaseModel, SecretStr

from relay.settings.credentials import AUTH_SCHEME, names_a_secret
from relay.settings.redis_url import FORMS as REDIS_SCHEMES
from relay.settings.template import Template
from relay.text import HIDDEN_PARAMETERS

_PART = 8  # characters of a part of a URL from which on it is a secret on its own
_LINE = 16  # the same of a line of PEM, and of a URL that is no secret as a whole
_PASSWORD = re.compile(r"//[^/?#]*?:([^/?#]+)@")
_IN_QUERY = re.compile(rf"{HIDDEN_PARAMETERS}=([^&#\s]+)")
_IN_PATH, _QUERY = "~!$&'()*+,;=:@", "~:@/"  # what stands there as it is


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
            yield from _forms(AUTH_SCHEME.sub("", value, count=1))


def _in_template(template: Template, name: str) -> Iterator[str]:
    """What of a template is no word of its own: all of a secret header, and tokens in a URL's path."""
    literals = [part for part in template.parts if isinstance(part, str)]
    if names_a_secret(name):
        yield from (form for text in literals for form in secrets_in(text, name))
    elif literals and literals[0].startswith(("http://", "https://")):
        path = "/".join(literals).split("/", 3)[3:]
        tokens = (part for text in path for part in re.split(r"[/?&=:]", text) if len(part) >= _LINE)
        yield from (form for token in tokens for form in _forms(token))


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
