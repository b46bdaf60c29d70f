"""What one HTTP call costs this process: four ways to make it, side by side on the same upstream.

    python bench/http_client.py -o json

The ways: the httpx client over the transport of `httpx_aiohttp`; that transport called directly with prepared
requests; the fleet's `HttpClient` (httpx's headers and errors over aiohttp's connections); a bare aiohttp session.
Rounds are interleaved, so that a noisy machine disturbs all of them alike; figures are medians of CPU time.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from heimdall_fleet.providers.dialect import WireRequest
from heimdall_fleet.providers.http import CallLimits, HttpClient
from heimdall_fleet.providers.scripted.plan import Behaviour, Plan, Spread
from heimdall_fleet.providers.transport import Network

Way = Callable[[], Awaitable[bytes]]

HEADERS = {
    "authorization": "Bearer sk-bench-0000000000000000",
    "content-type": "application/json",
    "accept": "application/json",
}
BODY = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "word " * 120}]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    parser.add_argument("--requests", type=int, default=2000, help="requests of one way in one round")
    parser.add_argument("--in-flight", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--latency-ms", type=float, default=60.0, help="of the upstream")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plan_file = Path(folder, "plan.json")
        plan_file.write_bytes(Plan(behaviours={"*": Behaviour(Spread(arguments.latency_ms))}).to_json())
        command = [sys.executable, "-m", "heimdall_fleet.providers.scripted", "--plan", str(plan_file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as upstream:
            try:
                assert upstream.stdout is not None
                url = orjson.loads(upstream.stdout.readline())["base_url"] + "/openai/v1/chat/completions"
                result = asyncio.run(measure(url, arguments))
            finally:
                upstream.terminate()
    if arguments.output == "json":
        print(orjson.dumps(result).decode())
    else:
        for name, value in result.items():
            print(f"{name:28} {value:10.2f}" if isinstance(value, float) else f"{name:28} {value:10}")


async def measure(url: str, arguments: argparse.Namespace) -> dict[str, float | int]:
    async with AsyncExitStack() as stack:
        ways = await open_ways(url, stack)
        costs: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(arguments.rounds + 1):
            for name, way in ways.items():
                cost_us = await cpu_us(way, arguments.requests, arguments.in_flight)
                if number:  # the first round warms up
                    costs[name].append(cost_us)
    medians = {name: statistics.median(values) for name, values in costs.items()}
    result: dict[str, float | int] = {f"us_{name}": round(value, 1) for name, value in medians.items()}
    bare = costs["bare_aiohttp"]
    for name, values in costs.items():
        ratios = [mine / theirs for mine, theirs in zip(values, bare, strict=True)]
        result[f"ratio_{name}"] = round(statistics.median(ratios), 2)
    return result | {"in_flight": arguments.in_flight, "requests": arguments.requests, "rounds": arguments.rounds}


async def open_ways(url: str, stack: AsyncExitStack) -> dict[str, Way]:
    client = await stack.enter_async_context(
        httpx.AsyncClient(transport=AiohttpTransport(client=session), timeout=30.0)
    )
    transport = await stack.enter_async_context(AiohttpTransport(client=session))
    fleet = HttpClient.over(Network())
    stack.push_async_callback(fleet.aclose)
    bare = await stack.enter_async_context(session())
    address = httpx.URL(url)
    request, limits = WireRequest("POST", url, HEADERS, BODY), CallLimits(30_000)

    async def through_client() -> bytes:
        return (await client.post(url, content=BODY, headers=HEADERS)).content

    async def through_transport() -> bytes:
        prepared = httpx.Request("POST", address, headers=HEADERS, content=BODY)
        response = await transport.handle_async_request(prepared)
        return await response.aread()

    async def through_fleet() -> bytes:
        return (await fleet.post(request, limits)).body

    async def through_aiohttp() -> bytes:
        async with bare.post(url, data=BODY, headers=HEADERS) as response:
            return await response.read()

    return {
        "httpx_client": through_client,
        "httpx_aiohttp_transport": through_transport,
        "fleet_client": through_fleet,
        "bare_aiohttp": through_aiohttp,
    }


def session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"accept-encoding": "identity"},
    )


async def cpu_us(way: Way, requests: int, in_flight: int) -> float:
    """CPU microseconds of this process for one request, the event loop included."""
    left = iter(range(requests))

    async def caller() -> None:
        for _ in left:
            assert b'"usage"' in await way()

    started = time.process_time()
    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return (time.process_time() - started) / requests * 1e6


if __name__ == "__main__":
    main()
