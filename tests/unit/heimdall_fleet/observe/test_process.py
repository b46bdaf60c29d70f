import gc
from itertools import count

from heimdall_fleet.observe.process import gc_pauses, live_tasks


def test_each_garbage_collection_is_reported_once_and_only_while_it_is_watched() -> None:
    pauses: list[float] = []
    ticks = count()
    gc.disable()
    try:
        with gc_pauses(pauses.append, clock=lambda: next(ticks)):
            gc.collect(0)
            gc.collect(0)
        gc.collect(0)
    finally:
        gc.enable()
    assert pauses == [1, 1]


def test_outside_of_an_event_loop_there_are_no_tasks() -> None:
    assert live_tasks() == 0
