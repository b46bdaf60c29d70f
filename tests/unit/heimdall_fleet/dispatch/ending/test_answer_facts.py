"""What an answer shows of its own worth."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.dispatch.ending.answer_facts import answer_facts, keeps_to

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": ["integer", "null"]},
        "friends": {"$ref": "#/$defs/all"},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
    "$defs": {"all": {"type": "array", "items": {"$ref": "#"}}},
}


def facts(content: str | None, reason: str = "stop", **body: Any) -> dict[str, Any]:
    return answer_facts({"choices": [{"finish_reason": reason, "message": {"content": content}}]}, body)


def test_an_ordinary_answer_finished_and_did_not_decline() -> None:
    assert facts("42") == {"finish_reason": "stop", "refused": False, "schema_valid": None}


@pytest.mark.parametrize(
    "answer",
    [
        {"finish_reason": "stop", "message": {"content": None, "refusal": "no"}},
        {"finish_reason": "content_filter", "message": {"content": "half"}},
        {"finish_reason": "stop", "message": {"content": "I’m sorry, but I can’t do that."}},
    ],
)
def test_a_model_declines_by_field_by_filter_or_by_its_first_words(answer: dict[str, Any]) -> None:
    assert answer_facts({"choices": [answer]}, {})["refused"] is True


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        ({"name": "Ada", "age": 36}, True),
        ({"name": "Ada", "age": None, "friends": [{"name": "B", "age": 1}]}, True),
        ({"name": "Ada"}, False),
        ({"name": "Ada", "age": True}, False),
        ({"name": "Ada", "age": 1, "email": "x"}, False),
        ({"name": "Ada", "age": 1, "friends": [{"name": 3, "age": 1}]}, False),
        ([], False),
    ],
)
def test_structured_output_keeps_the_shape_that_was_asked_for(value: Any, valid: bool) -> None:
    asked = {"type": "json_schema", "json_schema": {"schema": PERSON}}
    assert facts(orjson.dumps(value).decode(), response_format=asked)["schema_valid"] is valid


def test_without_a_schema_any_object_will_do() -> None:
    asked = {"type": "json_object"}
    assert [facts(text, response_format=asked)["schema_valid"] for text in ("{}", "3", "{", None)] == [
        True,
        False,
        False,
        None,
    ]


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"enum": [1, "a"]}, "a", "b"),
        ({"const": 3}, 3, 4),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, None, 5),
        ({"allOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"a": 1, "b": 2}, {"a": 1}),
        ({"additionalProperties": {"type": "number"}}, {"x": 1.5}, {"x": "y"}),
    ],
)
def test_each_keyword(schema: dict[str, Any], good: Any, bad: Any) -> None:
    assert keeps_to(good, schema, schema)
    assert not keeps_to(bad, schema, schema)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "$ref", "items", "x"]), inner),
)


@given(JSON, JSON)
def test_no_schema_and_no_value_make_it_fail(value: Any, schema: Any) -> None:
    root = {"$ref": "#", "properties": {"x": {"$ref": "#/items"}}}
    assert keeps_to(value, schema, root) in (True, False)
