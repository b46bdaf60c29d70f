import asyncio

import pytest

from heimdall_fleet.dispatch.capacity.turnstile import Turnstile


async def test_one_free_place_wakes_one_waiter_and_is_kept_for_him_until_he_looks() -> None:
    turnstile, woken = Turnstile(), list[str]()

    async def wait(name: str) -> None:
        await turnstile.wait(("p",), "standard", 1.0, 10_000)
        woken.append(f"{name}:{turnstile.promised('p')}")

    tasks = [asyncio.create_task(wait(name)) for name in "ab"]
    await asyncio.sleep(0)
    assert turnstile.waiting("p") == 2
    turnstile.wake("p")
    assert turnstile.promised("p") == 1
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert woken == ["a:0"]
    turnstile.wake("p")
    await asyncio.gather(*tasks)
    assert turnstile.waiting("p") == 0


async def test_the_earliest_deadline_is_woken_first() -> None:
    turnstile, order = Turnstile(), list[float]()

    async def wait(deadline: float) -> None:
        await turnstile.wait(("p",), "standard", deadline, 10_000)
        order.append(deadline)
        turnstile.wake("p")

    tasks = [asyncio.create_task(wait(deadline)) for deadline in (3.0, 1.0, 2.0)]
    await asyncio.sleep(0)
    turnstile.wake("p")
    await asyncio.gather(*tasks)
    assert order == [1.0, 2.0, 3.0]


async def test_waiting_ends_by_itself_after_its_time() -> None:
    turnstile = Turnstile()
    await turnstile.wait(("p",), "standard", 1.0, 1.0)
    assert (turnstile.waiting("p"), turnstile.promised("p")) == (0, 0)


async def test_a_place_promised_to_one_who_is_cancelled_goes_to_the_next() -> None:
    turnstile = Turnstile()
    first, second = (
        asyncio.create_task(turnstile.wait(("p",), "standard", deadline, 10_000)) for deadline in (1.0, 2.0)
    )
    await asyncio.sleep(0)
    turnstile.wake("p")
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await asyncio.wait_for(second, 1)
    assert turnstile.promised("p") == 0


async def test_who_waits_at_two_providers_leaves_both_when_one_is_free() -> None:
    turnstile = Turnstile()
    task = asyncio.create_task(turnstile.wait(("p", "q"), "standard", 1.0, 10_000))
    await asyncio.sleep(0)
    turnstile.wake("q")
    await task
    assert (turnstile.waiting("p"), turnstile.waiting("q")) == (0, 0)
    turnstile.wake("p")
    assert turnstile.promised("p") == 0


async def test_a_free_place_that_nobody_waits_for_is_not_promised() -> None:
    turnstile = Turnstile()
    turnstile.wake("p")
    assert turnstile.promised("p") == 0
