"""Asks the admin port of this host whether its workers are healthy. Imports little, to be fast."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass, field
from typing import Any

TIMEOUT = 5.0
"""Seconds for the answer."""

LONGEST_ANSWER = 1 << 20
"""Bytes of an answer that are read."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The state of the workers of this host."""

    healthy: bool
    troubles: list[str] = field(default_factory=list)
    workers: int = 0


class NoAnswerError(Exception):
    """Nothing listens, or another program does. The text says which."""


def ask(address: tuple[str, int], token: str = "", seconds: float = TIMEOUT) -> Answer:
    """Return the answer of `/healthz`. A port that accepts and does not answer in time is in trouble.

    Raises NoAnswerError.
    """
    host, port = address
    place = f"{host}:{port}"
    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        connection.request("GET", "/healthz", headers={"Authorization": f"Bearer {token}"} if token else {})
        response = connection.getresponse()
        body = response.read(LONGEST_ANSWER)
    except TimeoutError:
        return Answer(healthy=False, troubles=[f"{place} did not answer within {seconds:g} s"])
    except ConnectionRefusedError:
        raise NoAnswerError(f"nothing listens on {place}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NoAnswerError(f"{place} gives no answer ({type(error).__name__}: {error})") from None
    finally:
        connection.close()
    if response.status == 401:
        raise NoAnswerError(f"{place} refuses the token of the file")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("healthy"), bool):
        raise NoAnswerError(f"another program answers on {place}")
    return Answer(document["healthy"], _texts(document.get("troubles")), _length(document.get("workers")))


def _texts(value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list) else 0
