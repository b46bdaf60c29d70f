"""One suite for every shared state: what dispatch relies on holds for the in-memory twin and for a real Redis."""

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import TimeoutError as RedisTimeout
from tests.brokers.redis import redis_server

from heimdall_fleet.state.base import Budget, ClaimKind, SharedState, StateUnavailable, Want
from heimdall_fleet.state.memory import MemoryState
from heimdall_fleet.state.redis import RedisState

LEASE_MS = 60


@dataclass
class Stage:
    """A state, and a way to let its clock run."""

    state: SharedState
    pass_ms: Callable[[float], Awaitable[None]]


@pytest.fixture(scope="module")
def redis_port() -> Iterator[int]:
    with redis_server() as server:
        yield server.port


@pytest.fixture(params=["memory", "redis"])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    if request.param == "memory":
        now = [1_000.0]

        async def turn(span_ms: float) -> None:
            now[0] += span_ms

        yield Stage(MemoryState(lambda: now[0]), turn)
        return

    async def wait(span_ms: float) -> None:
        await asyncio.sleep(span_ms / 1_000)

    port = request.getfixturevalue("redis_port")
    state = RedisState.connect(f"redis://127.0.0.1:{port}/0", prefix=f"{uuid.uuid4()}:", timeout_s=15.0)
    yield Stage(state, wait)
    await state.close()


async def test_the_first_worker_gets_the_call_and_the_second_is_told_to_wait(stage: Stage) -> None:
    assert (await stage.state.claim_call("r", "w1", LEASE_MS)).kind is ClaimKind.OURS
    second = await stage.state.claim_call("r", "w2", LEASE_MS)
    assert second.kind is ClaimKind.HELD
    assert 0 < second.wait_ms <= LEASE_MS


async def test_asking_again_is_ours_again_and_extends_the_lease(stage: Stage) -> None:
    await stage.state.claim_call("r", "w1", LEASE_MS)
    await stage.pass_ms(LEASE_MS / 2)
    assert (await stage.state.claim_call("r", "w1", LEASE_MS * 100)).kind is ClaimKind.OURS
    await stage.pass_ms(LEASE_MS)
    assert (await stage.state.claim_call("r", "w2", LEASE_MS)).kind is ClaimKind.HELD


async def test_a_silent_workers_call_is_taken_over_and_known_as_repeated(stage: Stage) -> None:
    await stage.state.claim_call("r", "w1", LEASE_MS)
    await stage.pass_ms(LEASE_MS + 20)
    assert (await stage.state.claim_call("r", "w2", LEASE_MS * 100)).kind is ClaimKind.REPEATED
    assert (await stage.state.claim_call("r", "w1", LEASE_MS)).kind is ClaimKind.HELD


async def test_a_finished_call_gives_its_answer_to_everybody(stage: Stage) -> None:
    await stage.state.claim_call("r", "w1", LEASE_MS)
    assert await stage.state.finish_call("r", b"\x00answer", 60_000) == b"\x00answer"
    for worker in ("w1", "w2"):
        claim = await stage.state.claim_call("r", worker, LEASE_MS)
        assert (claim.kind, claim.stored) == (ClaimKind.DONE, b"\x00answer")


async def test_what_a_silent_worker_had_begun_is_told_to_its_successor(stage: Stage) -> None:
    await stage.state.claim_call("r", "w1", LEASE_MS)
    assert await stage.state.begin_call("r", "w1", lambda: b"\x00first", LEASE_MS)
    assert await stage.state.begin_call("r", "w1", lambda: b"both", LEASE_MS)
    await stage.pass_ms(LEASE_MS + 20)
    claim = await stage.state.claim_call("r", "w2", LEASE_MS * 100)
    assert (claim.kind, claim.begun) == (ClaimKind.REPEATED, b"both")
    assert (await stage.state.claim_call("r", "w2", LEASE_MS * 100)).begun == b"both"


async def test_nobody_begins_what_another_worker_holds_or_has_finished(stage: Stage) -> None:
    await stage.state.claim_call("r", "w1", LEASE_MS * 100)
    assert not await stage.state.begin_call("r", "w2", lambda: b"late", LEASE_MS)
    await stage.state.finish_call("r", b"answer", 60_000)
    assert not await stage.state.begin_call("r", "w1", lambda: b"later", LEASE_MS)
    assert (await stage.state.claim_call("r", "w1", LEASE_MS)).stored == b"answer"


async def test_beginning_extends_the_lease_and_makes_a_lost_reservation_anew(stage: Stage) -> None:
    await stage.state.claim_call("r", "w1", LEASE_MS)
    for call in ("r", "lost"):
        assert await stage.state.begin_call(call, "w1", lambda: b"call", LEASE_MS * 100)
    await stage.pass_ms(LEASE_MS + 20)
    for call in ("r", "lost"):
        assert (await stage.state.claim_call(call, "w2", LEASE_MS)).kind is ClaimKind.HELD


async def test_a_released_call_was_never_begun(stage: Stage) -> None:
    await stage.state.claim_call("r", "w1", LEASE_MS)
    await stage.state.begin_call("r", "w1", lambda: b"call", LEASE_MS)
    await stage.state.release_call("r", "w1")
    assert (await stage.state.claim_call("r", "w2", LEASE_MS)).begun == b""


async def test_of_two_answers_the_first_one_stays(stage: Stage) -> None:
    assert await stage.state.finish_call("r", b"one", 60_000) == b"one"
    assert await stage.state.finish_call("r", b"two", 60_000) == b"one"


async def test_an_answer_is_forgotten_after_its_time(stage: Stage) -> None:
    await stage.state.finish_call("r", b"one", 30)
    await stage.pass_ms(60)
    assert (await stage.state.claim_call("r", "w1", LEASE_MS)).kind is ClaimKind.OURS


async def test_a_released_call_is_free_at_once_but_only_its_holder_can_release_it(stage: Stage) -> None:
    await stage.state.claim_call("r", "w1", LEASE_MS * 100)
    await stage.state.release_call("r", "w2")
    assert (await stage.state.claim_call("r", "w2", LEASE_MS)).kind is ClaimKind.HELD
    await stage.state.release_call("r", "w1")
    assert (await stage.state.claim_call("r", "w2", LEASE_MS)).kind is ClaimKind.OURS


async def test_a_release_does_not_undo_an_answer(stage: Stage) -> None:
    await stage.state.claim_call("r", "w1", LEASE_MS)
    await stage.state.finish_call("r", b"one", 60_000)
    await stage.state.release_call("r", "w1")
    assert (await stage.state.claim_call("r", "w1", LEASE_MS)).kind is ClaimKind.DONE


async def test_many_workers_at_once_get_one_call(stage: Stage) -> None:
    claims = await asyncio.gather(*(stage.state.claim_call("r", f"w{n}", 60_000) for n in range(300)))
    assert [claim.kind for claim in claims].count(ClaimKind.OURS) == 1


async def test_a_bucket_gives_its_burst_and_then_says_how_long_to_wait(stage: Stage) -> None:
    want = Want("rpm", per_minute=120, burst=3, amount=1)
    assert [await stage.state.take_tokens([want]) for _ in range(3)] == [0, 0, 0]
    wait_ms = await stage.state.take_tokens([want])
    assert 0 < wait_ms <= 501
    await stage.pass_ms(wait_ms + 5)
    assert await stage.state.take_tokens([want]) == 0


async def test_nothing_is_taken_from_one_bucket_when_the_other_is_empty(stage: Stage) -> None:
    requests, tokens = Want("rpm", 60, 1, 1), Want("tpm", 60, 10, 10)
    assert await stage.state.take_tokens([tokens]) == 0
    assert await stage.state.take_tokens([requests, tokens]) > 0
    assert await stage.state.take_tokens([requests]) == 0


async def test_more_than_the_burst_is_granted_from_a_full_bucket_and_paid_off_afterwards(stage: Stage) -> None:
    large = Want("tpm", per_minute=600, burst=10, amount=25)
    assert await stage.state.take_tokens([large]) == 0
    assert 1_000 < await stage.state.take_tokens([Want("tpm", 600, 10, 1)]) <= 1_600


async def test_buckets_do_not_know_each_other(stage: Stage) -> None:
    assert await stage.state.take_tokens([Want("a", 1, 1, 1)]) == 0
    assert await stage.state.take_tokens([Want("b", 1, 1, 1)]) == 0


async def test_a_state_that_is_up_answers_a_ping(stage: Stage) -> None:
    await stage.state.ping()
    assert (await stage.state.claim_call("r", "w1", LEASE_MS)).kind is ClaimKind.OURS


async def test_a_redis_that_is_gone_or_of_another_kind_is_unavailable(redis_port: int) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        gone = RedisState.connect(f"redis://127.0.0.1:{probe.getsockname()[1]}/0", timeout_s=0.2)
        with pytest.raises(StateUnavailable):
            await gone.claim_call("r", "w1", LEASE_MS)
        with pytest.raises(StateUnavailable):
            await gone.ping()
        await gone.close()
    prefix = f"{uuid.uuid4()}:"
    state = RedisState.connect(f"redis://127.0.0.1:{redis_port}/0", prefix=prefix)
    client = Redis(port=redis_port)
    await client.set(f"{prefix}call:r", "a string where a hash should be")
    with pytest.raises(StateUnavailable, match="WRONGTYPE"):
        await state.claim_call("r", "w1", LEASE_MS)
    await client.aclose()
    await state.close()


async def test_a_silent_redis_is_given_up_within_its_time_limit() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    state = RedisState.connect(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", timeout_s=0.1)
    started = monotonic()
    with pytest.raises(StateUnavailable):
        await state.claim_call("r", "w1", LEASE_MS)
    assert monotonic() - started < 2
    await state.close()
    server.close()
    await server.wait_closed()


async def test_a_worker_that_stood_still_itself_asks_again_instead_of_blaming_redis(redis_port: int) -> None:
    moments = iter([0.0, 10.0, 10.0, 10.1])

    class Stalled(Redis):
        """The first command times out, as it does when its answer waits behind our own pause."""

        stalls = 1

        async def evalsha(self, *arguments: Any) -> Any:
            if self.stalls:
                self.stalls -= 1
                raise RedisTimeout("Timeout reading")
            return await self.eval("return {'ours', 0, '', ''}", 0)

    client = Stalled(port=redis_port)
    state = RedisState(client, timeout_s=0.5, clock=lambda: next(moments))
    assert (await state.claim_call("r", "w1", LEASE_MS)).kind is ClaimKind.OURS
    moments = iter([20.0, 20.6])
    client.stalls = 1
    with pytest.raises(StateUnavailable, match="Timeout reading"):
        await state.claim_call("r", "w1", LEASE_MS)
    await client.aclose()


async def test_a_renewed_reservation_is_held_on_and_only_its_holder_can_renew_it(stage: Stage) -> None:
    for call in ("a", "b"):
        await stage.state.claim_call(call, "w1", LEASE_MS)
    await stage.state.renew_calls([("a", "w1"), ("b", "w2"), ("never", "w1")], LEASE_MS * 100)
    await stage.pass_ms(LEASE_MS + 20)
    assert (await stage.state.claim_call("a", "w2", LEASE_MS)).kind is ClaimKind.HELD
    assert (await stage.state.claim_call("b", "w2", LEASE_MS)).kind is ClaimKind.REPEATED
    assert (await stage.state.claim_call("never", "w2", LEASE_MS)).kind is ClaimKind.OURS


async def test_hundreds_of_reservations_are_renewed_together(stage: Stage) -> None:
    holds = [(f"r{number}", "w1") for number in range(450)]
    for call, holder in holds:
        await stage.state.claim_call(call, holder, 60_000)
    await stage.state.renew_calls(holds, 120_000)
    await stage.state.renew_calls([], 120_000)
    for call in ("r0", "r449"):
        assert (await stage.state.claim_call(call, "w2", LEASE_MS)).wait_ms > 60_000


async def test_renewing_does_not_undo_an_answer(stage: Stage) -> None:
    await stage.state.claim_call("r", "w1", LEASE_MS)
    await stage.state.finish_call("r", b"one", 60_000)
    await stage.state.renew_calls([("r", "w1")], LEASE_MS)
    assert (await stage.state.claim_call("r", "w2", LEASE_MS)).stored == b"one"


async def test_a_claim_with_another_fingerprint_is_told_so_before_and_after_the_answer(stage: Stage) -> None:
    assert (await stage.state.claim_call("k", "r1", LEASE_MS * 100, "body")).kind is ClaimKind.OURS
    assert (await stage.state.claim_call("k", "r2", LEASE_MS, "other")).kind is ClaimKind.OTHER_BODY
    assert (await stage.state.claim_call("k", "r2", LEASE_MS, "body")).kind is ClaimKind.HELD
    await stage.state.finish_call("k", b"one", 60_000)
    assert (await stage.state.claim_call("k", "r2", LEASE_MS, "other")).kind is ClaimKind.OTHER_BODY
    assert (await stage.state.claim_call("k", "r2", LEASE_MS, "body")).stored == b"one"


BUDGET = Budget("shadow/2026-11-21", 1_000, 60_000)


async def test_no_more_is_held_than_a_budget_has(stage: Stage) -> None:
    assert await stage.state.hold_money(BUDGET, "a", 600)
    assert not await stage.state.hold_money(BUDGET, "b", 401)
    assert await stage.state.hold_money(BUDGET, "c", 400)
    assert not await stage.state.hold_money(BUDGET, "d", 1)


async def test_what_was_held_and_not_spent_is_free_again(stage: Stage) -> None:
    await stage.state.hold_money(BUDGET, "a", 1_000)
    await stage.state.settle_money(BUDGET, "a", 250)
    assert not await stage.state.hold_money(BUDGET, "b", 751)
    assert await stage.state.hold_money(BUDGET, "b", 750)


async def test_a_hold_asked_for_twice_is_one_and_a_settlement_told_twice_is_one(stage: Stage) -> None:
    assert await stage.state.hold_money(BUDGET, "a", 600)
    assert await stage.state.hold_money(BUDGET, "a", 600)
    for _ in range(2):
        await stage.state.settle_money(BUDGET, "a", 500)
    assert await stage.state.hold_money(BUDGET, "b", 500)
    assert not await stage.state.hold_money(BUDGET, "c", 1)


async def test_what_cost_more_than_was_held_counts_in_full(stage: Stage) -> None:
    await stage.state.hold_money(BUDGET, "a", 100)
    await stage.state.settle_money(BUDGET, "a", 1_200)
    assert not await stage.state.hold_money(BUDGET, "b", 0)


async def test_a_hold_that_nobody_made_books_nothing(stage: Stage) -> None:
    await stage.state.settle_money(BUDGET, "used", 900)
    assert await stage.state.hold_money(BUDGET, "used", 1_000)


async def test_budgets_are_apart_and_are_forgotten_when_their_time_is_over(stage: Stage) -> None:
    short = Budget("shadow/yesterday", 100, LEASE_MS)
    assert await stage.state.hold_money(short, "a", 100)
    assert await stage.state.hold_money(BUDGET, "a", 1_000)
    await stage.pass_ms(LEASE_MS + 20)
    assert await stage.state.hold_money(short, "b", 100)
