"""The scripted providers over loopback, called the way the fleet calls a provider."""

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from heimdall_fleet.providers.answer_reader import AnswerReader
from heimdall_fleet.providers.dialect import AttemptError, AttemptFailure, Call, Target, WireRequest
from heimdall_fleet.providers.http import CallLimits, HttpClient
from heimdall_fleet.providers.registry import dialect_for
from heimdall_fleet.providers.scripted import Behaviour, Outage, Plan, ScriptedProviders, Spread, fingerprint
from heimdall_schemas.failure import FailureCode as Code

Connect = Callable[..., HttpClient]
LIMITS = CallLimits(total_timeout_ms=5_000, idle_timeout_ms=2_000)
SECRET = "sk-test-secret-0123456789"
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}


def call_to(base_url: str, *, stream: bool = False, model: str = "m", secret: str = SECRET, **body: Any) -> Call:
    target = Target("openai", "openai", base_url, model, f"author/{model}", {}, {}, None, {})
    return Call({"messages": [{"role": "user", "content": "Why is the sky blue?"}], **body}, target, secret, {}, stream)


async def complete(client: HttpClient, call: Call, limits: CallLimits = LIMITS) -> dict[str, Any]:
    dialect = dialect_for(call.target.type)
    wire = dialect.to_wire(call._replace(request_id="request-1"))
    if not call.stream:
        whole = await client.post(wire, limits)
        if whole.status != 200:
            raise AttemptError(dialect.failure(whole.status, whole.headers, whole.body))
        return dialect.from_wire(whole.body, call)
    reader = AnswerReader(dialect, call)
    async with client.stream(wire, limits) as answer:
        if answer.status != 200:
            raise AttemptError(dialect.failure(answer.status, answer.headers, await answer.read()))
        async for data in answer:
            reader.feed(data)
    return reader.finish()


async def failure_of(client: HttpClient, call: Call, limits: CallLimits = LIMITS) -> AttemptFailure:
    with pytest.raises(AttemptError) as caught:
        await complete(client, call, limits)
    return caught.value.failure


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"max_tokens": 3},
        {"tools": [TOOL], "tool_choice": "required"},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "look_up"}}},
        {"response_format": {"type": "json_object"}},
        {"reasoning_effort": "high"},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
    ],
    ids=["plain", "limit", "tools", "named-tool", "json", "effort", "parts"],
)
async def test_a_stream_and_a_plain_answer_say_the_same(body: dict[str, Any], connect: Connect) -> None:
    plan = Plan(3, {"*": Behaviour(output_tokens=Spread(30, 0.3))})
    async with ScriptedProviders(plan) as servers:
        url = servers.base_url("openai")
        plain = await complete(connect(), call_to(url, **body))
        streamed = await complete(connect(), call_to(url, stream=True, **body))
    for completion in (plain, streamed):
        completion["choices"][0]["message"].pop("annotations", None)
        completion.pop("created")
    assert streamed == plain
    assert plain["usage"]["total_tokens"] > 1


PLANNED: list[tuple[Behaviour, bool, Code]] = [
    (Behaviour(errors={429: 1.0}, retry_after_s=2), False, Code.PROVIDER_RATE_LIMITED),
    (Behaviour(errors={500: 1.0}), False, Code.PROVIDER_ERROR),
    (Behaviour(errors={529: 1.0}), True, Code.PROVIDER_OVERLOADED),
    (Behaviour(errors={401: 1.0}), False, Code.PROVIDER_AUTH),
    (Behaviour(errors={404: 1.0}), False, Code.PROVIDER_NOT_FOUND),
    (Behaviour(errors={400: 1.0}), False, Code.PROVIDER_REJECTED),
    (Behaviour(outages=(Outage(0, 60),)), False, Code.PROVIDER_OVERLOADED),
    (Behaviour(cut_stream=1.0), True, Code.PROVIDER_TRUNCATED),
    (Behaviour(truncated_body=1.0), False, Code.PROVIDER_TRUNCATED),
    (Behaviour(error_in_200=1.0), False, Code.PROVIDER_ERROR),
    (Behaviour(error_in_200=1.0), True, Code.PROVIDER_ERROR),
    (Behaviour(refused_keys=(fingerprint(SECRET),)), False, Code.PROVIDER_AUTH),
]


@pytest.mark.parametrize(("behaviour", "stream", "code"), PLANNED)
async def test_what_is_planned_is_what_the_fleet_sees(
    behaviour: Behaviour, stream: bool, code: Code, connect: Connect
) -> None:
    async with ScriptedProviders(Plan(1, {"openai": behaviour})) as servers:
        failure = await failure_of(connect(), call_to(servers.base_url("openai"), stream=stream))
        other = await complete(connect(), call_to(servers.base_url("groq")))
    assert failure.code is code
    assert failure.retry_after_ms == (2000 if code is Code.PROVIDER_RATE_LIMITED else None)
    assert other["choices"]


async def test_a_call_that_hangs_ends_with_the_client_and_is_in_the_log(connect: Connect) -> None:
    async with ScriptedProviders(Plan(1, {"*": Behaviour(hang=1.0)})) as servers:
        failure = await failure_of(connect(), call_to(servers.base_url("openai")), CallLimits(100))
        assert failure.code is Code.PROVIDER_TIMEOUT
        await until(lambda: servers.calls[0].end is not None)
        assert servers.calls[0].outcome == "hang"


async def test_a_client_that_leaves_is_logged_as_gone(connect: Connect) -> None:
    async with ScriptedProviders(Plan(1, {"*": Behaviour(latency_ms=Spread(5_000))})) as servers:
        await failure_of(connect(), call_to(servers.base_url("openai")), CallLimits(100))
        await until(lambda: servers.calls[0].end is not None)
        assert servers.calls[0].outcome == "gone"


async def test_a_limit_per_minute_holds_for_each_key(connect: Connect) -> None:
    async with ScriptedProviders(Plan(1, {"*": Behaviour(rpm=2)})) as servers:
        url, client = servers.base_url("openai"), connect()
        for _ in range(2):
            await complete(client, call_to(url))
        failure = await failure_of(client, call_to(url))
        assert failure.code is Code.PROVIDER_RATE_LIMITED
        assert 0 < (failure.retry_after_ms or 0) <= 60_000
        assert await complete(client, call_to(url, secret="sk-another"))


async def test_latency_and_speed_are_kept(connect: Connect) -> None:
    behaviour = Behaviour(latency_ms=Spread(60), output_tokens=Spread(20), tokens_per_s=200)
    async with ScriptedProviders(Plan(1, {"*": behaviour})) as servers:
        for stream in (False, True):
            started = time.monotonic()
            await complete(connect(), call_to(servers.base_url("openai"), stream=stream))
            assert 0.15 <= time.monotonic() - started < 1.0


async def test_the_same_seed_gives_the_same_fates_in_any_order(connect: Connect) -> None:
    plan = Plan(7, {"*": Behaviour(errors={500: 0.5})})

    async def statuses(order: list[int]) -> dict[int, list[int]]:
        async with ScriptedProviders(plan) as servers:
            client, found = connect(), {}
            for number in order:
                call = call_to(servers.base_url("openai"))
                wire = dialect_for("openai").to_wire(call._replace(request_id=f"r{number}"))
                found[number] = [(await client.post(wire, LIMITS)).status for _ in range(3)]
            return found

    numbers = list(range(12))
    first = await statuses(numbers)
    assert first == await statuses(numbers[::-1])
    assert {status for fates in first.values() for status in fates} == {200, 500}


async def test_every_call_is_logged_without_its_key(connect: Connect, tmp_path: Path) -> None:
    calls_file = tmp_path / "calls.jsonl"
    async with ScriptedProviders(Plan(), calls_file) as servers:
        completion = await complete(connect(), call_to(servers.base_url("openai"), model="gpt-5"))
        listed = await connect().post(WireRequest("GET", f"{servers.url}/_calls?since=0", {}, b""), LIMITS)
        none = await connect().post(WireRequest("GET", f"{servers.url}/_calls?since=1", {}, b""), LIMITS)
    line = orjson.loads(calls_file.read_bytes())
    assert orjson.loads(listed.body)["calls"] == [line]
    assert orjson.loads(none.body)["calls"] == []
    assert SECRET.encode() not in calls_file.read_bytes()
    assert line["request_id"] == "request-1"
    assert (line["provider"], line["model"], line["key"]) == ("openai", "gpt-5", fingerprint(SECRET))
    assert (line["status"], line["outcome"], line["stream"]) == (200, "ok", False)
    assert line["start"] <= line["end"]
    assert line["completion_tokens"] == completion["usage"]["completion_tokens"]


async def test_the_plan_can_be_changed_while_running(connect: Connect) -> None:
    async with ScriptedProviders(Plan()) as servers:
        url, client = f"{servers.url}/_plan", connect()
        plan = Plan(2, {"openai/gpt-5": Behaviour(errors={503: 1.0})})
        assert (await client.post(WireRequest("PUT", url, {}, plan.to_json()), LIMITS)).status == 200
        assert orjson.loads((await client.post(WireRequest("GET", url, {}, b""), LIMITS)).body)["seed"] == 2
        base_url = servers.base_url("openai")
        assert (await failure_of(client, call_to(base_url, model="gpt-5"))).code is Code.PROVIDER_OVERLOADED
        assert (await client.post(WireRequest("PUT", url, {}, b'{"bad": 1}'), LIMITS)).status == 400
        models = await client.post(WireRequest("GET", f"{base_url}/models", {}, b""), LIMITS)
        assert [model["id"] for model in orjson.loads(models.body)["data"]] == ["gpt-5"]


@pytest.mark.parametrize(
    "body", [b"", b"nope", b"[]", b"{}", b'{"model":"m","messages":[7]}', b'{"model":"m","messages":3}']
)
async def test_a_body_that_cannot_be_served_is_a_400(body: bytes, connect: Connect) -> None:
    async with ScriptedProviders(Plan()) as servers:
        wire = WireRequest("POST", f"{servers.base_url('openai')}/chat/completions", {}, body)
        assert (await connect().post(wire, LIMITS)).status == 400


async def test_the_servers_run_as_a_process_of_their_own(connect: Connect, tmp_path: Path) -> None:
    plan_file, calls_file = tmp_path / "plan.json", tmp_path / "calls.jsonl"
    plan_file.write_bytes(Plan(1, {"*": Behaviour(output_tokens=Spread(3))}).to_json())
    command = [sys.executable, "-m", "heimdall_fleet.providers.scripted"]
    options = ["--port", "0", "--plan", str(plan_file), "--calls", str(calls_file)]
    process = await asyncio.create_subprocess_exec(*command, *options, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        ready = orjson.loads(await asyncio.wait_for(process.stdout.readline(), 20))
        completion = await complete(connect(), call_to(f"{ready['base_url']}/openai/v1"))
        assert ready["pid"] == process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        exit_code = await asyncio.wait_for(process.wait(), 10)
    assert completion["usage"]["completion_tokens"] == 3
    assert exit_code == 0
    assert orjson.loads(calls_file.read_bytes())["outcome"] == "ok"


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the condition did not come true within 5 s")
