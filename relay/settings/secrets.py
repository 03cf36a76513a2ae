"""`X_file`: a secret that stands in a file of its own.

For every field that holds a `Secret`, in any model at any depth, the file may name a path instead.
It is read here, before validation, so that no adapter has to know.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from relay.settings.shape import models_within, secret_kind, twins
from relay.settings.tree import Entry, Location, Mapping, Node, Problems, Scalar, Sequence
from relay.settings.words import quote

MAX_SECRET = 64 * 1024
"""Bytes of a file that holds a secret."""


def read_secret_files(model: type[BaseModel], node: Node, location: Location, folder: Path, problems: Problems) -> None:
    """Put what the files hold in place of each `X_file` below `node`. Relative paths begin at `folder`."""
    if not isinstance(node, Mapping):
        return
    for twin, name in twins(model).items():
        if twin in node.entries:
            _replace(model, node, (twin, name), location, folder, problems)
    for name, info in model.model_fields.items():
        if name not in node.entries:
            continue
        value, inner = node.entries[name].node, (*location, name)
        for step, child_model in models_within(info.annotation):
            if step == "one":
                read_secret_files(child_model, value, inner, folder, problems)
            elif step == "each item" and isinstance(value, Sequence):
                for index, item in enumerate(value.items):
                    read_secret_files(child_model, item, (*inner, index), folder, problems)
            elif step == "each value" and isinstance(value, Mapping):
                for key, entry in value.entries.items():
                    read_secret_files(child_model, entry.node, (*inner, key), folder, problems)


def _replace(
    model: type[BaseModel],
    node: Mapping,
    names: tuple[str, str],
    location: Location,
    folder: Path,
    problems: Problems,
) -> None:
    twin, name = names
    entry = node.entries.pop(twin)
    value = entry.node
    if isinstance(value, Scalar) and not value.text and not value.broken:
        return  # `secret_file: ${SECRET_FILE:-}` with no such variable
    if name in node.entries and not _is_empty(node.entries[name].node):
        text = f"`{name}` and `{twin}` are both there; keep one"
        problems.add(entry.key_position, (*location, twin), text)
        return
    broken = Scalar(value.position, None, "", broken=True)
    node.entries[name] = Entry(entry.key_position, broken)
    if isinstance(value, Scalar) and value.broken:
        return
    try:
        content = _read(value, folder)
    except ValueError as error:
        problems.add(value.position, (*location, twin), str(error))
        return
    if secret_kind(model.model_fields[name].annotation) == "many":
        lines = [line.strip() for line in content.splitlines() if line.strip()]
        items: list[Node] = [Scalar(value.position, line, line, plain=False) for line in lines]
        node.entries[name] = Entry(entry.key_position, Sequence(value.position, items))
    else:
        node.entries[name] = Entry(entry.key_position, Scalar(value.position, content, content, plain=False))


def _is_empty(node: Node) -> bool:
    match node:
        case Scalar():
            return not node.text and not node.broken
        case Sequence():
            return not node.items
        case _:
            return False


def _read(value: Node, folder: Path) -> str:
    """The content without the newline at its end. Raises ValueError, which names the file."""
    if not isinstance(value, Scalar):
        raise ValueError("expected the path of a file that holds the secret")
    path = folder / value.text
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SECRET + 1)
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
    return text
