"""JSON Schemas for providers that take only closed ones without bounds."""

from typing import Any

import pytest

from heimdall_fleet.providers.json_schemas import closed, in_words


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "object"}, {"type": "object", "properties": {}, "additionalProperties": False}),
        (
            {"type": "string", "minLength": 1, "description": "a name"},
            {"type": "string", "description": "a name (minLength 1)"},
        ),
        (
            {"type": "array", "items": {"type": "object"}, "maxItems": 3},
            {
                "type": "array",
                "items": {"type": "object", "properties": {}, "additionalProperties": False},
                "description": "(maxItems 3)",
            },
        ),
        ({"oneOf": [{"type": "null"}], "$schema": "x"}, {"anyOf": [{"type": "null"}]}),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "integer"}}}, {"type": "integer"}),
        (
            {"properties": {"minimum": {"type": "integer"}}, "additionalProperties": True},
            {"properties": {"minimum": {"type": "integer"}}, "additionalProperties": False},
        ),
        ({"$ref": "#/$defs/missing"}, {"description": "(missing)"}),
    ],
)
def test_a_schema_is_closed_and_its_bounds_are_words(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    assert closed(schema) == expected


def test_a_schema_that_contains_itself_ends() -> None:
    tree = {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}}}
    found = closed({"$ref": "#/$defs/tree", "$defs": {"tree": tree}})
    assert found["properties"]["left"] == {"description": "(tree)"}


def test_a_schema_in_words_carries_the_schema() -> None:
    assert '{"type":"object"}' in in_words({"type": "object"})
    assert "JSON Schema" not in in_words(None)
