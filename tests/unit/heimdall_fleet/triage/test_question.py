"""What a decision record says of the question: nothing, its keyed hash, or its words."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.triage.question import KEPT_CHARS, LOOKED_AT, Questions, last_question

KEYED = Questions(b"a secret of the fleet")
ALL = Questions(b"a secret of the fleet", frozenset({"acme"}))


def body(*texts: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text} for text in texts], **fields}


def test_without_a_secret_and_without_leave_nothing_is_said() -> None:
    assert Questions().fields(body("How tall is the tower?"), "acme") == {}


def test_a_question_asked_again_in_other_capitals_spaces_and_forms_has_the_same_hash() -> None:
    said = {KEYED.fields(body(text), None)["question"] for text in ("ﬁne  Day?", "Fine day?", " fine\nday? ")}
    assert len(said) == 1


def test_another_question_and_another_secret_have_another_hash() -> None:
    first = KEYED.fields(body("one"), None)["question"]
    assert first != KEYED.fields(body("two"), None)["question"]
    assert first != Questions(b"the secret of another fleet").fields(body("one"), None)["question"]


def test_the_hash_does_not_hold_the_words() -> None:
    said = KEYED.fields(body("secret plans"), "acme")
    assert said.keys() == {"question"}
    assert set(said["question"]) <= set("0123456789abcdef")


def test_words_are_kept_only_of_the_tenants_named() -> None:
    assert ALL.fields(body("How tall?"), "acme")["text"] == "How tall?"
    assert "text" not in ALL.fields(body("How tall?"), "other")
    assert "text" not in ALL.fields(body("How tall?"), None)


def test_the_last_question_is_that_of_the_user_and_not_what_stands_behind_it() -> None:
    messages = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "answer"},
        {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image_url"}, {"text": "here"}]},
        {"role": "tool", "content": "found it"},
    ]
    assert last_question({"messages": messages}) == "look\nhere"


def test_a_body_without_a_question_has_no_hash() -> None:
    bodies: list[dict[str, Any]] = [{}, {"messages": []}, body(""), body(None)]
    for empty in [*bodies, {"messages": [{"role": "system", "content": "x"}]}]:
        assert ALL.fields(empty, "acme") == {}


def test_a_long_question_is_kept_with_its_head_and_its_tail() -> None:
    text = ALL.fields(body("a" * KEPT_CHARS + "end"), "acme")["text"]
    assert len(text) == KEPT_CHARS
    assert text.endswith("end")


def test_only_the_end_of_a_hundred_thousand_messages_is_looked_at() -> None:
    messages = [{"role": "user", "content": "far"}, *[{"role": "assistant", "content": "x"}] * LOOKED_AT]
    assert last_question({"messages": messages}) == ""


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_whatever_a_body_holds_is_survived(content: Any) -> None:
    for found in ({"messages": content}, body(content), body([content]), {"messages": [content]}):
        assert ALL.fields(found, "acme").keys() <= {"question", "text"}
