"""The secrets of a configuration, in all forms in which foreign text may contain them. Pure.

relay's own texts contain no secrets. Foreign text may: the answer of a receiver that echoes the request, or
an exception of a library or an adapter.
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

_PART = 8  # fewest characters of a part of a URL that is a secret on its own
_LINE = 16  # the same for a line of PEM, and for a URL that is not a secret as a whole
_PASSWORD = re.compile(r"//[^/?#]*?:([^/?#]+)@")
_IN_QUERY = re.compile(rf"{HIDDEN_PARAMETERS}=([^&#\s]+)")
_IN_PATH, _QUERY = "~!$&'()*+,;=:@", "~:@/"  # characters that are not escaped there


def secrets_in(value: object, name: str = "") -> Iterator[str]:
    """Yield the secrets below a model: `Secret` fields, and texts in mappings whose key names a secret."""
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
    """Yield the secret parts of a template: all of a secret header, and tokens in the path of a URL."""
    literals = [part for part in template.parts if isinstance(part, str)]
    if names_a_secret(name):
        yield from (form for text in literals for form in secrets_in(text, name))
    elif literals and literals[0].startswith(("http://", "https://")):
        path = "/".join(literals).split("/", 3)[3:]
        tokens = (part for text in path for part in re.split(r"[/?&=:]", text) if len(part) >= _LINE)
        yield from (form for token in tokens for form in _forms(token))


def _forms(secret: str) -> Iterator[str]:
    """Yield the spellings of a secret: plain, in URLs, in forms, in JSON. A key is split into its lines."""
    scheme, separator, rest = secret.partition("://")
    if separator and (scheme in REDIS_SCHEMES or "/" not in rest.strip("/")):
        # The address of a server: only its passwords are secret.
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
