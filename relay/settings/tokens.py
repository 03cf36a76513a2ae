"""Refusal of access tokens that are placeholders or easy to guess."""

from __future__ import annotations

SHORTEST = 8
"""Characters of a token. It also excludes null, none, secret and the like."""

_PLACEHOLDERS = frozenset(
    {
        "administrator",
        "change-me",
        "change_me",
        "changeit",
        "changeme",
        "password",
        "placeholder",
        "relay_admin_token",
        "undefined",
        "your-token",
        "your_token",
        "yourtoken",
    }
)

_ADVICE = "generate one, for example with `openssl rand -hex 16`"


def token_problem(token: str) -> str:
    """Return a clause about an unacceptable token, without the token. Empty if the token is acceptable."""
    word = token.strip().strip("<>\"'[](){}").lower()
    if word in _PLACEHOLDERS or len(set(word)) == 1:
        return f"is a placeholder, not a token; {_ADVICE}"
    if token != token.strip() or not token.isprintable():
        return f"has a control character, or a space at an end, and cannot be sent; {_ADVICE}"
    if len(token) < SHORTEST:
        return f"is shorter than {SHORTEST} characters and easy to guess; {_ADVICE}"
    return ""
