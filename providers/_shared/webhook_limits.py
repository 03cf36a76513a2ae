"""Checks of URL, headers and secrets of a webhook, whether they come from a message or the configuration.

All checks raise ValueError with one line on the mistake.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from relay.http.validate import FRAMING_HEADERS

from .hosts import check_host
from .webhook_signing import SignatureFormat

LONGEST_URL = 2048
MOST_HEADERS = 50
LONGEST_HEADERS = 16 * 1024
"""Characters of all names and values that common servers accept."""
LONGEST_NAME = 100
"""Characters of the name of the signature's header."""
LONGEST_SECRET = 200
"""Characters of a secret of a message."""

_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
SIGNED = frozenset({"webhook-id", "webhook-timestamp", "webhook-signature"})
"""Headers of a signature that follows the standard."""
_NEVER_A_SIGNATURE = FRAMING_HEADERS | {"webhook-id", "webhook-timestamp", "content-type", "traceparent"}
"""Headers that frame the request, and those that relay sets to something else."""


def check_secrets(secrets: object, form: SignatureFormat) -> None:
    """Check the `secrets` of a message. Errors contain no part of them."""
    if not isinstance(secrets, list) or not 1 <= len(secrets) <= form.most:
        if form.most == 1:
            raise ValueError(f"secrets: must be an array of one text (`signature.format: {form.name}`)")
        raise ValueError(f"secrets: must be an array of 1 to {form.most} texts")
    for index, secret in enumerate(secrets):
        if not isinstance(secret, str) or len(secret) > LONGEST_SECRET:
            raise ValueError(f"secrets[{index}]: must be a text of at most {LONGEST_SECRET} characters")
        try:
            form.signer(secret)
        except ValueError as error:
            raise ValueError(f"secrets[{index}]: {error}") from None


def check_url(url: object) -> None:
    """Check that a URL is absolute, http or https, and without credentials."""
    if not isinstance(url, str) or not 1 <= len(url) <= LONGEST_URL:
        raise ValueError(f"url: must be a string of 1 to {LONGEST_URL} characters")
    if _CONTROL.search(url):
        raise ValueError("url: has spaces or control characters")
    if not url.lower().startswith(("http://", "https://")):
        raise ValueError("url: must begin with https:// or http://")
    try:
        check_host(urlsplit(url))
    except ValueError as error:
        raise ValueError(f"url: {' '.join(str(error).split())[:200]}") from None


def check_signature_header(name: str) -> None:
    """Check that a header of this name can hold the signature."""
    if not _TOKEN.fullmatch(name) or len(name) > LONGEST_NAME:
        raise ValueError(f"{name[:60]!r} is not a header name")
    if name.lower() in _NEVER_A_SIGNATURE:
        raise ValueError(f"{name} cannot hold the signature; it is set by relay and by the connection")


def check_headers(headers: object, ours: frozenset[str] = SIGNED) -> None:
    """Check names and values. Headers of the connection and those in `ours` are refused."""
    if not isinstance(headers, dict):
        raise ValueError("headers: must be an object of names and texts")
    if len(headers) > MOST_HEADERS:
        raise ValueError(f"headers: {len(headers)} of them; at most {MOST_HEADERS} are allowed")
    for name, value in headers.items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise ValueError(f"headers: {str(name)[:60]!r} is not a header name")
        if name.lower() in ours or name.lower() in FRAMING_HEADERS:
            raise ValueError(f"headers: {name[:60]} is set by relay and by the connection")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise ValueError(f"headers: the value of {name[:60]} must be a text without line breaks")
        if value != value.strip(" \t"):
            raise ValueError(f"headers: the value of {name[:60]} has leading or trailing spaces")
    size = sum(len(name) + len(value) for name, value in headers.items())
    if size > LONGEST_HEADERS:
        raise ValueError(f"headers: {size} characters in all; at most {LONGEST_HEADERS} are allowed")
