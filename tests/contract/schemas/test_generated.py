"""The generated files: fresh, deterministic, and an AsyncAPI document that holds together."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from heimdall_schemas import headers as h
from heimdall_schemas.generate import MESSAGES, differences, files, json_schema, main
from heimdall_schemas.request import Options
from heimdall_schemas.topics import Topics

SCHEMAS = Path(__file__).parents[3] / "schemas"
DOCUMENT: dict[str, Any] = json.loads((SCHEMAS / "asyncapi.json").read_text())

REF = {
    "type": "object",
    "required": ["$ref"],
    "properties": {"$ref": {"type": "string"}},
    "additionalProperties": False,
}
REFS = {"type": "array", "items": REF, "minItems": 1}
STRUCTURE: dict[str, Any] = {
    "type": "object",
    "required": ["asyncapi", "info", "channels", "operations", "components"],
    "properties": {
        "asyncapi": {"pattern": r"^3\.1\.\d+$"},
        "id": {"format": "uri"},
        "info": {"type": "object", "required": ["title", "version"]},
        "defaultContentType": {"type": "string"},
        "servers": {"additionalProperties": {"type": "object", "required": ["host", "protocol"]}},
        "channels": {
            "additionalProperties": {
                "type": "object",
                "required": ["address", "messages"],
                "properties": {
                    "address": {"type": ["string", "null"]},
                    "messages": {"type": "object", "additionalProperties": REF, "minProperties": 1},
                    "title": {"type": "string"},
                    "description": {"type": "string"},
                    "bindings": {
                        "required": ["kafka"],
                        "properties": {
                            "kafka": {
                                "required": ["topic", "partitions", "topicConfiguration", "bindingVersion"],
                                "properties": {
                                    "partitions": {"type": "integer", "minimum": 1},
                                    "topicConfiguration": {
                                        "properties": {
                                            "cleanup.policy": {"items": {"enum": ["compact", "delete"]}},
                                            "retention.ms": {"type": "integer", "minimum": -1},
                                            "max.message.bytes": {"type": "integer", "minimum": 1},
                                        },
                                        "additionalProperties": False,
                                    },
                                },
                            }
                        },
                    },
                },
                "additionalProperties": False,
            }
        },
        "operations": {
            "additionalProperties": {
                "type": "object",
                "required": ["action", "channel"],
                "properties": {
                    "action": {"enum": ["send", "receive"]},
                    "channel": REF,
                    "summary": {"type": "string"},
                    "messages": REFS,
                    "reply": {
                        "properties": {
                            "address": {
                                "required": ["location"],
                                "properties": {"location": {"pattern": r"^\$message\.(header|payload)#(/.+)?$"}},
                            },
                            "channel": REF,
                            "messages": REFS,
                        },
                        "additionalProperties": False,
                    },
                },
                "additionalProperties": False,
            }
        },
        "components": {
            "type": "object",
            "properties": {
                "messages": {"$ref": "#/definitions/named"},
                "messageTraits": {"$ref": "#/definitions/named"},
            },
            "additionalProperties": False,
        },
    },
    "additionalProperties": False,
    "definitions": {
        "named": {"propertyNames": {"pattern": r"^[a-zA-Z0-9._-]+$"}, "additionalProperties": {"type": "object"}}
    },
}


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def resolved(reference: str, document: Any) -> Any:
    file, _, pointer = reference.partition("#")
    found = json.loads((SCHEMAS / file).read_text()) if file else document
    for step in filter(None, pointer.split("/")):
        found = found[step.replace("~1", "/").replace("~0", "~")]
    return found


@pytest.mark.parametrize("said", [None, dict.fromkeys(Options.model_fields)], ids=["nothing", "no field"])
def test_the_published_request_takes_null_for_what_was_not_set(said: dict[str, None] | None) -> None:
    request = {"messages": [{"role": "user", "content": "Hello!"}], "heimdall": said}
    assert Draft7Validator(json_schema("request")).is_valid(request)


def test_the_published_request_refuses_two_deadlines() -> None:
    both = {"deadline": "2026-11-21T12:00:00Z", "ttl_ms": 5}
    request = {"messages": [{"role": "user", "content": "Hello!"}], "heimdall": both}
    assert not Draft7Validator(json_schema("request")).is_valid(request)


def test_the_generated_files_are_fresh() -> None:
    assert differences(SCHEMAS, files(Topics())) == []


def test_the_same_sources_give_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    here = os.pathsep.join(sys.path)  # the packages that are tested, which need not be the installed ones
    subprocess.run(
        [sys.executable, "-m", "heimdall_schemas.generate", str(tmp_path)],
        check=True,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": here},
    )
    assert differences(tmp_path, files(Topics())) == []


def test_the_check_names_what_is_missing_stale_and_left_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 0
    assert main([str(tmp_path), "--check"]) == 0
    (tmp_path / "json" / "reply.json").unlink()
    (tmp_path / "asyncapi.json").write_text("{}")
    (tmp_path / "json" / "letter.json").write_text("{}")
    assert main([str(tmp_path), "--check"]) == 1
    said = capsys.readouterr().err
    assert "json/reply.json is missing" in said
    assert "asyncapi.json is stale" in said
    assert "json/letter.json belongs to no message" in said


@pytest.mark.parametrize("name", MESSAGES)
def test_every_schema_is_a_valid_schema_whose_references_resolve(name: str) -> None:
    schema = json_schema(name)
    Draft7Validator.check_schema(schema)
    assert all(resolved(reference, schema) for reference in references(schema))


def test_the_document_has_the_structure_of_asyncapi_3() -> None:
    assert [error.message for error in Draft7Validator(STRUCTURE).iter_errors(DOCUMENT)] == []


def test_every_reference_of_the_document_resolves() -> None:
    found = set(references(DOCUMENT))
    assert len(found) > 30
    for reference in found:
        assert resolved(reference, DOCUMENT) is not None, reference


def test_every_topic_is_a_channel_with_its_partitions_and_clean_up() -> None:
    channels = {channel["address"]: channel for channel in DOCUMENT["channels"].values()}
    for topic in Topics().all():
        binding = channels[topic.name]["bindings"]["kafka"]
        assert binding["topic"] == topic.name
        assert binding["partitions"] == topic.partitions
        assert ",".join(binding["topicConfiguration"]["cleanup.policy"]) == topic.cleanup_policy
        assert binding["topicConfiguration"].get("retention.ms") == topic.retention_ms


def test_a_request_is_answered_where_its_headers_say() -> None:
    reply = DOCUMENT["operations"]["answerRequest"]["reply"]
    assert reply["address"]["location"] == "$message.header#/reply-to"
    channel = resolved(reply["channel"]["$ref"], DOCUMENT)
    assert channel["address"] is None  # required where the reply's address is only known at run time
    for name in channel["messages"]:
        correlation = [
            resolved(trait["$ref"], DOCUMENT).get("correlationId")
            for trait in DOCUMENT["components"]["messages"][name]["traits"]
        ]
        assert {"location": "$message.header#/correlation-id"} in correlation


def test_the_messages_of_an_operation_are_messages_of_its_channel() -> None:
    for operation in DOCUMENT["operations"].values():
        prefix = operation["channel"]["$ref"] + "/messages/"
        assert all(message["$ref"].startswith(prefix) for message in operation["messages"])


def test_every_header_the_fleet_names_is_described() -> None:
    names = {
        value
        for name, value in vars(h).items()
        if name.isupper() and isinstance(value, str) and re.fullmatch(r"[a-z_-]+", value)
    }
    assert names <= described()


def described() -> set[str]:
    traits = DOCUMENT["components"]["messageTraits"].values()
    orders = json.loads((SCHEMAS / "json" / "order-headers.json").read_text())["properties"]
    return {name for trait in traits for name in trait["headers"]["properties"]} | set(orders)
