"""The configuration file → `Settings`, or every problem in it at once.

Each problem is one line, `file:line:column: path: what is wrong and what is allowed`, in the order
of the file. Secrets are not in them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping as AnyMapping
from pathlib import Path

from relay.errors import ConfigError, UsageError
from relay.settings._reader.nodes import Entry, Location, Mapping, Node, Problems, Scalar, child, to_data
from relay.settings._reader.parser import MAX_SOURCE, parse
from relay.settings._reader.secret_files import read_secret_files
from relay.settings._reader.validate import validate
from relay.settings.checks import check
from relay.settings.formatting import describe, listing, near_miss
from relay.settings.models import Settings
from relay.settings.options import ProviderOptions
from relay.settings.redaction import secrets_in
from relay.settings.snapshot import SecretFiles, Snapshot
from relay.settings.template import read_templates, refuse_templates
from relay.text import SHORTEST

Adapters = AnyMapping[str, type[ProviderOptions]]
"""The options of each adapter by its `type`. A look-up raises UsageError if the adapter cannot be used."""

_STAND_IN = ProviderOptions.model_construct(type="")


def load(path: str | Path, adapters: Adapters, env: AnyMapping[str, str] = os.environ) -> Settings:
    """Return the settings in the file at `path`, with `${NAME}` from `env`.

    Raises ConfigError with all that is wrong.
    """
    settings, _ = load_with_snapshot(path, adapters, env)
    return settings


def load_with_snapshot(
    path: str | Path, adapters: Adapters, env: AnyMapping[str, str] = os.environ
) -> tuple[Settings, Snapshot]:
    """Return the settings in the file at `path`, and a snapshot of all files that were read.

    Raises ConfigError with all that is wrong.
    """
    text = _read_text(Path(path))
    files = SecretFiles()
    settings = loads(text, path, adapters, env, files)
    return settings, Snapshot(str(path), text, files.contents)


def restore(snapshot: Snapshot, adapters: Adapters, env: AnyMapping[str, str] = os.environ) -> Settings:
    """Return the settings of a snapshot without reading files. Raises ConfigError with all problems."""
    return loads(snapshot.text, snapshot.path, adapters, env, SecretFiles(snapshot.secrets))


def _read_text(path: Path) -> str:
    """Return the text of a configuration file. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SOURCE + 1)  # one more than `parse` accepts
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        if len(content) > MAX_SOURCE:
            line, column, what = 1, 1, f"the file is larger than {MAX_SOURCE // 1024} KiB"
        else:
            what = "the file is not UTF-8; save it as UTF-8"
        raise ConfigError([f"{path}:{line}:{column}: {what}"]) from None
    except FileNotFoundError:
        raise ConfigError([f"{path}: there is no such file; `relay init` writes one to start from"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    except ValueError:
        raise ConfigError([f"{describe(str(path))} is not a path"]) from None


def loads(
    text: str,
    filename: str | Path,
    adapters: Adapters,
    env: AnyMapping[str, str] = os.environ,
    files: SecretFiles | None = None,
) -> Settings:
    """Return the settings in a text. Errors contain `filename`, and relative paths begin at its folder.

    Raises ConfigError with all that is wrong.
    """
    problems = Problems(str(filename))
    root = parse(text, env, problems)
    settings, files = None, files or SecretFiles()
    if isinstance(root, Mapping):
        settings = _read(root, adapters, Path(filename).parent, problems, files)
    elif root is not None and not problems.found:
        what = "is empty" if to_data(root) is None else f"is {_kind(root)}"
        problems.add(root.position, (), f"the file {what}; expected a mapping with `queues` and `providers`")
    if settings is None or problems.found:
        raise ConfigError(problems.lines())
    holds_secrets = any(secret in text for secret in secrets_in(settings) if len(secret) >= SHORTEST)
    return settings.read_from(Path(filename), files.paths, holds_secrets=holds_secrets)


def _read(
    root: Mapping, adapters: Adapters, folder: Path, problems: Problems, files: SecretFiles
) -> Settings | None:
    read_secret_files(Settings, root, (), folder, problems, files)
    for name, entry in root.entries.items():
        if name != "providers":
            refuse_templates(entry.node, (name,), problems)
    providers = child(root, "providers")
    options: dict[str, ProviderOptions] = {}
    if isinstance(providers, Mapping):
        for name, entry in providers.entries.items():
            options[name] = _provider(entry, ("providers", name), adapters, folder, problems, files)

    def data(node: Node) -> object:
        mapping = to_data(node)
        if isinstance(mapping, dict) and isinstance(providers, Mapping):
            mapping["providers"] = options
        return mapping

    settings = validate(Settings, root, (), problems, data)
    check(root, options, problems)
    return settings


def _provider(
    entry: Entry,
    location: Location,
    adapters: Adapters,
    folder: Path,
    problems: Problems,
    files: SecretFiles,
) -> ProviderOptions:
    """Return the options of one provider, or a stand-in for invalid options, so that the rest is checked."""
    node = entry.node
    if not isinstance(node, Mapping):
        if not (isinstance(node, Scalar) and node.broken):
            problems.add(
                node.position, location, f"expected a mapping with `type`, got {describe(to_data(node))}"
            )
        return _STAND_IN
    model = _model(node, location, adapters, problems)
    if model is None:
        _check_common(node, location, problems)
        return _STAND_IN
    read_secret_files(model, node, location, folder, problems, files)
    read_templates(model, node, location, problems)
    return validate(model, node, location, problems) or _STAND_IN


def _model(
    node: Mapping, location: Location, adapters: Adapters, problems: Problems
) -> type[ProviderOptions] | None:
    kind = child(node, "type")
    if isinstance(kind, Scalar) and kind.broken:
        return None
    if kind is None:
        problems.add(node.position, location, f"the key `type` is missing; write {listing(adapters)}")
        return None
    if isinstance(kind, Scalar) and kind.value is not None and kind.text in adapters:
        try:
            return adapters[kind.text]
        except UsageError as error:
            problems.add(kind.position, (*location, "type"), str(error))
            return None
    name = describe(kind.text if isinstance(kind, Scalar) and kind.value is not None else to_data(kind))
    hint = near_miss(kind.text, adapters) if isinstance(kind, Scalar) else ""
    text = (
        f"there is no adapter {name}; {hint + ' ' if hint else ''}available: {', '.join(adapters) or 'none'}"
    )
    problems.add(kind.position, (*location, "type"), text)
    return None


def _check_common(node: Mapping, location: Location, problems: Problems) -> None:
    """Check a provider of an unknown adapter: the options that all adapters share."""
    known = {key: entry for key, entry in node.entries.items() if key in ProviderOptions.model_fields}
    known["type"] = Entry(node.position, Scalar(node.position, "unknown", "unknown"))
    validate(ProviderOptions, Mapping(node.position, known), location, problems)


def _kind(node: Node) -> str:
    return "one value" if isinstance(node, Scalar) else "a list"
