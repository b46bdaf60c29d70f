"""Shadow pairs: who is asked once more, that nobody hears of it, and that it costs no more than it may."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest

from heimdall_fleet.dispatch.cost import Tokens
from heimdall_fleet.dispatch.run import Attempt, Ending, Run, begin
from heimdall_fleet.dispatch.settings import BreakerSettings, JudgeSettings, ShadowSettings
from heimdall_fleet.dispatch.shadow.draw import TTL_MS, shadow_for, shadow_order
from heimdall_fleet.dispatch.shadow.verdict import judge_order, served_first
from heimdall_fleet.kafka.errors import DeliveryUnknown
from heimdall_fleet.kafka.records import Outgoing, Record
from heimdall_fleet.state.base import Budget, StateUnavailable
from heimdall_fleet.state.memory import MemoryState
from heimdall_schemas import headers as h
from heimdall_schemas.audit import AUDIT, State
from heimdall_schemas.ids import derived_id
from heimdall_schemas.order import Address, Order, Plan, Step, read_order
from heimdall_schemas.topics import Bucket, Topics

if TYPE_CHECKING:
    from tests.unit.heimdall_fleet.dispatch.conftest import Bench

TOPICS = Topics()


def ok(text: str) -> Any:
    """An answer of a provider."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    return lambda request: httpx.Response(200, json=body)


ALWAYS = ShadowSettings(share=1.0, budget_usd_micros_per_day=1_000_000)
STEPS = ("cheap:openai/gpt-mini", "cheap:qwen/coder", "mid:anthropic/claude", "mid:google/gemini")
ATTEMPT = Attempt("openai", "openai/gpt-mini", "a", 200, None, 10.0, 5, Tokens())


def ended(request_id: str = "r1", model: str = "openai/gpt-mini", **plan: Any) -> tuple[Run, Ending]:
    """An answered order of the cheap bucket."""
    steps = tuple(Step(step.partition(":")[2], step.partition(":")[0]) for step in STEPS)
    asked = Plan(**{"steps": steps, "deadline_ms": 9_000, "received_ms": 1_000, "p_chosen": 1.0, **plan})
    order = Order(request_id, "cheap", {}, asked, Address("replies", None, b"c"), b"{}", trace=((h.TRACEPARENT, b"t"),))
    run = begin(order, {}, 2_000, 0.0)
    run.attempts.append(ATTEMPT)
    return run, Ending(State.ANSWERED, None, b"{}", b"{}", model, "openai")


def sent(bench: "Bench") -> list[Outgoing]:
    """Orders of shadows."""
    return [each for bucket in Bucket for each in bench.producer.to(TOPICS.dispatch(bucket))]


def as_record(order: Outgoing, offset: int = 900) -> Record:
    assert order.partition is not None
    return Record(order.topic, order.partition, offset, 0, order.key, order.value, tuple(order.headers))


def shadows(bench: "Bench") -> list[dict[str, Any]]:
    return [record for record in bench.outcomes() if record["kind"] == "shadow"]


async def shadow_of(bench: "Bench", **order: Any) -> Record:
    """The shadow order of an answered order, as the worker reads it."""
    await bench.worker.handle(bench.order(*STEPS, **order))
    (found,) = sent(bench)
    return as_record(found)


@pytest.fixture
def shadowed(bench: "Bench") -> "Bench":
    bench.settings = replace(bench.settings, shadow=ALWAYS)
    return bench


def test_nobody_is_asked_again_unless_it_is_configured() -> None:
    assert shadow_for(*ended(), ShadowSettings()) is None


def test_the_share_is_drawn_from_the_request_id_and_comes_out_the_same_again() -> None:
    settings = replace(ALWAYS, share=0.25)
    drawn = [shadow_for(*ended(f"r{n}"), settings) for n in range(2_000)]
    assert drawn == [shadow_for(*ended(f"r{n}"), settings) for n in range(2_000)]
    found = [each for each in drawn if each is not None]
    assert 0.22 < len(found) / 2_000 < 0.28
    assert {each.shadow.share for each in found} == {0.25}


def test_a_candidate_of_another_bucket_is_drawn_evenly_and_its_probability_is_told() -> None:
    drawn = [shadow_for(*ended(f"r{n}"), ALWAYS) for n in range(2_000)]
    models = [each.step.model for each in drawn if each is not None]
    assert set(models) == {"anthropic/claude", "google/gemini"}
    assert 0.45 < models.count("google/gemini") / 2_000 < 0.55
    assert {each.shadow.p_drawn for each in drawn if each is not None} == {0.5}


def test_where_there_is_no_other_bucket_a_candidate_of_the_same_one_is_drawn() -> None:
    drawn = shadow_for(*ended(steps=(Step("openai/gpt-mini", "cheap"), Step("qwen/coder", "cheap"))), ALWAYS)
    assert drawn is not None
    assert (drawn.step.model, drawn.shadow.p_drawn, drawn.shadow.served_model) == ("qwen/coder", 1.0, "openai/gpt-mini")


def test_an_answer_from_the_bucket_above_is_paired_with_the_requests_own_bucket() -> None:
    drawn = [shadow_for(*ended(f"r{n}", model="anthropic/claude"), ALWAYS) for n in range(200)]
    assert {each.step.model for each in drawn if each is not None} == {"openai/gpt-mini", "qwen/coder"}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"steps": (Step("openai/gpt-mini", "cheap"),)}, "there is nobody else"),
        ({"pinned": True}, "its caller named the model"),
    ],
)
def test_some_orders_have_no_shadow(change: dict[str, Any], why: str) -> None:
    assert shadow_for(*ended(**change), ALWAYS) is None, why


@pytest.mark.parametrize(
    ("tenants", "tenant", "may"),
    [(("*",), None, True), (("*",), "acme", True), (("acme",), "acme", True), (("acme",), "zeta", False),
     (("acme",), None, False), ((), "acme", False)],
)  # fmt: skip
def test_only_tenants_that_may_be_asked_again_are(tenants: tuple[str, ...], tenant: str | None, may: bool) -> None:
    drawn = shadow_for(*ended(tenant=tenant), replace(ALWAYS, tenants=tenants))
    assert (drawn is not None) is may


def test_what_was_not_answered_or_not_called_for_has_no_shadow() -> None:
    run, ending = ended()
    assert shadow_for(run, ending._replace(state=State.FAILED, model=None), ALWAYS) is None
    assert shadow_for(run, ending._replace(stored=True), ALWAYS) is None
    run.attempts.clear()
    assert shadow_for(run, ending, ALWAYS) is None


def test_a_shadow_order_has_the_same_body_one_model_and_nobodys_address() -> None:
    run, ending = ended(tenant="acme", session="s", idempotency_key="k", max_cost_usd_micros=3, tier="flex")
    drawn = shadow_for(run, ending, ALWAYS)
    assert drawn is not None
    made = shadow_order(run, drawn, TOPICS, 50_000)
    order = read_order(made.value, h.last(made.headers))
    assert made.topic == TOPICS.dispatch(Bucket.MID)
    assert (order.request_id, order.shadow) == (derived_id("shadow", "r1"), drawn.shadow)
    assert (order.body, order.trace) == (run.order.body, run.order.trace)
    assert order.address == Address(TOPICS.replies, None, order.request_id.encode())
    plan = order.plan
    assert (plan.steps, plan.lane, plan.tenant, plan.tier) == ((drawn.step,), "batch", "acme", "flex")
    assert (plan.idempotency_key, plan.max_cost_usd_micros, plan.session) == (None, None, None)
    assert (plan.deadline_ms, plan.received_ms) == (50_000 + TTL_MS, 50_000)


async def test_an_answered_order_is_asked_once_more_after_its_reply_and_outcome(shadowed: "Bench") -> None:
    await shadowed.worker.handle(shadowed.order(*STEPS))
    topics = [record.topic for record in shadowed.producer.sent]
    assert topics == [TOPICS.replies, TOPICS.audit, TOPICS.dispatch(Bucket.MID)]
    assert sent(shadowed)[0].partition == 17


async def test_a_shadow_ends_in_the_audit_under_the_id_of_its_request_and_nobody_is_told(shadowed: "Bench") -> None:
    order = await shadow_of(shadowed)
    replies = len(shadowed.replies())
    await shadowed.worker.handle(order)
    assert len(shadowed.replies()) == replies
    (record,) = shadows(shadowed)
    AUDIT.validate_python(record)
    assert (record["request_id"], record["shadow_id"]) == ("r1", derived_id("shadow", "r1"))
    assert (record["state"], record["served_model"], record["p_drawn"]) == ("answered", "openai/gpt-mini", 0.5)
    assert record["model"] == record["selected_model"] == record["attempts"][0]["model"]
    assert (record["finish_reason"], record["refused"], record["cost_usd_micros"]) == ("stop", False, 200)
    assert shadowed.producer.to(TOPICS.audit)[-1].key == b"r1"
    assert shadowed.notes.shadows == [(record["model"], "answered")]
    assert len(shadowed.notes.endings) == 1


async def test_a_shadow_of_a_stream_asks_for_none(shadowed: "Bench") -> None:
    run, ending = ended()
    run.order = run.order._replace(body=b'{"messages":[],"stream":true,"stream_options":{"include_usage":true}}')
    drawn = shadow_for(run, ending, ALWAYS)
    assert drawn is not None
    order = shadow_order(run, drawn, TOPICS, shadowed.clock.unix_ms())
    await shadowed.worker.handle(as_record(order._replace(partition=3)))
    assert [record["state"] for record in shadows(shadowed)] == ["answered"]
    assert not orjson.loads(shadowed.upstream.requests[-1].content).keys() & {"stream", "stream_options"}


async def test_a_shadow_has_no_shadow_and_is_called_once(shadowed: "Bench") -> None:
    order = await shadow_of(shadowed)
    await shadowed.worker.handle(order)
    await shadowed.worker.handle(order)
    assert len(sent(shadowed)) == 1
    assert len(shadowed.upstream.requests) == 2


async def test_a_shadow_that_fails_is_told_and_leads_to_no_other_model_and_to_no_dead_letter(shadowed: "Bench") -> None:
    order = await shadow_of(shadowed)
    model = read_order(order.value, h.last(order.headers)).plan.steps[0].model
    shadowed.worker.room = replace(
        shadowed.worker.room,
        settings=replace(
            shadowed.worker.room.settings,
            failover=replace(shadowed.worker.room.settings.failover, fallbacks={model: ("openai/gpt-5",)}),
        ),
    )
    for provider in ("anthropic", "google"):
        shadowed.upstream.on(provider, lambda request: httpx.Response(500))
    before = shadowed.worker.accepts()
    await shadowed.worker.handle(order)
    (record,) = shadows(shadowed)
    assert (record["state"], record["selected_model"], record["model"]) == ("failed", None, model)
    assert {attempt["model"] for attempt in record["attempts"]} == {model}
    assert shadowed.producer.to(TOPICS.dlq) == []
    assert shadowed.worker.accepts() == before
    assert [end for _, end in shadowed.notes.shadows] == ["failed"]


async def test_a_bug_of_the_fleet_in_a_shadow_is_told_once_and_nothing_else_comes_of_it(shadowed: "Bench") -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise ZeroDivisionError

    order = await shadow_of(shadowed)
    for provider in ("anthropic", "google"):
        shadowed.upstream.on(provider, broken)
    await shadowed.worker.handle(order)
    (record,) = shadows(shadowed)
    assert (record["state"], record["failure"]) == ("failed", "heimdall_internal")
    assert [type(each) for each in shadowed.notes.bugs] == [ZeroDivisionError]
    assert shadowed.producer.to(TOPICS.dlq) == []
    assert len(shadowed.replies()) == 1


async def test_failing_shadows_do_not_stop_the_intake(shadowed: "Bench") -> None:
    for provider in ("anthropic", "google"):
        shadowed.provider(provider, circuit=BreakerSettings(min_calls=1_000, failures_in_a_row=1_000))
        shadowed.upstream.on(provider, lambda request: httpx.Response(500))
    for number in range(25):
        await shadowed.worker.handle(shadowed.order(*STEPS, request_id=f"r{number}"))
    for at, order in enumerate(sent(shadowed)):
        await shadowed.worker.handle(as_record(order, 900 + at))
    assert len(shadows(shadowed)) == 25
    assert shadowed.worker.accepts()


async def test_a_shadow_without_money_asks_nobody_and_is_told(shadowed: "Bench") -> None:
    shadowed.settings = replace(shadowed.settings, shadow=replace(ALWAYS, budget_usd_micros_per_day=100))
    await shadowed.worker.handle(await shadow_of(shadowed))
    (record,) = shadows(shadowed)
    assert (record["state"], record["failure"], record["attempts"]) == ("failed", "policy_budget", [])
    assert "learning.shadow.budget_usd_per_day" in record["error"]
    assert [end for _, end in shadowed.notes.shadows] == ["over_budget"]
    assert len(shadowed.upstream.requests) == 1


async def test_shadows_spend_what_they_cost_and_stop_before_the_budget_is_exceeded(shadowed: "Bench") -> None:
    """A call costs 200 micro-dollars and needs 310 to begin: 110 for the prompt, 200 for the caller's 100 tokens."""
    limit = 1_000
    shadowed.settings = replace(shadowed.settings, shadow=replace(ALWAYS, budget_usd_micros_per_day=limit))
    for number in range(8):
        await shadowed.worker.handle(shadowed.order(*STEPS, request_id=f"r{number}", body={"max_tokens": 100}))
    for at, order in enumerate(sent(shadowed)):
        await shadowed.worker.handle(as_record(order, 900 + at))
    assert [record["state"] for record in shadows(shadowed)] == ["answered"] * 4 + ["failed"] * 4
    assert sum(record["cost_usd_micros"] for record in shadows(shadowed)) == 800


async def test_an_answer_without_a_limit_is_bounded_by_what_was_set_aside(shadowed: "Bench") -> None:
    await shadowed.worker.handle(await shadow_of(shadowed))
    assert orjson.loads(shadowed.upstream.requests[-1].content)["max_tokens"] == 8_192


class NoMoney(MemoryState):
    """A shared state that answers everything but for money."""

    async def hold_money(self, budget: Budget, hold: str, usd_micros: int) -> bool:
        raise StateUnavailable("gone")


async def test_with_the_state_down_no_shadow_is_paid(shadowed: "Bench") -> None:
    shadowed.state = NoMoney(shadowed.clock.mono_ms)
    await shadowed.worker.handle(await shadow_of(shadowed))
    (record,) = shadows(shadowed)
    assert (record["failure"], record["attempts"]) == ("heimdall_unavailable", [])


async def test_a_shadow_that_comes_too_late_is_told_as_expired(shadowed: "Bench") -> None:
    run, ending = ended()
    drawn = shadow_for(run, ending, ALWAYS)
    assert drawn is not None
    order = shadow_order(run, drawn, TOPICS, shadowed.clock.unix_ms() - TTL_MS - 1)
    await shadowed.worker.handle(as_record(order._replace(partition=3)))
    assert [each["state"] for each in shadows(shadowed)] == ["expired"]
    assert shadowed.upstream.requests == []


async def test_a_shadow_that_kafka_does_not_take_is_lost_and_the_answer_is_not(shadowed: "Bench") -> None:
    for bucket in Bucket:
        shadowed.producer.refuse[TOPICS.dispatch(bucket)] = DeliveryUnknown("no answer")
    await shadowed.worker.handle(shadowed.order(*STEPS))
    assert len(shadowed.replies()) == 1
    assert [end for _, end in shadowed.notes.shadows] == ["not_sent"]


JUDGE = JudgeSettings("deepseek/r1", "{request} / {a} / {b}", max_tokens=50)
JUDGED = replace(ALWAYS, judge=JUDGE)


async def judged(bench: "Bench", *verdicts: Any, settings: ShadowSettings = JUDGED) -> dict[str, Any]:
    """The record of a shadow whose judge, the only model of its provider that is asked here, answers so."""
    bench.settings = replace(bench.settings, shadow=settings)
    bench.upstream.on("openai", ok("from the small one"))
    for provider in ("anthropic", "google"):
        bench.upstream.on(provider, ok("from the large one"))
    bench.upstream.on("openrouter", *verdicts)
    await bench.worker.handle(await shadow_of(bench))
    (record,) = shadows(bench)
    AUDIT.validate_python(record)
    return record


async def test_a_judge_scores_both_answers_and_its_cost_stands_beside_the_shadows(bench: "Bench") -> None:
    record = await judged(bench, ok('I think {"a": 0.25, "b": 1}'))
    judge = record["judge"]
    scores = (0.25, 1.0) if judge["order"] == "served, shadow" else (1.0, 0.25)
    assert (judge["score_served"], judge["score_shadow"]) == scores
    assert (judge["model"], judge["cost_usd_micros"], judge["failure"]) == ("deepseek/r1", 200, None)
    assert (record["cost_usd_micros"], [each["model"] for each in record["attempts"]]) == (200, [record["model"]])
    asked = orjson.loads(bench.upstream.requests[-1].content)
    first, second = "from the small one", "from the large one"
    told = f"{first} / {second}" if judge["order"] == "served, shadow" else f"{second} / {first}"
    assert asked["messages"] == [{"role": "user", "content": f"user: hi / {told}"}]
    assert len(bench.replies()) == 1


def test_each_answer_stands_first_in_half_of_the_questions() -> None:
    first = sum(served_first(f"s{number}") for number in range(2_000))
    assert 920 < first < 1_080


@pytest.mark.parametrize("said", ["no idea", '{"a": 2, "b": 0}', '{"a": true, "b": 0}', '{"a": 1}', "{not json}", ""])
async def test_a_verdict_that_cannot_be_read_is_told_and_scores_nothing(bench: "Bench", said: str) -> None:
    judge = (await judged(bench, ok(said)))["judge"]
    assert (judge["score_served"], judge["score_shadow"], judge["failure"]) == (None, None, "unreadable_verdict")
    assert judge["cost_usd_micros"] == 200


async def test_a_judge_that_fails_leaves_the_shadow_as_it_is(bench: "Bench") -> None:
    record = await judged(bench, lambda request: httpx.Response(500))
    assert (record["state"], record["judge"]["score_shadow"]) == ("answered", None)
    assert record["judge"]["failure"].startswith("provider_")


async def test_a_judge_is_paid_out_of_the_same_budget(bench: "Bench") -> None:
    """The shadow may take 16,494 micro-dollars and costs 200; what is left is less than a judge needs."""
    record = await judged(bench, ok('{"a": 1, "b": 0}'), settings=replace(JUDGED, budget_usd_micros_per_day=16_494))
    assert record["judge"]["failure"] is None
    dear = replace(JUDGED, judge=replace(JUDGE, max_tokens=90_000), budget_usd_micros_per_day=16_494)
    assert (await judged(type(bench)(), ok("{}"), settings=dear))["judge"]["failure"] == "policy_budget"


async def test_only_a_share_of_the_pairs_is_judged(bench: "Bench") -> None:
    settings = replace(JUDGED, judge=JudgeSettings("deepseek/r1", "{request}{a}{b}", share=1e-9))
    assert "judge" not in await judged(bench, ok('{"a": 1, "b": 0}'), settings=settings)


async def test_an_answer_that_calls_a_tool_is_not_judged(bench: "Bench") -> None:
    bench.settings = replace(bench.settings, shadow=JUDGED)
    run, ending = ended()
    for reply in (b'{"choices":[{"message":{"content":null,"tool_calls":[{}]}}]}', b"{}"):
        drawn = shadow_for(run, ending._replace(reply=reply), JUDGED)
        assert drawn is not None
        assert drawn.shadow.served_answer is None


def test_words_of_an_answer_are_never_taken_for_a_place_of_the_prompt() -> None:
    run, _ = ended()
    judge = JudgeSettings("j/j", "{request}|{a}|{b}")
    order = judge_order(run.order, {"messages": [{"role": "user", "content": [{"type": "text", "text": "{a}"},
                        {"type": "image_url"}]}]}, ("{b}", "{request}"), judge)  # fmt: skip
    prompt = orjson.loads(order.body)["messages"][0]["content"]
    answers = ["{b}", "{request}"] if served_first("r1") else ["{request}", "{b}"]
    assert prompt.split("|") == ["user: {a} [image_url]", *answers]
