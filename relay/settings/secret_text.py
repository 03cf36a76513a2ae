"""Secrets in files of their own. Without pydantic, because short commands need it too."""

from __future__ import annotations

from pathlib import Path

from relay.settings.snapshot import SecretFiles
from relay.text import quote

MAX_SECRET = 64 * 1024
"""Bytes of a file that holds a secret."""


def read_secret(path: Path, files: SecretFiles) -> str:
    """Return the content without the newline at its end. Raises ValueError with the name of the file."""
    try:
        content = files.read(path, MAX_SECRET + 1)
        text = content.decode("utf-8").rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"cannot read the file {quote(str(path))}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"the file {quote(str(path))} is not UTF-8") from None
    except ValueError:  # a NUL in the path
        raise ValueError(f"{quote(str(path))} is not a path") from None
    if len(content) > MAX_SECRET:
        raise ValueError(f"the file {quote(str(path))} is larger than {MAX_SECRET // 1024} KiB")
    if not text.strip():
        raise ValueError(f"the file {quote(str(path))} is empty")
    if is_nothing(text):
        raise ValueError(f"the file {quote(str(path))} holds {quote(text)}, which is not a secret")
    return text


def is_nothing(text: str) -> bool:
    """Return True for words that programs such as `jq -r` write for a missing value."""
    return text.strip().lower() in ("null", "none", "nil", "undefined", "~")
