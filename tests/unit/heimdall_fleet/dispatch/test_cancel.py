import asyncio

import pytest

from heimdall_fleet.dispatch.cancel import Cancellations
from heimdall_schemas.failure import Failure, FailureCode


async def test_work_on_a_cancelled_request_does_not_begin() -> None:
    cancels = Cancellations()
    assert not cancels.add("r", 0.0)
    with pytest.raises(Failure) as caught, cancels.watching("r"):
        raise AssertionError
    assert caught.value.code is FailureCode.POLICY_CANCELLED


async def test_running_work_is_stopped_and_the_task_lives_on() -> None:
    cancels = Cancellations()

    async def work() -> str:
        try:
            with cancels.watching("r"):
                await asyncio.sleep(10)
        except Failure as failure:
            await asyncio.sleep(0)
            return failure.code
        return "finished"

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    assert cancels.add("r", 0.0)
    assert await task == FailureCode.POLICY_CANCELLED


async def test_the_end_of_the_worker_is_not_mistaken_for_a_cancellation_by_the_caller() -> None:
    cancels = Cancellations()

    async def work() -> None:
        with cancels.watching("r"):
            await asyncio.sleep(10)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_deadline_inside_which_the_work_is_watched_is_still_a_time_out() -> None:
    cancels = Cancellations()

    async def work() -> None:
        async with asyncio.timeout(0.001):
            with cancels.watching("r"):
                await asyncio.sleep(10)

    with pytest.raises(TimeoutError):
        await work()


def test_ids_are_bounded_in_number_and_age() -> None:
    cancels = Cancellations(max_kept=3, max_age_ms=100)
    for n in range(5):
        cancels.add(f"r{n}", float(n))
    assert [f"r{n}" in cancels for n in range(5)] == [False, False, True, True, True]
    cancels.add("new", 200.0)
    assert len(cancels) == 1
