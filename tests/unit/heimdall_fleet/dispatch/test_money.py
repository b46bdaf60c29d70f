"""A ceiling on the cost holds for the output too: what is sent says how much of it there may be."""

from typing import TYPE_CHECKING, Any

import orjson
import pytest

if TYPE_CHECKING:
    from tests.unit.heimdall_fleet.dispatch.conftest import Bench


@pytest.mark.parametrize(
    ("ceiling", "body", "expected"),
    [
        (2_000, {}, 945),  # 110 micro-dollars for the prompt, 2 a token for the output
        (None, {}, None),
        (2_000, {"max_tokens": 300}, 300),
        (2_000, {"max_completion_tokens": 300}, 300),
    ],
)
async def test_the_output_is_bounded_by_the_money_left(
    bench: "Bench", ceiling: int | None, body: dict[str, Any], expected: int | None
) -> None:
    reply = await bench.run(max_cost_usd_micros=ceiling, body=body)
    assert reply["heimdall"]["state"] == "answered"
    sent = orjson.loads(bench.upstream.requests[0].read())
    assert sent.get("max_completion_tokens", sent.get("max_tokens")) == expected


@pytest.mark.parametrize(
    ("body", "needed"),
    [
        ({}, 1_110),  # 110 micro-dollars for the prompt of 100 tokens, 2 a token for 500 of output
        ({"max_tokens": 300}, 710),
        ({"max_completion_tokens": 5_000, "max_tokens": 1}, 10_110),
    ],
)
async def test_a_call_is_made_when_the_ceiling_is_what_it_needs_and_not_a_micro_dollar_below(
    bench: "Bench", body: dict[str, Any], needed: int
) -> None:
    refused = await bench.run(max_cost_usd_micros=needed - 1, body=body)
    assert refused["error"]["code"] == "policy_budget"
    answered = await bench.run(request_id="r2", max_cost_usd_micros=needed, body=body)
    assert answered["heimdall"]["state"] == "answered"


@pytest.mark.parametrize("body", [{}, {"max_tokens": 5_000}])
async def test_an_output_that_the_money_does_not_pay_for_is_refused_without_a_call(
    bench: "Bench", body: dict[str, Any]
) -> None:
    reply = await bench.run(max_cost_usd_micros=1_000, body=body)
    assert (reply["error"]["code"], bench.upstream.requests) == ("policy_budget", [])
