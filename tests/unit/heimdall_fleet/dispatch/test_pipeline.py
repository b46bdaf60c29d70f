"""Stories of an order: what comes in, which providers are asked, what the asker and the auditor read."""

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest

from heimdall_fleet.dispatch.routes import Place, RouteBook
from heimdall_schemas import headers as h
from heimdall_schemas.audit import AUDIT
from heimdall_schemas.failure import FailureCode
from heimdall_schemas.reply import ErrorReply, Reply
from heimdall_schemas.topics import Topics

if TYPE_CHECKING:
    from tests.unit.heimdall_fleet.dispatch.conftest import Bench

TOPICS = Topics()


def ok(text: str = "hello", **usage: Any) -> Any:
    message = {"role": "assistant", "content": text}
    body = {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "there",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150, **usage},
    }
    return lambda request: httpx.Response(200, json=body)


def error(status: int, message: str = "no", headers: dict[str, str] | None = None, **fields: Any) -> Any:
    return lambda request: httpx.Response(
        status, json={"error": {"message": message, "type": "x", **fields}}, headers=headers
    )


def refused(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


def asked(reply: dict[str, Any]) -> list[str]:
    return [f"{attempt['provider']}:{attempt['failure']}" for attempt in reply["heimdall"]["attempts"]]


async def test_an_order_is_answered_under_its_correlation_id(bench: "Bench") -> None:
    reply = await bench.run("openai/gpt-5")
    Reply.model_validate(reply)
    record = bench.producer.to(TOPICS.replies)[0]
    headers = dict(record.headers)
    assert record.key == headers[h.CORRELATION_ID] == b"corr-r1"
    assert [name for name, _ in record.headers].count(h.CORRELATION_ID) == 1
    assert (headers[h.REQUEST_ID], headers[h.TRACEPARENT]) == (b"r1", b"00-trace")
    assert h.ERROR not in headers
    assert reply["model"] == reply["heimdall"]["selected_model"] == "openai/gpt-5"
    assert reply["heimdall"]["state"] == "answered"
    assert set(reply["metadata"]) == {"bucket", "selected_model", "alpha_score", "cache_hit", "decision_latency_ms"}


async def test_the_outcome_stands_beside_the_decision_with_money_and_tokens(bench: "Bench") -> None:
    await bench.run("openai/gpt-5")
    record = bench.producer.to(TOPICS.audit)[0]
    outcome = AUDIT.validate_json(record.value or b"")
    assert outcome.kind == "outcome"
    assert (record.key, record.partition) == (b"r1", 17 % 12)
    assert outcome.cost_usd_micros == 100 + 50 * 2
    assert (outcome.tokens.prompt, outcome.tokens.completion) == (100, 50)
    assert outcome.p_served == 0.9


async def test_the_reply_is_confirmed_before_the_audit_record_is_sent(bench: "Bench") -> None:
    await bench.run("openai/gpt-5")
    assert [record.topic for record in bench.producer.sent] == [TOPICS.replies, TOPICS.audit]


async def test_the_request_id_travels_to_the_provider_and_the_heimdall_object_does_not(bench: "Bench") -> None:
    await bench.run("openai/gpt-5", body={"heimdall": {"tenant": "t"}})
    request = bench.upstream.requests[0]
    assert request.headers["x-request-id"] == "r1"
    assert "heimdall" not in orjson.loads(request.read())


async def test_claude_limited_is_answered_by_gpt_and_the_asker_sees_no_failure(bench: "Bench") -> None:
    bench.upstream.on("anthropic", error(429, headers={"retry-after": "20"}))
    reply = await bench.run("anthropic/claude", "openai/gpt-5", "google/gemini")
    assert asked(reply) == ["anthropic:provider_rate_limited", "anthropic:provider_rate_limited", "openai:None"]
    assert "error" not in reply
    assert reply["heimdall"]["fallback_reason"] == "provider_rate_limited"
    assert bench.notes.hops == [
        ("anthropic/claude", "anthropic/claude", "openai/gpt-5", FailureCode.PROVIDER_RATE_LIMITED)
    ]


async def test_the_same_model_asked_again_is_no_fallback(bench: "Bench") -> None:
    bench.upstream.on("openai", error(500), error(429), ok())
    reply = await bench.run("openai/gpt-5", "anthropic/claude")
    assert asked(reply) == ["openai:provider_error", "openai:provider_rate_limited", "openai:None"]
    assert (reply["heimdall"]["fallback_used"], reply["heimdall"]["fallback_reason"]) == (False, None)


async def test_a_server_error_moves_to_another_model_of_the_bucket(bench: "Bench") -> None:
    bench.upstream.on("openai", error(500))
    reply = await bench.run("openai/gpt-5", "google/gemini")
    assert asked(reply) == ["openai:provider_error", "openai:provider_error", "google:None"]
    assert reply["heimdall"]["bucket"] == "hard"


async def test_openrouter_down_is_answered_by_the_mid_model_without_asking_its_other_models(bench: "Bench") -> None:
    bench.upstream.on("openrouter", refused)
    reply = await bench.run("cheap:qwen/coder", "cheap:deepseek/r1", "mid:openai/gpt-mini")
    assert bench.upstream.called() == ["openrouter", "openrouter", "openai"]
    assert reply["heimdall"]["selected_model"] == "openai/gpt-mini"


async def test_an_overflow_goes_to_a_model_with_a_larger_window_only(bench: "Bench") -> None:
    overflow = error(400, "too long", code="context_length_exceeded")
    bench.upstream.on("anthropic", overflow)
    bench.upstream.on("openai", overflow)
    reply = await bench.run("anthropic/claude", "openai/gpt-mini", "google/gemini")
    assert bench.upstream.called() == ["anthropic", "google"]
    assert reply["heimdall"]["state"] == "answered"


async def test_an_overflow_of_every_window_is_the_callers_fault(bench: "Bench") -> None:
    bench.upstream.on("google", error(400, "too long", code="context_length_exceeded"))
    reply = await bench.run("google/gemini", "openai/gpt-5")
    assert reply["error"]["code"] == "caller_context_too_long"


async def test_a_refusal_by_content_policy_is_final_without_a_chain_and_goes_its_own_way_with_one(
    bench: "Bench",
) -> None:
    bench.upstream.on("openai", error(400, "flagged", code="content_policy_violation"))
    bench.failover(content_policy_fallbacks={"openai/gpt-5": ("google/gemini",)})
    reply = await bench.run("openai/gpt-5", "anthropic/claude")
    assert bench.upstream.called() == ["openai", "google"]
    assert reply["heimdall"]["state"] == "answered"
    bench.upstream.on("anthropic", error(400, "flagged", code="content_policy_violation"))
    refusal = await bench.run("anthropic/claude", "google/gemini", request_id="r2")
    assert refusal["error"]["code"] == "provider_refused"


async def test_a_bad_key_is_taken_out_with_an_alarm_and_the_other_key_answers(bench: "Bench") -> None:
    bench.upstream.on("openai", error(401, "invalid key", code="invalid_api_key"), ok())
    reply = await bench.run("openai/gpt-5")
    assert [attempt["key"] for attempt in reply["heimdall"]["attempts"]] == ["a", "b"]
    assert [alarm.key for alarm in bench.notes.alarms] == ["a"]
    later = await bench.run("openai/gpt-5", request_id="r2")
    assert [attempt["key"] for attempt in later["heimdall"]["attempts"]] == ["b"]


async def test_a_bad_request_is_final_at_once(bench: "Bench") -> None:
    bench.upstream.on("openai", error(400, "bad parameter"))
    reply = await bench.run("openai/gpt-5", "google/gemini")
    ErrorReply.model_validate(reply)
    assert bench.upstream.called() == ["openai"]
    assert dict(bench.producer.to(TOPICS.replies)[0].headers)[h.ERROR] == reply["error"]["code"].encode()


async def test_without_fallbacks_the_first_failure_is_final_but_for_the_same_key(bench: "Bench") -> None:
    bench.failover(enabled=False)
    bench.upstream.on("openai", error(500))
    reply = await bench.run("openai/gpt-5", "google/gemini")
    assert bench.upstream.called() == ["openai", "openai"]
    assert reply["error"]["code"] == "provider_error"


async def test_without_fallbacks_a_closed_model_is_waited_for_and_no_other_is_asked(bench: "Bench") -> None:
    bench.failover(enabled=False)
    bench.provider("openai", keys=bench.providers["openai"].keys[:1])
    bench.upstream.on("openai", error(429, headers={"retry-after-ms": "30"}), ok())
    first = await bench.run("openai/gpt-5", "google/gemini")
    assert first["error"]["code"] == "provider_rate_limited"
    second = await bench.run("openai/gpt-5", "google/gemini", request_id="r2")
    assert second["heimdall"]["selected_provider"] == "openai"
    assert "google" not in bench.upstream.called()


@pytest.mark.parametrize("answer", [error(429), error(500), error(503), refused])
async def test_the_explicit_chain_is_followed_in_its_order(bench: "Bench", answer: Any) -> None:
    bench.failover(fallbacks={"openai/gpt-5": ("google/gemini", "anthropic/claude")})
    bench.provider("openai", keys=bench.providers["openai"].keys[:1])
    bench.upstream.on("openai", answer)
    bench.upstream.on("google", error(503))
    reply = await bench.run("openai/gpt-5", "openai/gpt-mini")
    called = list(dict.fromkeys(bench.upstream.called()))
    assert called == ["openai", "google", "anthropic"]
    assert reply["heimdall"]["state"] == "answered"


async def test_a_pool_that_always_fails_is_asked_at_most_max_attempts_times(bench: "Bench") -> None:
    for name in ("openai", "google", "anthropic"):
        bench.upstream.on(name, error(500))
    reply = await bench.run("openai/gpt-5", "google/gemini", "anthropic/claude")
    assert len(reply["heimdall"]["attempts"]) == 4
    assert reply["error"]["code"] == "provider_exhausted"


async def test_an_expired_order_is_answered_as_expired_without_a_call(bench: "Bench") -> None:
    reply = await bench.run("openai/gpt-5", ttl_ms=-1)
    assert bench.upstream.requests == []
    assert (reply["error"]["code"], reply["heimdall"]["state"]) == ("policy_expired", "expired")
    assert bench.outcomes()[0]["state"] == "expired"


async def test_a_model_that_nobody_serves_is_the_callers_fault(bench: "Bench") -> None:
    assert (await bench.run("nobody/none", received_ms=0))["error"]["code"] == "caller_unknown_model"


async def test_a_model_that_a_changed_configuration_may_still_bring_is_rested_for(bench: "Bench") -> None:
    """Triage has read it before this worker, which knows nobody who serves the model."""
    await bench.worker.handle(bench.order("nobody/none", ttl_ms=60_000))
    (rest,) = bench.producer.sent
    assert rest.topic == "heimdall.retry.10s.v1"
    assert bench.notes.parks[0][0].reason == "unknown_model"
    hurried = await bench.run("nobody/none", request_id="r2", ttl_ms=15_000)
    assert hurried["error"]["code"] == "caller_unknown_model"


async def test_a_cost_ceiling_holds_over_the_whole_chain(bench: "Bench") -> None:
    reply = await bench.run("openai/gpt-5", max_cost_usd_micros=10)
    assert (reply["error"]["code"], bench.upstream.requests) == ("policy_budget", [])


async def test_a_hung_provider_is_left_at_its_time_out_and_the_prompt_counts_as_paid(bench: "Bench") -> None:
    async def hang(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(60)
        raise AssertionError

    bench.provider("openai", network=type(bench.providers["google"].network)(timeout_ms=30, max_retries=0))
    bench.upstream.on("openai", hang)
    reply = await bench.run("openai/gpt-5", "google/gemini")
    assert asked(reply) == ["openai:provider_timeout", "google:None"]
    assert reply["heimdall"]["attempts"][0]["cost_usd_micros"] == 100
    assert reply["heimdall"]["attempts"][0]["cost_estimated"] is True


async def test_a_deadline_during_a_call_ends_it_as_expired(bench: "Bench") -> None:
    async def hang(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(60)
        raise AssertionError

    bench.upstream.on("openai", hang)
    reply = await bench.run("openai/gpt-5", "google/gemini", ttl_ms=60)
    assert reply["heimdall"]["state"] == "expired"
    assert len(reply["heimdall"]["attempts"]) == 1


async def test_a_limited_order_waits_inside_its_deadline_instead_of_failing(bench: "Bench") -> None:
    bench.provider("openai", keys=bench.providers["openai"].keys[:1])
    bench.upstream.on("openai", error(429, headers={"retry-after-ms": "40"}), ok())
    reply = await bench.run("openai/gpt-5")
    assert asked(reply) == ["openai:provider_rate_limited", "openai:None"]
    assert reply["heimdall"]["timings_ms"]["waited"] >= 30


async def test_a_long_limit_sends_the_order_to_rest_with_what_it_tried(bench: "Bench") -> None:
    bench.provider("openai", keys=bench.providers["openai"].keys[:1])
    bench.upstream.on("openai", error(429, headers={"retry-after": "70"}))
    await bench.worker.handle(bench.order("openai/gpt-5", ttl_ms=300_000))
    (rest,) = bench.producer.sent
    assert rest.topic == "heimdall.retry.60s.v1"
    assert rest.partition == 17 % 12
    headers = dict(rest.headers)
    assert [attempt["provider"] for attempt in orjson.loads(headers["heimdall-attempts"] or b"")] == ["openai"]
    assert headers["heimdall-retry-source-topic"] == b"heimdall.dispatch.hard.v1"


async def test_a_limit_beyond_the_deadline_is_told_at_once(bench: "Bench") -> None:
    bench.provider("openai", keys=bench.providers["openai"].keys[:1])
    bench.upstream.on("openai", error(429, headers={"retry-after": "70"}))
    reply = await bench.run("openai/gpt-5", ttl_ms=5_000)
    assert reply["error"]["code"] == "provider_rate_limited"


async def test_a_reply_over_the_record_limit_becomes_an_error_that_names_the_limit(bench: "Bench") -> None:
    bench.upstream.on("openai", ok("x" * 1_600_000))
    reply = await bench.run("openai/gpt-5")
    assert reply["error"]["code"] == "heimdall_reply_too_large"
    assert "1,500,000" in reply["error"]["message"]
    assert reply["heimdall"]["cost_usd_micros"] == 200


async def test_a_callers_topic_gets_no_key_and_one_partition_for_all_records(bench: "Bench") -> None:
    for name in ("r1", "r1"):
        await bench.worker.handle(bench.order(request_id=name, reply_to="orders.replies"))
    records = bench.producer.to("orders.replies")
    assert {record.key for record in records} == {None}
    assert len({record.partition for record in records}) == 1
    assert records[0].partition is not None


async def test_a_snapshot_that_was_asked_for_is_what_its_provider_is_asked_for(bench: "Bench") -> None:
    place = Place("openai", "gpt-5", spellings=frozenset({"gpt-5-2025-08-07"}))
    book = RouteBook(bench.providers, bench.models, lambda model_id: [place])
    bench.worker.room = replace(bench.worker.room, book=book)
    reply = await bench.run("openai/gpt-5", body={"model": "openai/gpt-5-2025-08-07"})
    assert orjson.loads(bench.upstream.requests[0].content)["model"] == "gpt-5-2025-08-07"
    assert reply["model"] == "openai/gpt-5"
