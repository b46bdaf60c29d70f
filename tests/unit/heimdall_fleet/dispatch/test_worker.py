"""What becomes of a record: answered once, joined, cancelled, kept, or buried alone."""

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest

from heimdall_fleet.kafka.errors import DeliveryRefused, DeliveryUnknown, UnknownTopic
from heimdall_fleet.state.base import Claim, StateUnavailable, Want
from heimdall_fleet.state.memory import MemoryState
from heimdall_schemas import headers as h
from heimdall_schemas.topics import Topics

if TYPE_CHECKING:
    from tests.unit.heimdall_fleet.dispatch.conftest import Bench

TOPICS = Topics()


class Gate:
    """An upstream that answers when it is let go."""

    def __init__(self) -> None:
        self.called = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.called.set()
        await self.go.wait()
        message = {"role": "assistant", "content": "late"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        return httpx.Response(200, json=body)


class DownState(MemoryState):
    """A shared state that is gone."""

    async def claim_call(self, call_id: str, holder: str, lease_ms: int, fingerprint: str = "") -> Claim:
        raise StateUnavailable("gone")

    async def finish_call(self, call_id: str, stored: bytes, keep_ms: int) -> bytes:
        raise StateUnavailable("gone")

    async def release_call(self, call_id: str, holder: str) -> None:
        raise StateUnavailable("gone")

    async def take_tokens(self, wants: Any) -> int:
        raise StateUnavailable("gone")


async def test_a_copy_of_a_running_order_joins_it_and_one_call_is_made(bench: "Bench") -> None:
    gate = Gate()
    bench.upstream.on("openai", gate)
    first = asyncio.create_task(bench.worker.handle(bench.order()))
    await gate.called.wait()
    second = asyncio.create_task(bench.worker.handle(bench.order()))
    await asyncio.sleep(0)
    gate.go.set()
    await asyncio.gather(first, second)
    assert len(bench.upstream.requests) == 1
    assert len(bench.replies()) == 1


async def test_a_later_copy_with_another_address_gets_the_published_answer(bench: "Bench") -> None:
    await bench.worker.handle(bench.order())
    await bench.worker.handle(bench.order(reply_to="orders.replies"))
    (copy,) = bench.producer.to("orders.replies")
    assert copy.value == bench.producer.to(TOPICS.replies)[0].value
    assert len(bench.upstream.requests) == 1
    assert len(bench.outcomes()) == 1


async def test_an_answer_that_another_worker_stored_is_published_without_a_call(bench: "Bench") -> None:
    await bench.worker.handle(bench.order())
    other = type(bench)()
    other.state = bench.state
    await other.worker.handle(other.order())
    assert other.upstream.requests == []
    assert other.replies() == bench.replies()
    assert other.outcomes() == bench.outcomes()


async def test_a_call_that_another_worker_has_reserved_is_waited_for(bench: "Bench") -> None:
    await bench.state.claim_call("r1", "w2", 30)
    reply = await bench.run()
    assert reply["heimdall"]["timings_ms"]["waited"] > 0
    assert "call_repeated" not in bench.outcomes()[0]


async def test_a_running_call_is_cancelled_by_its_id(bench: "Bench") -> None:
    gate = Gate()
    bench.upstream.on("openai", gate)
    running = asyncio.create_task(bench.worker.handle(bench.order()))
    await gate.called.wait()
    assert bench.worker.cancel(b'{"request_id":"r1"}')
    await running
    (reply,) = bench.replies()
    assert (reply["error"]["code"], reply["heimdall"]["state"]) == ("policy_cancelled", "cancelled")
    assert reply["heimdall"]["attempts"][0]["failure"] == "policy_cancelled"
    assert bench.worker.room.pool.provider("openai").in_flight == 0


async def test_a_queued_order_is_cancelled_before_any_call(bench: "Bench") -> None:
    bench.worker.cancel(b'{"request_id":"r1"}')
    reply = await bench.run()
    assert (reply["heimdall"]["state"], bench.upstream.requests) == ("cancelled", [])


@pytest.mark.parametrize("value", [None, b"", b"not json", b"{}"])
async def test_a_cancellation_that_cannot_be_read_cancels_nothing(bench: "Bench", value: bytes | None) -> None:
    assert not bench.worker.cancel(value)


async def test_the_log_says_why_a_cancellation_is_passed_over_and_not_what_stood_in_it(
    bench: "Bench", caplog: pytest.LogCaptureFixture
) -> None:
    bench.worker.cancel(b'{"request_id":7,"messages":"a prompt on the wrong topic"}')
    bench.worker.cancel(b"another prompt")
    assert "request_id: Input should be a valid string" in caplog.messages[0]
    assert "body: Invalid JSON" in caplog.messages[1]
    assert not any("prompt" in message or "pydantic" in message for message in caplog.messages)


async def test_a_stopping_worker_keeps_the_record_and_takes_nothing_back(bench: "Bench") -> None:
    gate = Gate()
    bench.upstream.on("openai", gate)
    running = asyncio.create_task(bench.worker.handle(bench.order()))
    await gate.called.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert bench.producer.sent == []


async def test_a_record_that_the_broker_does_not_confirm_is_kept_and_the_call_is_not_made_again(
    bench: "Bench",
) -> None:
    bench.producer.refuse[TOPICS.replies] = DeliveryUnknown("no answer")
    record = bench.order()
    with pytest.raises(DeliveryUnknown):
        await bench.worker.handle(record)
    bench.producer.refuse.clear()
    await bench.worker.handle(record)
    assert len(bench.upstream.requests) == 1
    assert bench.replies()[0]["heimdall"]["state"] == "answered"


async def test_a_reply_topic_that_is_gone_is_replaced_by_the_fleets_own(bench: "Bench") -> None:
    bench.producer.refuse["orders.replies"] = UnknownTopic("gone")
    await bench.worker.handle(bench.order(reply_to="orders.replies"))
    assert bench.replies()[0]["heimdall"]["state"] == "answered"


async def test_a_reply_that_the_askers_topic_refuses_becomes_a_short_error_there(bench: "Bench") -> None:
    bench.producer.once["orders.replies"] = [DeliveryRefused("larger than max.message.bytes")]
    await bench.worker.handle(bench.order(reply_to="orders.replies"))
    (reply,) = bench.producer.to("orders.replies")
    assert orjson.loads(reply.value or b"")["error"]["code"] == "heimdall_reply_too_large"
    assert bench.outcomes()[0]["failure"] == "heimdall_reply_too_large"


async def test_a_topic_that_refuses_everything_is_replaced_by_the_fleets_own(bench: "Bench") -> None:
    bench.producer.refuse["orders.replies"] = DeliveryRefused("not authorised")
    await bench.worker.handle(bench.order(reply_to="orders.replies"))
    assert bench.replies()[0]["error"]["code"] == "heimdall_reply_too_large"
    assert len(bench.outcomes()) == 1


async def test_an_answer_that_is_being_published_at_the_deadline_is_not_replaced_by_another_end(
    bench: "Bench",
) -> None:
    bench.settings = replace(bench.settings, grace_ms=0)
    bench.state = DownState(bench.clock.mono_ms)
    bench.producer.delay_s = 0.1
    await bench.worker.handle(bench.order(ttl_ms=50))
    assert {reply["heimdall"]["state"] for reply in bench.replies()} == {"answered"}
    assert bench.outcomes()[-1]["state"] == "answered"


async def test_a_record_that_is_no_order_is_answered_and_buried(bench: "Bench") -> None:
    record = bench.order()
    headers = tuple((name, value) for name, value in record.headers if name != h.PLAN)
    await bench.worker.handle(record._replace(headers=headers))
    (reply,) = bench.replies()
    assert (reply["heimdall"]["state"], reply["heimdall"]["request_id"]) == ("dead_lettered", "r1")
    (letter,) = bench.producer.to(TOPICS.dlq)
    assert dict(letter.headers)[h.DLQ_REASON] == b"heimdall_internal"
    assert bench.outcomes()[0]["state"] == "dead_lettered"


async def test_a_body_that_is_not_json_is_buried(bench: "Bench") -> None:
    await bench.worker.handle(bench.order()._replace(value=b"\xff{"))
    assert len(bench.producer.to(TOPICS.dlq)) == 1


async def test_a_record_that_fails_by_itself_is_tried_three_times_and_then_buried_alone(bench: "Bench") -> None:
    def bug(request: httpx.Request) -> httpx.Response:
        raise LookupError("a bug")

    for n in range(30):
        await bench.worker.handle(bench.order("google/gemini", request_id=f"fine{n}"))
    bench.upstream.on("openai", bug)
    record = bench.order("openai/gpt-5", request_id="poison")
    for _ in range(2):
        with pytest.raises(LookupError):
            await bench.worker.handle(record)
    assert bench.producer.to(TOPICS.dlq) == []
    await bench.worker.handle(record)
    assert bench.notes.buried == ["poison"]
    reply = bench.replies()[-1]
    assert (reply["error"]["code"], reply["heimdall"]["state"]) == ("heimdall_internal", "dead_lettered")
    assert bench.worker.accepts()


async def test_when_everything_fails_the_intake_stops_and_the_dlq_stays_empty(bench: "Bench") -> None:
    def bug(request: httpx.Request) -> httpx.Response:
        raise LookupError("a bug")

    bench.upstream.on("openai", bug)
    records = [bench.order(request_id=f"r{n}") for n in range(20)]
    for _ in range(4):
        for record in records:
            with pytest.raises(LookupError):
                await bench.worker.handle(record)
    assert bench.producer.to(TOPICS.dlq) == []
    assert not bench.worker.accepts()


async def test_without_the_shared_state_an_order_goes_on_and_is_flagged(bench: "Bench") -> None:
    bench.state = DownState(bench.clock.mono_ms)
    bench.provider(
        "openai", keys=tuple(type(key)(key.name, key.secret, rpm=1) for key in bench.providers["openai"].keys)
    )
    reply = await bench.run()
    assert reply["heimdall"]["state"] == "answered"
    assert bench.outcomes()[0]["unreserved"] is True


async def test_a_strict_order_rests_until_the_shared_state_is_back(bench: "Bench") -> None:
    bench.state = DownState(bench.clock.mono_ms)
    await bench.worker.handle(bench.order(dedup="strict"))
    assert [record.topic for record in bench.producer.sent] == ["heimdall.retry.10s.v1"]
    assert bench.upstream.requests == []


async def test_the_attempts_of_before_a_rest_are_in_the_outcome_and_in_the_bill(bench: "Bench") -> None:
    earlier = {"provider": "google", "model": "google/gemini", "key": "a", "cost_usd_micros": 70}
    record = bench.order()
    headers = (*record.headers, ("heimdall-attempts", orjson.dumps([earlier])))
    await bench.worker.handle(record._replace(headers=headers))
    outcome = bench.outcomes()[0]
    assert [attempt["provider"] for attempt in outcome["attempts"]] == ["google", "openai"]
    assert outcome["cost_usd_micros"] == 270


async def test_a_quota_that_the_fleet_counts_itself_is_not_passed(bench: "Bench") -> None:
    keys = tuple(type(key)(key.name, key.secret, rpm=6, quota_group="one") for key in bench.providers["openai"].keys)
    bench.provider("openai", keys=keys)
    replies = [await bench.run("openai/gpt-5", "google/gemini", request_id=f"r{n}") for n in range(3)]
    providers = [reply["heimdall"]["selected_provider"] for reply in replies]
    assert providers == ["openai", "google", "google"]


async def test_three_groups_carry_three_times_the_quota_of_one(bench: "Bench") -> None:
    keys = tuple(type(bench.providers["openai"].keys[0])(name, f"s{name}", rpm=6, quota_group=name) for name in "abc")
    bench.provider("openai", keys=keys)
    replies = [await bench.run("openai/gpt-5", "google/gemini", request_id=f"r{n}") for n in range(4)]
    providers = [reply["heimdall"]["selected_provider"] for reply in replies]
    assert providers == ["openai", "openai", "openai", "google"]


async def test_no_more_calls_than_the_concurrency_run_at_once_and_all_are_answered(bench: "Bench") -> None:
    running = most = 0

    async def slow(request: httpx.Request) -> httpx.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.002)
        running -= 1
        gate = Gate()
        gate.go.set()
        return await gate(request)

    bench.provider("openai", concurrency=10)
    bench.upstream.on("openai", slow)
    await asyncio.gather(*(bench.worker.handle(bench.order(request_id=f"r{n}")) for n in range(80)))
    assert most == 10
    assert [reply["heimdall"]["state"] for reply in bench.replies()] == ["answered"] * 80


async def test_interactive_orders_go_before_batch_ones_when_places_are_scarce(bench: "Bench") -> None:
    gate = Gate()
    bench.provider("openai", concurrency=1)
    bench.upstream.on("openai", gate)
    orders = [bench.order(request_id="first")]
    orders += [bench.order(request_id=f"batch{n}", lane="batch") for n in range(5)]
    orders += [bench.order(request_id=f"inter{n}", lane="interactive") for n in range(5)]
    tasks = [asyncio.create_task(bench.worker.handle(order)) for order in orders]
    await gate.called.wait()
    gate.go.set()
    await asyncio.gather(*tasks)
    ended = [reply["heimdall"]["request_id"] for reply in bench.replies()][1:]
    assert sum(name.startswith("inter") for name in ended[:6]) == 5


async def test_the_pool_is_empty_after_everything_has_ended(bench: "Bench") -> None:
    await asyncio.gather(*(bench.worker.handle(bench.order(request_id=f"r{n}")) for n in range(20)))
    state = bench.worker.room.pool.provider("openai")
    assert state.in_flight == sum(key.aimd.in_flight for key in state.keys) == 0
    assert len(bench.worker.inflight) == 0


async def test_no_secret_stands_in_anything_that_was_sent(bench: "Bench") -> None:
    bench.upstream.on(
        "openai", lambda request: httpx.Response(401, json={"error": {"message": f"bad {request.headers}"}})
    )
    await bench.run("openai/gpt-5", "google/gemini")
    for record in bench.producer.sent:
        assert b"sk-openai" not in (record.value or b"")


async def test_tokens_are_counted_with_the_prompt_and_the_output_asked_for(bench: "Bench") -> None:
    wants: list[Want] = []

    class Watching(MemoryState):
        async def take_tokens(self, wants_: Any) -> int:
            wants.extend(wants_)
            return 0

    bench.state = Watching(bench.clock.mono_ms)
    key = type(bench.providers["openai"].keys[0])("a", "s", rpm=60, tpm=6_000)
    bench.provider("openai", keys=(key,))
    await bench.run("openai/gpt-5", body={"max_tokens": 50})
    assert [(want.name.split("/")[0], want.amount) for want in wants] == [("rpm", 1), ("tpm", 150)]
