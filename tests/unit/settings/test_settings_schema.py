"""The JSON Schema of the file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from relay.message.schema import message_schema
from relay.provider import AdapterOptions, discover
from relay.settings.options import ProviderOptions
from relay.settings.schema import config_schema


@pytest.fixture
def schema(adapters: dict[str, type[ProviderOptions]]) -> dict[str, Any]:
    return config_schema(adapters)


def test_the_schema_is_json_of_the_current_draft(schema: dict[str, Any]) -> None:
    assert json.loads(json.dumps(schema))["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_unknown_keys_are_refused_everywhere(schema: dict[str, Any]) -> None:
    objects = [
        schema,
        *(part for name, part in schema["$defs"].items() if "properties" in part and name != "provider"),
    ]
    assert len(objects) > 6
    assert all(part["additionalProperties"] is False for part in objects)


def test_the_type_of_a_provider_decides_its_options(schema: dict[str, Any]) -> None:
    provider = schema["$defs"]["provider"]
    assert schema["properties"]["providers"]["additionalProperties"] == {"$ref": "#/$defs/provider"}
    assert provider["properties"]["type"]["enum"] == ["pusher", "webhook"]
    assert [rule["then"]["$ref"] for rule in provider["allOf"]] == [
        "#/$defs/provider.pusher",
        "#/$defs/provider.webhook",
    ]
    assert schema["$defs"]["provider.pusher"]["properties"]["type"]["const"] == "pusher"


def test_a_required_secret_may_come_from_a_file_instead(schema: dict[str, Any]) -> None:
    pusher = schema["$defs"]["provider.pusher"]
    assert pusher["required"] == ["type", "app_id", "key"]
    assert pusher["allOf"] == [{"oneOf": [{"required": ["secret"]}, {"required": ["secret_file"]}]}]
    assert pusher["properties"]["secret_file"]["type"] == "string"


def test_an_optional_secret_and_a_list_of_them_have_files_too(schema: dict[str, Any]) -> None:
    webhook = schema["$defs"]["provider.webhook"]
    assert "one in each line" in webhook["properties"]["secrets_file"]["description"]
    assert {"not": {"required": ["secret", "secret_file"]}} in webhook["allOf"]
    assert "url_file" in schema["$defs"]["RedisSettings"]["properties"]
    assert "token_file" in schema["$defs"]["AdminSettings"]["properties"]


def test_descriptions_and_defaults_are_there(schema: dict[str, Any]) -> None:
    options = schema["$defs"]["provider.webhook"]["properties"]
    assert options["concurrency"]["default"] == 64
    assert "in flight" in options["concurrency"]["description"]
    assert schema["$defs"]["RedisSettings"]["properties"]["url"]["default"] == "redis://127.0.0.1:6379/0"


def test_a_reference_may_stand_for_a_number(schema: dict[str, Any]) -> None:
    concurrency = schema["$defs"]["provider.webhook"]["properties"]["concurrency"]
    assert concurrency["anyOf"] == [
        {"maximum": 10000, "minimum": 1, "type": "integer"},
        {"$ref": "#/$defs/Reference"},
    ]


def test_every_reference_inside_the_schema_leads_somewhere(schema: dict[str, Any]) -> None:
    def references(part: object) -> Iterator[str]:
        if isinstance(part, dict):
            yield from ([part["$ref"]] if isinstance(part.get("$ref"), str) else [])
            part = list(part.values())
        if isinstance(part, list):
            for inner in part:
                yield from references(inner)

    assert {name.removeprefix("#/$defs/") for name in references(schema)} == set(schema["$defs"])


def test_two_adapters_may_share_their_options() -> None:
    schema = config_schema({"a": ProviderOptions, "b": ProviderOptions})
    assert schema["$defs"]["provider.a"]["properties"]["type"]["const"] == "a"
    assert schema["$defs"]["provider.b"]["properties"]["type"]["const"] == "b"


def test_the_limits_of_durations_and_sizes_are_those_that_the_file_allows(schema: dict[str, Any]) -> None:
    provider = schema["$defs"]["provider.webhook"]["properties"]
    assert {"type": "number", "exclusiveMinimum": 0} in provider["timeout"]["anyOf"]
    assert {"type": "number", "minimum": 0} in provider["warmup"]["anyOf"]
    queue = schema["$defs"]["QueueSettings"]["properties"]
    assert {"type": "integer", "minimum": 1} in queue["max_size"]["anyOf"]


def descriptions(schema: Any) -> Iterator[str]:
    """All descriptions in a schema, at any depth."""
    if isinstance(schema, list):
        for part in schema:
            yield from descriptions(part)
    elif isinstance(schema, dict):
        for name, part in schema.items():
            if name == "description" and isinstance(part, str):
                yield part
            else:
                yield from descriptions(part)


def test_a_description_is_one_line_and_names_no_document_that_users_lack() -> None:
    found = list(descriptions(config_schema(AdapterOptions(discover()))))
    assert len(found) > 100
    assert [text for text in found if "\n" in text or "contract" in text] == []


def test_a_description_begins_with_a_noun_or_a_verb_and_is_a_sentence() -> None:
    clause = re.compile(r"(What|Whatever|Who|Whoever|Where|When|Whether|How|Which|The most|The least) ")
    for text in (*descriptions(config_schema(AdapterOptions(discover()))), *descriptions(message_schema())):
        assert not clause.match(text), text
        assert text[0].isupper() or text[0] == "`", text
        assert text.endswith("."), text


def test_a_file_with_several_lines_is_offered_for_lists_of_secrets_only() -> None:
    definitions = config_schema(AdapterOptions(discover()))["$defs"]
    assert "one in each line" in definitions["provider.webhook"]["properties"]["secrets_file"]["description"]
    assert "line" not in definitions["provider.http"]["properties"]["body_file"]["description"]
