import asyncio

import pytest

from heimdall_fleet.dispatch.inflight import InFlight, Published
from heimdall_fleet.dispatch.run import Ending, Parked
from heimdall_schemas.audit import State
from heimdall_schemas.order import Address

HERE = Address("replies", None, b"c")


def ending(size: int = 10) -> Ending:
    return Ending(State.ANSWERED, None, b"x" * size, b"{}")


class Work:
    def __init__(self, *results: Ending | Parked | Exception) -> None:
        self.results = list(results)
        self.go = asyncio.Event()
        self.calls = 0

    async def __call__(self) -> Ending | Parked:
        self.calls += 1
        result = self.results.pop(0)
        await self.go.wait()
        if isinstance(result, Exception):
            raise result
        return result


async def test_copies_share_one_run() -> None:
    inflight, work = InFlight(), Work(ending())
    tasks = [asyncio.create_task(inflight.once("r", HERE, work)) for _ in range(5)]
    await asyncio.sleep(0)
    work.go.set()
    assert await asyncio.gather(*tasks) == [Published(ending(), HERE)] * 5
    assert work.calls == 1


async def test_a_copy_of_a_run_that_failed_does_the_work_itself() -> None:
    inflight, work = InFlight(), Work(LookupError(), ending())
    first, second = (asyncio.create_task(inflight.once("r", HERE, work)) for _ in range(2))
    await asyncio.sleep(0)
    work.go.set()
    with pytest.raises(LookupError):
        await first
    assert isinstance(await second, Published)
    assert work.calls == 2


async def test_a_cancelled_copy_does_not_stop_the_run() -> None:
    inflight, work = InFlight(), Work(ending())
    first, second = (asyncio.create_task(inflight.once("r", HERE, work)) for _ in range(2))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.sleep(0)
    work.go.set()
    assert isinstance(await first, Published)


async def test_a_parked_order_is_not_remembered() -> None:
    inflight, work = InFlight(), Work(Parked(1.0, "x"), ending())
    work.go.set()
    assert isinstance(await inflight.once("r", HERE, work), Parked)
    assert isinstance(await inflight.once("r", HERE, work), Published)
    await inflight.once("r", HERE, work)
    assert work.calls == 2


async def test_what_is_remembered_is_bounded_in_number_and_bytes() -> None:
    inflight = InFlight(max_kept=3, max_bytes=100)
    work = Work(*(ending(40) for _ in range(10)))
    work.go.set()
    for n in range(5):
        await inflight.once(f"r{n}", HERE, work)
    for n in (4, 3):
        await inflight.once(f"r{n}", HERE, work)
    assert work.calls == 5
    await inflight.once("r2", HERE, work)
    assert work.calls == 6
