"""`relay init`: writes a configuration to start from, with the parts of the example that it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
import yaml

from relay.cli import common
from relay.cli.key_files import KEY_FILES, application_server_key, write_new
from relay.errors import UsageError
from relay.provider import AdapterOptions, Adapters, discover
from relay.settings.example import Kind, read_example, starter
from relay.settings.load import loads
from relay.settings.placeholders import placeholders
from relay.settings.snapshot import SecretFiles


def init(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", help="File to write. Default: `$RELAY_CONFIG`, otherwise `./relay.yaml`."
        ),
    ] = None,
    provider: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TYPE",
            help="Type of provider. Repeat it for several. Default: `webhook`.",
            show_default=False,
        ),
    ] = None,
    redis: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="URL of Redis, such as `embedded://./data`. Default: `redis://127.0.0.1:6379/0`.",
        ),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--all", help="Write every provider and every key with its default.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a commented configuration file to start from.

    The file passes `relay check`. If a provider needs a key file, `init` writes one next to it: a real
    key for Web Push, a placeholder for FCM and APNs. It never replaces a key file.

    Example: `relay init --provider fcm`
    """
    path = common.named_path(context, config) or common.DEFAULT_FILE
    if path.exists() and not force:
        raise UsageError(f"{path} exists already; --force replaces it, -c names another file")
    if whole and (provider or redis):
        raise UsageError("--all writes the whole example; leave out --provider and --redis")
    example, adapters = read_example(), discover()
    types = list(dict.fromkeys(provider or ["webhook"]))
    text = example if whole else starter(example, _kinds(adapters, types), redis)
    keys = {} if whole else _missing_keys(text, path.parent)
    contents = {str(key.path): key.content for key in keys.values()}
    # An error here names a line of the new file, for example because a variable of the environment is wrong.
    settings = loads(text, path, AdapterOptions(adapters), files=SecretFiles(contents))
    for key in keys.values():
        write_new(key.path, key.content)
    _write(path, text.encode(), replace=force)
    common.note(f"{path}: written")
    for line in _remarks(keys):
        common.note(line)
    for name, options in settings.providers.items():
        if unfilled := sorted(placeholders(options)):
            common.note(f"providers.{name}: fill in {', '.join(unfilled)}")
    common.note("Next: relay check --connect")


def _write(path: Path, content: bytes, *, replace: bool) -> None:
    try:
        if replace:
            path.unlink(missing_ok=True)
        write_new(path, content)
    except FileExistsError:
        raise UsageError(f"{path} exists already; --force replaces it, -c names another file") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


@dataclass(frozen=True)
class _Key:
    path: Path
    content: bytes


def _kinds(adapters: Adapters, types: Sequence[str]) -> Mapping[str, Kind]:
    if unknown := [name for name in types if name not in adapters]:
        raise UsageError(f"no adapter {unknown[0]!r}; known: {', '.join(adapters)}")
    found = {}
    for name in types:
        fields = adapters[name].Options.model_fields
        open_keys = [
            key
            for key, field in fields.items()
            if field.is_required() or field.get_default(call_default_factory=True) is None
        ]
        found[name] = Kind(set(fields), set(open_keys))
    return found


def _missing_keys(text: str, folder: Path) -> dict[str, _Key]:
    """Return a new key for each key file that the text names and that does not exist, by type of provider."""
    found = {}
    for options in yaml.safe_load(text)["providers"].values():
        kind = options["type"]
        for name, value in options.items():
            if name.endswith("_file") and kind in KEY_FILES and not (folder / value).exists():
                found[kind] = _Key(folder / value, KEY_FILES[kind].make())
    return found


def _remarks(keys: Mapping[str, _Key]) -> Iterator[str]:
    for kind, key in keys.items():
        if origin := KEY_FILES[kind].origin:
            yield f"{key.path}: a placeholder; replace it with {origin}"
        else:
            yield f"{key.path}: a new key; applicationServerKey: {application_server_key(key.content)}"
