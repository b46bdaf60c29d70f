import asyncio
import gc
import logging
from collections.abc import Callable

import pytest

from heimdall_fleet.service import beside, told_unless_a_connection


async def forever(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("cancelled")


async def broken() -> None:
    raise LookupError("no such thing")


async def test_side_tasks_end_with_the_work_they_stand_beside() -> None:
    ended: list[str] = []
    async with beside([forever(ended)], lambda: ended.append("stopped")):
        await asyncio.sleep(0)
        assert not ended
    assert ended == ["cancelled"]


async def test_a_side_task_that_fails_stops_the_worker_in_good_order_and_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stopping, ended = asyncio.Event(), list[str]()

    async def work() -> None:
        async with beside([forever(ended), broken()], stopping.set):
            await stopping.wait()
            ended.append("finished")

    with caplog.at_level(logging.ERROR), pytest.raises(LookupError, match="no such thing"):
        await work()
    assert ended == ["finished", "cancelled"]
    assert "a side task failed" in caplog.text


async def test_the_error_of_the_work_itself_comes_first() -> None:
    async def work(stop: Callable[[], None]) -> None:
        async with beside([broken()], stop):
            await asyncio.sleep(0)
            raise ValueError("the work")

    with pytest.raises(ValueError, match="the work"):
        await work(lambda: None)


async def test_only_the_end_of_a_broken_connection_is_nobodys_concern(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(told_unless_a_connection)

    async def fails() -> None:
        raise ConnectionResetError("reset under a task")

    forgotten: list[asyncio.Future[None]] = [loop.create_future(), loop.create_future(), asyncio.create_task(fails())]
    await asyncio.sleep(0)
    forgotten[0].set_exception(ConnectionResetError("reset under a stream"))
    forgotten[1].set_exception(LookupError("a bug"))
    del forgotten
    gc.collect()
    assert "reset under a stream" not in caplog.text
    assert "a bug" in caplog.text
    assert "reset under a task" in caplog.text
