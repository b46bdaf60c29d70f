"""The golden messages, against the published schemas and against the classes that read them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema import Draft7Validator
from pydantic import BaseModel

from heimdall_schemas import headers as h
from heimdall_schemas.audit import AUDIT
from heimdall_schemas.control import Cancel, Drift, Feedback, Pointer
from heimdall_schemas.order import plan_header, plan_of, read_order
from heimdall_schemas.reply import read_reply
from heimdall_schemas.request import Request, read_request
from heimdall_schemas.topics import Topics

SCHEMAS = Path(__file__).parents[3] / "schemas"
EXAMPLES = {path.stem: json.loads(path.read_text()) for path in sorted((SCHEMAS / "examples").glob("*.json"))}

EVERY = pytest.mark.parametrize("name", EXAMPLES)

Read = Callable[[bytes], BaseModel]

READERS: dict[str, Read] = {
    "request": lambda value: Request.model_validate(read_request(value)[1]),
    "order": lambda value: Request.model_validate(read_request(value)[1]),
    "reply": read_reply,
    "error-reply": read_reply,
    "reply-chunk": read_reply,
    "decision-record": AUDIT.validate_json,
    "outcome-record": AUDIT.validate_json,
    "shadow-record": AUDIT.validate_json,
    "cancel": Cancel.model_validate_json,
    "feedback": Feedback.model_validate_json,
    "pointer": Pointer.model_validate_json,
    "drift": Drift.model_validate_json,
}


def schema(name: str) -> Draft7Validator:
    loaded = json.loads((SCHEMAS / "json" / f"{name}.json").read_text())
    Draft7Validator.check_schema(loaded)
    return Draft7Validator(loaded)


def read(name: str) -> BaseModel:
    example = EXAMPLES[name]
    return READERS[example["message"]](orjson.dumps(example["value"]))


def differing(given: Any, again: Any, path: str = "") -> list[str]:
    """Where `again` lost or changed something of `given`; what it adds are defaults."""
    if isinstance(given, dict) and isinstance(again, dict):
        return [
            line
            for key, value in given.items()
            for line in ([f"{path}.{key}"] if key not in again else differing(value, again[key], f"{path}.{key}"))
        ]
    if isinstance(given, list) and isinstance(again, list) and len(given) == len(again):
        return [
            line for n, pair in enumerate(zip(given, again, strict=True)) for line in differing(*pair, f"{path}[{n}]")
        ]
    return [] if given == again else [path]


def with_unknown_fields(value: Any) -> Any:
    """Every object gets a field that only a newer fleet knows; the closed object `heimdall` of a request does not."""
    if isinstance(value, list):
        return [with_unknown_fields(item) for item in value]
    if isinstance(value, dict):
        return {"from_tomorrow": 1, **{key: with_unknown_fields(item) for key, item in value.items()}}
    return value


def test_there_is_an_example_for_every_message() -> None:
    assert {example["message"] for example in EXAMPLES.values()} == set(READERS)


@EVERY
def test_an_example_satisfies_its_schema(name: str) -> None:
    message = EXAMPLES[name]["message"]
    validator = schema("request" if message == "order" else message)
    assert [error.message for error in validator.iter_errors(EXAMPLES[name]["value"])] == []


@EVERY
def test_an_example_loses_nothing_on_the_way_through_its_class(name: str) -> None:
    again = read(name).model_dump(mode="json")
    given = EXAMPLES[name]["value"]
    assert differing(given, again) == []


@EVERY
def test_what_a_class_writes_satisfies_the_schema(name: str) -> None:
    message = EXAMPLES[name]["message"]
    written = read(name).model_dump(mode="json", exclude_unset=True)
    assert schema("request" if message == "order" else message).is_valid(written)


@EVERY
def test_fields_of_a_newer_writer_are_kept(name: str) -> None:
    example = EXAMPLES[name]
    if example["message"] in ("request", "order"):
        newer = {"from_tomorrow": 1, **example["value"]}
    else:
        newer = with_unknown_fields(example["value"])
        for closed in ("features", "alpha_scores", "bucket_probabilities", "timings_ms", "penalties"):
            _prune(newer, closed)
    again = READERS[example["message"]](orjson.dumps(newer)).model_dump(mode="json")
    assert differing(newer, again) == []


def _prune(value: Any, name: str) -> None:
    """Maps of numbers are no objects with fields: nothing unknown can stand there."""
    if isinstance(value, list):
        for item in value:
            _prune(item, name)
    elif isinstance(value, dict):
        if isinstance(value.get(name), dict):
            value[name].pop("from_tomorrow", None)
        for item in value.values():
            _prune(item, name)


@EVERY
def test_an_example_stands_on_a_topic_of_the_table(name: str) -> None:
    assert EXAMPLES[name]["topic"] in {topic.name for topic in Topics().all()}


@EVERY
def test_the_headers_of_an_example_can_be_read(name: str) -> None:
    headers = [(key, value.encode()) for key, value in EXAMPLES[name]["headers"].items()]
    h.check(headers)
    assert h.without(headers, ()) == headers
    assert h.expiry_ms(h.last(headers), 0) in (None, 120_000, 1_795_262_430_000)


def test_the_order_example_is_read_as_an_order_and_satisfies_its_header_schemas() -> None:
    example = EXAMPLES["order"]
    body = orjson.dumps(example["value"])
    order = read_order(body, {key: value.encode() for key, value in example["headers"].items()})
    assert order.body == body
    written = orjson.loads(plan_header(order.plan))
    assert plan_of(written) == plan_of(json.loads(example["headers"]["heimdall-plan"])) == order.plan
    schema("order-headers").validate(example["headers"])
    schema("plan").validate(json.loads(example["headers"]["heimdall-plan"]))
    schema("decision").validate(json.loads(example["headers"]["heimdall-decision"]))


def test_the_schema_refuses_what_the_class_refuses() -> None:
    value = EXAMPLES["request-with-everything"]["value"]
    validator = schema("request")
    assert not validator.is_valid({**value, "messages": []})
    assert not validator.is_valid({**value, "heimdall": {**value["heimdall"], "ttl_ms": 5}})
    assert not validator.is_valid({**value, "heimdall": {"tennant": "x"}})
    assert not schema("feedback").is_valid({"request_id": "r"})
