"""Well-formed JSON with values of the wrong type, from a provider or from a caller: read, left out or refused, and never
an error of our own, which would end an order that another provider can answer.
"""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from heimdall_fleet.providers.dialect import AttemptError, Call
from heimdall_fleet.providers.eventstream import frame
from heimdall_fleet.providers.registry import DIALECTS, dialect_for
from heimdall_schemas.failure import FailureCode as Code

CallBuilder = Callable[..., Call]
STRANGE: list[Any] = [{"a": 1}, [1], 1.5, True, None]


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: %b\n\n" % orjson.dumps(event) for event in events)


def frames(*events: tuple[str, dict[str, Any]]) -> bytes:
    return b"".join(
        frame({":message-type": "event", ":event-type": name}, orjson.dumps(value)) for name, value in events
    )


def claude(place: Any) -> bytes:
    return sse(
        {"type": "content_block_start", "index": place, "content_block": {"type": "text"}},
        {"type": "content_block_delta", "index": place, "delta": {"type": "text_delta", "text": "a"}},
        {"type": "content_block_stop", "index": place},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    )


def cohere(place: Any) -> bytes:
    tool = {"id": "t", "function": {"name": "f", "arguments": "{}"}}
    return sse(
        {"type": "content-delta", "index": place, "delta": {"message": {"content": {"text": "a", "thinking": "b"}}}},
        {"type": "content-end", "index": place},
        {"type": "tool-call-start", "index": place, "delta": {"message": {"tool_calls": tool}}},
        {"type": "tool-call-delta", "index": place, "delta": {"message": {"tool_calls": tool}}},
        {"type": "message-end", "delta": {"finish_reason": "COMPLETE"}},
    )


def responses(place: Any) -> bytes:
    item = {"type": "function_call", "call_id": "c", "name": "f"}
    return sse(
        {"type": "response.output_text.delta", "delta": "a"},
        {"type": "response.output_item.added", "output_index": place, "item": item},
        {"type": "response.function_call_arguments.delta", "output_index": place, "delta": "{}"},
        {"type": "response.completed", "response": {"status": "completed", "output": []}},
    )


def converse(place: Any) -> bytes:
    return frames(
        ("contentBlockDelta", {"contentBlockIndex": place, "delta": {"text": "a"}}),
        ("contentBlockStop", {"contentBlockIndex": place}),
        ("messageStop", {"stopReason": "end_turn"}),
    )


@pytest.mark.parametrize("place", STRANGE, ids=repr)
@pytest.mark.parametrize(
    ("family", "stream"),
    [("anthropic", claude), ("cohere", cohere), ("openai_responses", responses), ("bedrock", converse)],
)
def test_a_block_whose_place_is_no_number_is_read_all_the_same(
    family: str, stream: Callable[[Any], bytes], place: Any, call: CallBuilder
) -> None:
    reader = dialect_for(family).reader(call(family, stream=True))
    reader.feed(stream(place))
    assert "a" in (reader.finish()["choices"][0]["message"]["content"] or "")


@pytest.mark.parametrize("reason", STRANGE, ids=repr)
@pytest.mark.parametrize(
    ("family", "answer", "named"),
    [
        ("bedrock", {"output": {"message": {"content": [{"text": "a"}]}}}, "stopReason"),
        ("anthropic", {"content": [{"type": "text", "text": "a"}]}, "stop_reason"),
        ("cohere", {"message": {}}, "finish_reason"),
    ],
)
def test_an_answer_whose_reason_is_no_word_is_an_attempt_that_failed(
    family: str, answer: dict[str, Any], named: str, reason: Any, call: CallBuilder
) -> None:
    with pytest.raises(AttemptError) as caught:
        dialect_for(family).from_wire(orjson.dumps(answer | {named: reason}), call(family))
    assert caught.value.failure.code in (Code.PROVIDER_TRUNCATED, Code.PROVIDER_MALFORMED)


@pytest.mark.parametrize("family", sorted(DIALECTS))
@pytest.mark.parametrize("strange", STRANGE[:3], ids=repr)
def test_a_parameter_of_the_wrong_type_is_left_to_the_provider_or_dropped(
    family: str, strange: Any, call: CallBuilder
) -> None:
    meta = {"region": "eu-west-1", "project_id": "p"}
    asked = call(family, {"service_tier": strange, "stream_options": strange}, stream=True, meta=meta)
    request = dialect_for(family).to_wire(asked)
    assert "service_tier" in request.dropped or orjson.loads(request.body)["service_tier"] == strange
