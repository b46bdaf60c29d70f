"""How long a failed attempt holds a request up: milliseconds from its end to the beginning of the next one.

    python bench/failover.py -o json

A whole fleet on loopback, as `heimdall dev` runs it. Requests are pinned to a sick model with a healthy fallback; the
scripted providers log when each call began and ended, and the gap is measured in that log: it holds reading the failure,
deciding, taking another place and sending. Failures with a back-off have none to measure. A hung provider costs its
time-out besides; `hung` is what comes on top of it, less the way of the request to where its call is logged. Requests that
nothing fails at go before: the first calls of fresh processes open connections and read code.
"""

import asyncio
import os
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import harness
import httpx
import yaml

from heimdall_fleet.client import HeimdallClient
from heimdall_fleet.report.summary import percentile
from heimdall_fleet.stack.local import Stack, StackOptions, local_stack

TIMEOUT_S = 2
KINDS: Mapping[str, Mapping[str, Any]] = {
    "overloaded": {"errors": {"503": 1.0}},
    "failing": {"errors": {"500": 1.0}},
    "truncated": {"truncated_body": 1.0},
    "hung": {"hang": 1.0},
}
GOOD = "openai/gpt-6-luna"
CALM = {"latency_ms": {"median": 20.0}, "output_tokens": {"median": 20.0}}
PATIENCE = timedelta(seconds=60)
REQUESTS, FEW = 400, 5
WARM_UP = 40
AT_ONCE = 10
NEVER = {"failure_ratio": 1.0, "min_calls": 1}
"""A circuit that opens would keep the requests away from what is measured."""


def main() -> None:
    arguments = harness.parser(__doc__ or "").parse_args()
    harness.show(asyncio.run(measure(FEW if arguments.quick else REQUESTS)), arguments.output)


async def measure(count: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        options = StackOptions(
            Path(folder),
            plan={"seed": 1, "behaviours": {"*": CALM, **KINDS}},
            settings=settings(),
            more_authors=tuple(KINDS),
        )
        figures: dict[str, Any] = {}
        async with local_stack(options) as stack, HeimdallClient(stack.bootstrap) as client:
            await ask_all("Warm-up", GOOD, min(count, WARM_UP), client)
            for kind in KINDS:
                gaps = await gaps_of(kind, count if kind != "hung" else min(count, 100), stack, client)
                figures |= {f"{kind}_p{share}_ms": rounded(percentile(gaps, share / 100)) for share in (50, 99)}
    return {**figures, "requests": count, "load_average": round(os.getloadavg()[0], 1)}


def settings() -> dict[str, Any]:
    facts = {"price": {"input": 1, "output": 1}, "context_window": 100_000}
    return {
        "models": {f"{kind}/one": facts for kind in KINDS},
        "dispatch": {"fallbacks": {f"{kind}/one": [GOOD] for kind in KINDS}},
        "provider_defaults": {
            "network": {"max_retries": 0, "timeout": f"{TIMEOUT_S}s"},
            "circuit": NEVER,
        },
    }


async def ask_all(word: str, model: str, count: int, client: HeimdallClient) -> None:
    places = asyncio.Semaphore(AT_ONCE)

    async def ask(number: int) -> None:
        async with places:
            question = [{"role": "user", "content": f"{word} {number} of the failover bench"}]
            await client.complete(messages=question, model=model, deadline=PATIENCE)

    await asyncio.gather(*(ask(number) for number in range(count)))


async def gaps_of(kind: str, count: int, stack: Stack, client: HeimdallClient) -> list[float]:
    """Milliseconds between the two calls of each request; of a hung provider, without the time-out."""
    await ask_all("Question", f"{kind}/one", count, client)
    url = next(iter(yaml.safe_load(stack.config.read_text())["providers"].values()))["base_url"].split("/", 3)
    async with httpx.AsyncClient() as http:
        calls = (await http.get(f"{url[0]}//{url[2]}/_calls")).json()["calls"]
    failed = {call["request_id"]: call for call in calls if call["provider"] == kind}
    gaps = []
    for call in calls:
        before = failed.get(call["request_id"])
        if before is not None and call["provider"] != kind:
            since = before["start"] + TIMEOUT_S if kind == "hung" else before["end"]
            gaps.append((call["start"] - since) * 1_000)
    assert len(gaps) >= count * 0.9, f"{kind}: {len(gaps)} of {count} requests went to the sick provider and on"
    return gaps


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


if __name__ == "__main__":
    main()
