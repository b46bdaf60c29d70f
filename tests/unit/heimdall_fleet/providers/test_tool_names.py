"""Tool names as a provider takes them, and back."""

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.providers.tool_names import ToolNames, legal_id

LEGAL = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def body_of(names: list[str]) -> dict[str, Any]:
    calls = [{"id": "1", "function": {"name": name}} for name in names[::2]]
    tools = [{"type": "function", "function": {"name": name}} for name in names[1::2]]
    return {"tools": tools, "messages": [{"role": "assistant", "tool_calls": calls}, {"role": "user"}]}


@given(st.lists(st.text(max_size=100), unique=True))
def test_every_name_is_legal_there_and_finds_its_way_back(names: list[str]) -> None:
    mapping = ToolNames(body_of(names), 64)
    there = [mapping.there(name) for name in names]
    assert all(LEGAL.fullmatch(name) for name in there)
    assert len(set(there)) == len(names)
    assert [mapping.here(name) for name in there] == names


def test_a_legal_name_stays_and_an_unknown_one_is_left_alone() -> None:
    mapping = ToolNames(body_of(["look_up", "a" * 65]), 128)
    assert mapping.there("look_up") == "look_up"
    assert mapping.there("a" * 65) == "a" * 65
    assert mapping.here("never heard of") == "never heard of"


def test_what_is_no_tool_is_no_name() -> None:
    assert ToolNames({"tools": [1, {"function": None}], "messages": "x"}, 64).there("f") == "f"


@given(st.text(max_size=200), st.text(max_size=200))
def test_ids_are_legal_and_stay_apart(first: str, second: str) -> None:
    assert LEGAL.fullmatch(legal_id(first))
    assert (legal_id(first) == legal_id(second)) == (first == second)
