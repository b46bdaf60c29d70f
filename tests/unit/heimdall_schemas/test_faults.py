"""One wording of what is wrong with a message, whoever reads it."""

import pytest
from pydantic import BaseModel, ValidationError

from heimdall_schemas.control import Cancel, Feedback, Pointer
from heimdall_schemas.faults import Faults, faults_of


def faults(message: type[BaseModel], json: str, within: str = "") -> Faults:
    with pytest.raises(ValidationError) as caught:
        message.model_validate_json(json)
    return faults_of(caught.value, within=within, known=message.model_fields)


@pytest.mark.parametrize(
    ("message", "json", "within", "text", "param"),
    [
        (Cancel, "{}", "", "request_id: is required", "request_id"),
        (Cancel, "[]", "", "body: must be an object", "body"),
        (
            Feedback,
            '{"request_id": "r", "score": 7}',
            "feedback",
            "feedback.score: Input should be less",
            "feedback.score",
        ),
        (Pointer, '{"name": "n"}', "", "url: is required; sha256: is required", "url"),
    ],
)
def test_each_fault_has_its_place_and_what_is_wrong(
    message: type[BaseModel], json: str, within: str, text: str, param: str
) -> None:
    found = faults(message, json, within)
    assert found.text.startswith(text)
    assert found.param == param


def test_the_values_at_fault_are_never_told_and_many_faults_are_counted() -> None:
    class Wide(BaseModel):
        numbers: list[int]

    found = faults(Wide, '{"numbers": [' + ",".join(['"canary"'] * 11) + "]}")
    assert "canary" not in found.text
    assert found.text.endswith("; and 3 more")
    assert found.text.count("numbers[") == 8
