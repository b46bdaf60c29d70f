"""Faults 10, 11, 12 and 16: providers that refuse, fail, hang, babble, answer too late, or are all gone."""

import asyncio
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.brokers.clusters import ApacheCluster
from tests.faults.figures import Tell
from tests.faults.fleet import PLAIN, Setup
from tests.faults.history import Fault, Sent
from tests.faults.peek import get
from tests.faults.scenario import Scenario, Verdict, scenario
from tests.faults.strange import Strange, strange_providers

from heimdall_fleet.stack.processes import free_port

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

GOOD = "openai/gpt-6-luna"
TIMEOUT_S = 2
BLOCKED_S = 10.0
"""Neighbours of eight bombs that were unpacked whole, one after the other, would be later than that."""
SECRET = "CANARY-KEY-elsewhere"
SCRIPTED: dict[str, tuple[dict[str, Any], str]] = {
    "limited": ({"errors": {"429": 1.0}, "retry_after_s": 5}, "provider_rate_limited"),
    "limitedsilently": ({"errors": {"429": 1.0}}, "provider_rate_limited"),
    "e500": ({"errors": {"500": 1.0}}, "provider_error"),
    "e502": ({"errors": {"502": 1.0}}, "provider_error"),
    "e503": ({"errors": {"503": 1.0}}, "provider_overloaded"),
    "e529": ({"errors": {"529": 1.0}}, "provider_overloaded"),
    "hangs": ({"hang": 1.0}, "provider_timeout"),
    "late": ({"latency_ms": {"median": 1_000 * (TIMEOUT_S + 2)}}, "provider_timeout"),
    "truncates": ({"truncated_body": 1.0, "output_tokens": {"median": 30}}, "provider_truncated"),
    "error200": ({"error_in_200": 1.0}, "provider_error"),
}
STRANGE = {
    "html": "provider_malformed",
    "otherjson": "provider_malformed",
    "drip": "provider_timeout",
    "huge": "provider_too_large",
    "endless": "provider_too_large",
    "telltale": "provider_error",
}
UNREACHED = ("refused", "nameless", "untrusted")
SICK = (*SCRIPTED, *STRANGE, "bomb", *UNREACHED)


@pytest.fixture
def failing(tmp_path: Path) -> Setup:
    """Every sick provider has one model, pinned requests for which fall back to a good one."""
    behaviours = {name: behaviour for name, (behaviour, _) in SCRIPTED.items()}
    return Setup(
        210,
        tmp_path,
        behaviours={"*": PLAIN, **behaviours},
        more_authors=tuple(SCRIPTED),
        settings={
            "models": {f"{name}/one": {"price": {"input": 1, "output": 1}, "context_window": 100_000} for name in SICK},
            "dispatch": {"fallbacks": {f"{name}/one": [GOOD] for name in SICK}},
            "provider_defaults": {"network": {"timeout": f"{TIMEOUT_S}s", "max_retries": 1}},
        },
    )


async def test_each_sick_provider_is_left_for_a_good_one_with_its_failure_classified(
    apache_broker: ApacheCluster, failing: Setup, tell: Tell
) -> None:
    async with strange_providers("dispatch-1") as strange:
        setup = with_elsewhere(failing, strange)
        async with scenario(apache_broker, setup) as run:
            asked = {}
            for name in (*SCRIPTED, *STRANGE, *UNREACHED):
                for sent in await run.load.many(4, model=f"{name}/one"):
                    asked[sent.request_id] = name
            await run.settled()
            found = await run.replies()
            run.fleet.events += strange.calls
            verdict = await run.verdict()
            tell(verdict.figures())
            assert verdict.states == {"answered": len(asked)}
            failures: dict[str, set[str]] = defaultdict(set)
            for request_id, name in asked.items():
                facts = found[request_id]["heimdall"]
                assert facts["selected_model"] == GOOD
                failures[name] |= {each["failure"] for each in facts["attempts"] if each["provider"] == name}
            expected = {name: {code} for name, (_, code) in SCRIPTED.items()} | {k: {v} for k, v in STRANGE.items()}
            assert failures == expected | {name: {"provider_unreachable"} for name in UNREACHED}


def with_elsewhere(setup: Setup, strange: Strange) -> Setup:
    places = {name: f"{strange.url}/{name}/v1" for name in (*STRANGE, "bomb")}
    places["refused"] = f"http://127.0.0.1:{free_port()}/v1"
    places["nameless"] = "http://no-such-host.invalid/v1"
    places["untrusted"] = f"{strange.tls_url}/html/v1"
    elsewhere: dict[str, dict[str, Any]] = {
        name: {"type": "custom", "base_url": place, "keys": [{"name": f"{name}-1", "value": f"{SECRET}-{name}"}]}
        for name, place in places.items()
    }
    for name in ("huge", "endless"):  # bytes are what ends them, however slow the machine is
        elsewhere[name]["network"] = {"timeout": f"{10 * TIMEOUT_S}s", "max_retries": 1}
    return replace(setup, elsewhere=elsewhere)


async def test_compressed_bombs_are_refused_and_hold_nobody_else_up(
    apache_broker: ApacheCluster, failing: Setup, tell: Tell
) -> None:
    async with (
        strange_providers("dispatch-1") as strange,
        scenario(apache_broker, with_elsewhere(failing, strange)) as run,
    ):
        quiet = await run.load.many(60, 60)
        await run.answers(60)
        bombs, among = await asyncio.gather(run.load.many(8, 20, model="bomb/one"), run.load.many(60, 60))
        await run.settled()
        found = await run.replies()
        run.fleet.events += strange.calls
        verdict = await run.verdict()
        slowest = {name: slowest_s(verdict, sent) for name, sent in (("quiet", quiet), ("among", among))}
        tell(verdict.figures() | {"slowest_s": slowest})
        attempts = [each for sent in bombs for each in found[sent.request_id]["heimdall"]["attempts"]]
        assert {each["failure"] for each in attempts if each["provider"] == "bomb"} == {"provider_too_large"}
        assert slowest["among"] < slowest["quiet"] + BLOCKED_S


def slowest_s(verdict: Verdict, sent: list[Sent]) -> float:
    """The longest time from an acknowledgement to its reply."""
    at = {reply.request_id: reply.at for reply in verdict.history.reply}
    return round(max(at[each.request_id] - each.at for each in sent), 2)


async def test_a_stream_that_is_cut_is_never_passed_on_as_complete(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    behaviours = {"*": PLAIN, "cuts": {"cut_stream": 1.0, "output_tokens": {"median": 40}, "tokens_per_s": 400}}
    settings = {"models": {"cuts/one": {"price": {"input": 1, "output": 1}, "context_window": 100_000}}}
    setup = Setup(211, tmp_path, behaviours=behaviours, more_authors=("cuts",), settings=settings)
    async with scenario(apache_broker, setup) as run:
        await run.load.many(6, model="cuts/one", stream=True)
        await run.settled()
        found = await run.replies()
        verdict = await run.verdict()
        tell(verdict.figures())
        assert verdict.states == {"failed": 6}
        assert {reply["error"]["code"] for reply in found.values()} <= {"provider_truncated", "provider_exhausted"}


async def test_a_circuit_opens_and_lets_a_few_probes_through(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    settings: dict[str, dict[str, Any]] = {
        "models": {"sick/one": {"price": {"input": 1, "output": 1}, "context_window": 100_000}},
        "dispatch": {"fallbacks": {"sick/one": [GOOD]}},
        "provider_defaults": {"network": {"max_retries": 0}, "circuit": {"open_for": "3s", "min_calls": 5}},
    }
    sick = {"*": PLAIN, "sick": {"errors": {"500": 1.0}}}
    setup = Setup(212, tmp_path, behaviours=sick, more_authors=("sick",), settings=settings)
    async with scenario(apache_broker, setup) as run:
        await run.load.many(300, 50, model="sick/one")
        await run.fleet.behave({"*": PLAIN})
        await asyncio.sleep(4)
        await run.load.many(40, 10, model="sick/one")
        await run.settled()
        calls = Counter((call["provider"], call["outcome"]) for call in await run.fleet.calls())
        verdict = await run.verdict()
        tell(verdict.figures() | {"calls_of_the_sick": calls["sick", "error"]})
        assert verdict.states == {"answered": 340}
        assert calls["sick", "error"] < 60, "the circuit did not open"
        assert calls["sick", "ok"] > 5, "the circuit did not close again"


async def test_in_an_outage_intake_stops_nothing_is_dead_lettered_and_all_is_answered_afterwards(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    async with scenario(apache_broker, Setup(216, tmp_path)) as run:
        await run.load.many(5, 50)
        await run.answers(5)
        begun = run.load.sent[-1].at
        await run.fleet.behave({"*": {"errors": {"503": 1.0}}})
        await run.load.many(200, 40)
        assert await intake_stops(run), "the worker takes orders though every provider is gone"
        await run.fleet.behave({"*": PLAIN})
        run.fleet.events.append(Fault(begun, run.load.sent[-1].at, "outage"))
        await run.settled(120)
        verdict = await run.verdict()
        tell(verdict.figures())
        assert verdict.history.letter == []
        assert verdict.states["answered"] >= 190


async def intake_stops(run: Scenario, within_s: float = 20.0) -> bool:
    async with asyncio.timeout(within_s):
        while True:
            status, body = await get(run.fleet.alive("dispatch")[0].port, "/readyz")
            if status == 503 and "intake is paused" in body:
                return True
            await asyncio.sleep(0.2)
