"""A whole fleet on the embedded broker, as `heimdall dev` starts it, once for the session."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from heimdall_fleet.client import HeimdallClient
from heimdall_fleet.stack.local import Stack, StackOptions, local_stack

PLAN = {
    "seed": 3,
    "behaviours": {
        "*": {"latency_ms": {"median": 20, "sigma": 0.3}, "output_tokens": {"median": 40, "sigma": 0.5}},
        "sick": {"errors": {"500": 1.0}},
        "slow": {"latency_ms": {"median": 20_000, "sigma": 0.0}},
    },
}
MODELS = {
    "sick/one": {"price": {"input": 1, "output": 1}, "context_window": 100_000},
    "slow/one": {"price": {"input": 1, "output": 1}, "context_window": 100_000},
}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack(tmp_path_factory: object) -> AsyncIterator[Stack]:
    directory: Path = tmp_path_factory.mktemp("stack")  # type: ignore[attr-defined]  # pytest's own factory
    options = StackOptions(
        directory,
        plan=PLAN,
        calls=directory / "calls.jsonl",
        settings={"models": MODELS},
        more_authors=("sick", "slow"),
    )
    async with local_stack(options) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def client(stack: Stack) -> AsyncIterator[HeimdallClient]:
    async with HeimdallClient(stack.bootstrap) as opened:
        yield opened
