"""Whose call it is: two lives of a worker, two requests with one idempotency key."""

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from heimdall_fleet.state.base import Claim
from heimdall_fleet.state.memory import MemoryState
from heimdall_schemas.audit import AUDIT
from heimdall_schemas.reply import Reply

if TYPE_CHECKING:
    from tests.unit.heimdall_fleet.dispatch.conftest import Bench


def answers(status: int = 200, text: str = "hello") -> Any:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    return lambda request: httpx.Response(status, json=body if status == 200 else {"error": {"message": "no"}})


def another(bench: "Bench", worker: str) -> "Bench":
    """A second worker of the same fleet, with the same shared state."""
    other = type(bench)()
    other.state = bench.state
    other.settings = replace(other.settings, worker=worker)
    return other


async def test_a_request_with_a_known_key_gets_the_same_answer_without_a_call(bench: "Bench") -> None:
    first = await bench.run(request_id="r1", idempotency_key="order-7", tenant="t")
    second = await bench.run(request_id="r2", idempotency_key="order-7", tenant="t")
    Reply.model_validate(second)
    assert len(bench.upstream.requests) == 1
    assert second["choices"] == first["choices"]
    facts = second["heimdall"]
    assert (facts["request_id"], facts["answered_for"], facts["cache"]) == ("r2", "r1", "idempotency")
    assert (facts["attempts"], facts["cost_usd_micros"]) == ([], 0)
    assert dict(bench.producer.to("heimdall.replies.v1")[1].headers)["correlation-id"] == b"corr-r2"


async def test_money_is_in_the_audit_once_for_a_key(bench: "Bench") -> None:
    for name in ("r1", "r2", "r3"):
        await bench.run(request_id=name, idempotency_key="k")
    outcomes = [AUDIT.validate_python(outcome) for outcome in bench.outcomes()]
    assert [outcome.request_id for outcome in outcomes] == ["r1", "r2", "r3"]
    assert [outcome["cost_usd_micros"] for outcome in bench.outcomes()] == [200, 0, 0]
    assert [outcome["p_served"] for outcome in bench.outcomes()] == [0.9, None, None]


async def test_the_same_key_with_another_body_is_refused_by_name(bench: "Bench") -> None:
    await bench.run(request_id="r1", idempotency_key="order-7", body={"temperature": 0})
    refused = await bench.run(request_id="r2", idempotency_key="order-7", body={"temperature": 1})
    assert (refused["error"]["code"], refused["error"]["param"]) == ("caller_bad_request", "heimdall.idempotency_key")
    assert "'order-7'" in refused["error"]["message"]
    assert len(bench.upstream.requests) == 1


async def test_options_of_the_fleet_and_the_order_of_members_make_no_other_body(bench: "Bench") -> None:
    await bench.run(request_id="r1", idempotency_key="k", body={"seed": 1, "top_p": 1})
    bodies: dict[str, Any] = {"top_p": 1, "seed": 1, "heimdall": {"ttl_ms": 5}}
    again = await bench.run(request_id="r2", idempotency_key="k", body=bodies)
    assert again["heimdall"]["answered_for"] == "r1"


async def test_a_key_is_a_tenants_own(bench: "Bench") -> None:
    await bench.run(request_id="r1", idempotency_key="k", tenant="a")
    await bench.run(request_id="r2", idempotency_key="k", tenant="b")
    assert len(bench.upstream.requests) == 2


async def test_a_failure_is_not_kept_under_a_key(bench: "Bench") -> None:
    bench.failover(enabled=False)
    bench.upstream.on("openai", answers(400), answers())
    assert "error" in await bench.run(request_id="r1", idempotency_key="k")
    answered = await bench.run(request_id="r2", idempotency_key="k")
    assert answered["heimdall"]["state"] == "answered"
    assert "answered_for" not in answered["heimdall"]


async def test_a_second_request_with_the_key_waits_for_the_first(bench: "Bench") -> None:
    called, go = asyncio.Event(), asyncio.Event()

    async def slow(request: httpx.Request) -> httpx.Response:
        called.set()
        await go.wait()
        response: httpx.Response = answers()(request)
        return response

    bench.upstream.on("openai", slow)
    other = another(bench, "w2")
    first = asyncio.create_task(bench.run(request_id="r1", idempotency_key="k"))
    await called.wait()
    second = asyncio.create_task(other.run(request_id="r2", idempotency_key="k"))
    await asyncio.sleep(0.02)
    assert not second.done()
    go.set()
    await first
    assert (await second)["heimdall"]["answered_for"] == "r1"
    assert other.upstream.requests == []


async def test_a_crash_between_the_two_answers_kept_leaves_the_requests_own(bench: "Bench") -> None:
    class Torn(MemoryState):
        """Keeps what was stored under a key, but forgets the request."""

        async def finish_call(self, call_id: str, stored: bytes, keep_ms: int) -> bytes:
            if call_id.startswith("key/"):
                return await super().finish_call(call_id, stored, keep_ms)
            return stored

    bench.state = Torn(bench.clock.mono_ms)
    first = await bench.run(request_id="r1", idempotency_key="k")
    other = another(bench, "w1")
    again = await other.run(request_id="r1", idempotency_key="k")
    assert again == first
    assert other.upstream.requests == []


async def test_what_is_in_work_is_renewed_and_what_has_ended_is_not(bench: "Bench") -> None:
    called, go = asyncio.Event(), asyncio.Event()

    async def slow(request: httpx.Request) -> httpx.Response:
        called.set()
        await go.wait()
        response: httpx.Response = answers()(request)
        return response

    bench.upstream.on("openai", slow)
    running = asyncio.create_task(bench.run(request_id="r1", idempotency_key="k"))
    await called.wait()
    holds = bench.worker.room.leases.all()
    assert holds[0] == ("r1", "w1")
    assert [holder for _, holder in holds] == ["w1", "r1"]
    go.set()
    await running
    assert bench.worker.room.leases.all() == []


@pytest.mark.parametrize("dedup", ["default", "strict"])
async def test_an_order_that_another_worker_keeps_renewing_rests_after_a_while(bench: "Bench", dedup: str) -> None:
    class Busy(MemoryState):
        async def claim_call(self, call_id: str, holder: str, lease_ms: int, fingerprint: str = "") -> Claim:
            await super().claim_call(call_id, "w2", 60_000, fingerprint)
            return await super().claim_call(call_id, holder, lease_ms, fingerprint)

    bench.state = Busy(bench.clock.mono_ms)
    bench.settings = replace(bench.settings, wait_in_process_ms=20)
    await bench.worker.handle(bench.order(dedup=dedup))
    assert [parked.reason for parked, _ in bench.notes.parks] == ["held_by_another_worker"]
    assert bench.upstream.requests == []


async def test_an_order_sent_again_from_the_dlq_is_a_new_call(bench: "Bench") -> None:
    await bench.run(request_id="r1")
    record = bench.order(request_id="r1")
    await bench.worker.handle(record._replace(headers=(*record.headers, ("heimdall-redriven", b"1"))))
    assert len(bench.upstream.requests) == 2
    assert bench.outcomes()[-1]["redriven"] == 1
