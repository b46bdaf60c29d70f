"""The measured process of `peers.py`: LiteLLM, as its SDK or as its Router. Runs with the interpreter that has it.

Imports nothing of this project, so that the peer's environment needs nothing of it.
"""

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any, TextIO

Ask = Callable[[dict[str, Any]], Awaitable[Any]]

TIMEOUT_S = 120.0
"""Longer than any call waits for its turn of a busy processor."""


def main() -> None:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it downloads its prices first
    kind, base_url = sys.argv[1:]
    answers, sys.stdout = sys.stdout, sys.stderr  # it prints advice among its results
    asyncio.run(serve({"sdk": by_sdk, "router": by_router}[kind](base_url), answers))


def by_sdk(base_url: str) -> Ask:
    complete = import_module("litellm").acompletion

    async def ask(body: dict[str, Any]) -> Any:
        return await complete(
            model="openai/m", api_base=base_url, api_key="scripted-openai-1", max_retries=2, timeout=TIMEOUT_S, **body
        )

    return ask


def by_router(base_url: str) -> Ask:
    deployments = [
        {
            "model_name": "m",
            "litellm_params": {"model": "openai/m", "api_base": base_url, "api_key": f"scripted-openai-{number}"},
        }
        for number in (1, 2)
    ]
    router = import_module("litellm").Router(model_list=deployments, num_retries=2, timeout=TIMEOUT_S)

    async def ask(body: dict[str, Any]) -> Any:
        return await router.acompletion(model="m", **body)

    return ask


async def serve(ask: Ask, answers: TextIO) -> None:
    print(json.dumps({"ready": True}), file=answers, flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        bodies = [json.loads(body) for body in command["bodies"]]
        await _refresh(ask, bodies, command["in_flight"])
        cpu, wall = time.process_time(), time.perf_counter()
        await _all(ask, bodies, command["in_flight"])
        spent = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({**spent, "rss_mib": round(peak_mib, 1)}), file=answers, flush=True)


async def _refresh(ask: Ask, bodies: list[dict[str, Any]], connections: int) -> None:
    """Ask without a measure: a connection that died between two rounds fails its next call, whatever the retries."""
    calls = [ask({"messages": body["messages"]}) for body in bodies[:connections]]
    await asyncio.gather(*calls, return_exceptions=True)


async def _all(ask: Ask, bodies: list[dict[str, Any]], in_flight: int) -> None:
    left = iter(bodies)

    async def caller() -> None:
        for body in left:
            answer = await ask({"messages": body["messages"], "temperature": body["temperature"]})
            assert answer.choices[0].message.content

    await asyncio.gather(*(caller() for _ in range(in_flight)))


if __name__ == "__main__":
    main()
