import asyncio

import pytest

from heimdall_fleet.timelimit import TimeLimits


def now() -> float:
    return asyncio.get_running_loop().time()


async def for_ever() -> None:
    await asyncio.Event().wait()


async def limited(limits: TimeLimits, at: float) -> str:
    try:
        with limits.until(at):
            await for_ever()
    except TimeoutError:
        return "over"
    return "done"


async def test_each_limit_ends_its_own_task_at_its_own_time_whatever_the_order_of_their_making() -> None:
    limits, ended = TimeLimits(), list[float]()

    async def wait_until(at: float) -> None:
        assert await limited(limits, at) == "over"
        assert now() >= at
        ended.append(at)

    start = now()
    moments = [start + 0.03, start + 0.01, start + 0.02, start + 0.01]
    await asyncio.gather(*map(wait_until, moments))
    assert ended == sorted(moments)


async def test_a_limit_that_has_passed_already_ends_the_first_wait() -> None:
    assert await limited(TimeLimits(), now() - 1) == "over"


async def test_what_ends_in_time_hears_nothing_and_leaves_the_others_their_limits() -> None:
    limits = TimeLimits()
    with limits.until(now() + 0.01) as quick:
        pass
    assert await limited(limits, now() + 0.03) == "over"
    assert not quick.over


async def test_a_limit_that_is_moved_away_does_not_end_and_one_that_is_moved_near_does() -> None:
    limits = TimeLimits()
    with limits.until(now() + 0.01) as limit:
        limit.move(now() + 60)
        await asyncio.sleep(0.03)
    with limits.until(now() + 60) as limit:
        limit.move(now() + 0.01)
        with pytest.raises(asyncio.CancelledError):
            await for_ever()
    assert limit.over


async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    task = asyncio.create_task(limited(TimeLimits(), now() + 60))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_that_comes_together_with_the_end_of_the_time_wins() -> None:
    limits = TimeLimits()

    async def work() -> None:
        with limits.until(now() + 60) as limit:
            entered.set_result(limit)
            await for_ever()

    entered = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(work())
    limit = await entered
    limit.end()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_limit_inside_another_ends_alone() -> None:
    limits = TimeLimits()
    with limits.until(now() + 60) as outer:
        assert await limited(limits, now() + 0.01) == "over"
        await asyncio.sleep(0)
    assert not outer.over


async def test_the_outer_of_two_limits_ends_both() -> None:
    limits = TimeLimits()
    with pytest.raises(TimeoutError), limits.until(now() + 0.01) as outer, limits.until(now() + 60) as inner:
        await for_ever()
    assert (outer.over, inner.over) == (True, False)
