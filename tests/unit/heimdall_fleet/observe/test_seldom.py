import logging

from heimdall_fleet.observe.seldom import Seldom


def said(name: str, message: str, *values: object) -> logging.LogRecord:
    return logging.LogRecord(name, logging.WARNING, "x.py", 1, message, values, None)


class Told:
    """A filter, its clock, and what passed."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.filter = Seldom(("heimdall_fleet",), lambda: self.now_s)

    def passes(self, name: str, message: str, *values: object) -> bool:
        return self.filter.filter(said(name, message, *values))


def test_a_library_says_the_same_once_in_ten_seconds_whatever_its_values() -> None:
    told = Told()
    assert told.passes("aiokafka", "cannot connect to %s", "a:1")
    assert not told.passes("aiokafka", "cannot connect to %s", "b:2")
    assert told.passes("aiokafka", "something else")
    assert told.passes("asyncio", "cannot connect to %s", "a:1")
    told.now_s += 10.0
    assert told.passes("aiokafka", "cannot connect to %s", "a:1")


def test_the_next_line_says_how_many_were_left_out() -> None:
    told = Told()
    for _ in range(4):
        told.passes("aiokafka", "no broker")
    told.now_s += 10.0
    record = said("aiokafka", "no broker")
    assert told.filter.filter(record)
    assert vars(record)["count"] == 3


def test_what_is_only_a_value_is_told_apart_by_it() -> None:
    told = Told()
    assert told.passes("py.warnings", "%s", "one")
    assert told.passes("py.warnings", "%s", "another")


def test_the_fleets_own_lines_always_pass() -> None:
    told = Told()
    assert all(told.passes("heimdall_fleet.kafka.group", "cannot read: %s", "x") for _ in range(5))


def test_what_is_remembered_is_bounded() -> None:
    told = Told()
    assert all(told.passes("library", f"message {number}") for number in range(5_000))
    assert told.passes("library", "message 0")
