"""Whose order it is where no shared state can tell: a worker that stood still asks the group before it calls or speaks."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest

from heimdall_fleet.kafka.errors import NotOurs
from heimdall_fleet.kafka.records import Record
from heimdall_fleet.state.base import Claim, StateUnavailable
from heimdall_fleet.state.memory import MemoryState

if TYPE_CHECKING:
    from tests.unit.heimdall_fleet.dispatch.conftest import Bench


class Group:
    """What the group says, one word after the other; the last one for ever."""

    def __init__(self, *words: bool | None) -> None:
        self._words = iter(words)
        self.last: bool | None = None

    def holds(self, record: Record) -> bool | None:
        self.last = next(self._words, self.last)
        return self.last


def lonely(bench: "Bench", group: Group) -> "Bench":
    """A worker whose state is its own."""
    bench.settings = replace(bench.settings, shared_state=False, grace_ms=0)
    bench.worker.room = replace(bench.worker.room, holds=group.holds)
    return bench


def no(status: int) -> Iterator[httpx.Response]:
    while True:
        yield httpx.Response(status, json={"error": {"message": "no"}})


async def test_an_order_that_is_somebody_elses_by_now_is_neither_called_for_nor_spoken_of(bench: "Bench") -> None:
    lonely(bench, Group(False))
    with pytest.raises(NotOurs):
        await bench.worker.handle(bench.order())
    assert (bench.upstream.requests, bench.producer.sent) == ([], [])
    assert bench.worker.room.pool.provider("openai").in_flight == 0


async def test_while_the_group_says_nothing_it_is_waited_for(bench: "Bench") -> None:
    lonely(bench, Group(None, None, True))
    reply = await bench.run()
    assert reply["heimdall"]["state"] == "answered"


async def test_a_failure_is_left_to_the_new_owner_and_the_calls_for_it_are_audited(bench: "Bench") -> None:
    refusals = no(400)
    bench.upstream.on("openai", lambda request: next(refusals))
    lonely(bench, Group(True, False))
    with pytest.raises(NotOurs):
        await bench.worker.handle(bench.order())
    assert bench.replies() == []
    (wasted,) = bench.outcomes()
    assert wasted["superseded"] is True
    assert [attempt["failure"] for attempt in wasted["attempts"]] == ["provider_rejected"]


async def test_an_answer_in_time_is_published_whoever_has_the_partition_now(bench: "Bench") -> None:
    lonely(bench, Group(True, False))
    assert (await bench.run())["heimdall"]["state"] == "answered"


async def test_an_expiry_is_left_to_the_new_owner(bench: "Bench") -> None:
    lonely(bench, Group(False))
    with pytest.raises(NotOurs):
        await bench.worker.handle(bench.order(ttl_ms=-1))
    assert bench.producer.sent == []


async def test_with_a_shared_state_the_group_is_asked_only_while_the_state_is_down(bench: "Bench") -> None:
    class Down(MemoryState):
        async def claim_call(self, call_id: str, holder: str, lease_ms: int, fingerprint: str = "") -> Claim:
            raise StateUnavailable("gone")

    bench.worker.room = replace(bench.worker.room, holds=Group(False).holds)
    assert (await bench.run())["heimdall"]["state"] == "answered"
    bench.worker.room = replace(bench.worker.room, state=Down(bench.clock.mono_ms))
    with pytest.raises(NotOurs):
        await bench.worker.handle(bench.order(request_id="r2"))
