"""The checker can fail: a good history has no violation, and each forgery of it exactly the one it was forged for."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.faults.checker import check
from tests.faults.commits import TWINS
from tests.faults.history import (
    Call,
    Commit,
    Complaint,
    Decision,
    Event,
    Exit,
    Fault,
    History,
    Leak,
    Letter,
    LogEnd,
    Order,
    Outcome,
    Reply,
    Rested,
    Run,
    Sample,
    Sent,
    read,
    write,
)  # fmt: skip

REQUESTS, DISPATCH, REPLIES = "f.requests.v1", "f.dispatch.cheap.v1", "f.replies.v1"
SENT = Sent(at=10.0, request_id="r", correlation_id="c", partition=0, offset=0, deadline=40.0)
CALL = Call(11.0, 11.5, "r", "openai", "small", "dispatch-1", 200, "ok", 100, 20)
ORDER = Order(10.5, "r", DISPATCH, 0, 0)
REPLY = Reply(11.6, "r", "c", "answered", REPLIES, 0, 0)
OUTCOME = Outcome(11.7, "r", "dispatch-1", "answered", None, 1, 100, 20, 140, "body-1")
TRIAGED = Commit(10.9, "f.triage", REQUESTS, 0, 1)
DISPATCHED = Commit(12.0, "f.dispatch", DISPATCH, 0, 1)
GOOD: tuple[Event, ...] = (
    Run(seed=1, max_attempts=2, prices={"openai/small": (1_000_000, 2_000_000)}),
    SENT, CALL, ORDER, REPLY, OUTCOME, TRIAGED, DISPATCHED,
    Decision(10.6, "r", "triage-1"),
    LogEnd("f.triage", REQUESTS, 0, 1), LogEnd("f.dispatch", DISPATCH, 0, 1),
    Sample(11.0, "dispatch-1", 100e6, 50, 1), Exit(20.0, 21.0, "dispatch-1", "SIGTERM", 0),
)  # fmt: skip

SECOND = replace(CALL, at=11.8, end=11.9, worker="dispatch-2")
SECOND_OUTCOME = replace(OUTCOME, worker="dispatch-2", at=11.95, body="body-2")
KILL = Fault(11.4, 11.4, "SIGKILL", ("dispatch-1",))
KILLED = Exit(11.4, 11.4, "dispatch-1", "SIGKILL", -9)
SHARED = replace(GOOD[0], shared_state=True) if isinstance(GOOD[0], Run) else GOOD[0]
TAKEN_OVER = [
    SECOND, SECOND_OUTCOME, KILL, KILLED, Reply(11.95, "r", "c", "answered", REPLIES, 0, 1),
    *(event for event in GOOD if event not in (GOOD[0], OUTCOME)),
]  # fmt: skip
LETTER = Letter(11.65, "r", "heimdall_internal", DISPATCH, 0, 0)


def without(*events: Event) -> list[Event]:
    return [event for event in GOOD if event not in events]


def swapped(old: Event, *new: Event) -> list[Event]:
    return [each for event in GOOD for each in (new if event is old else (event,))]


def numbers(events: list[Event]) -> set[str]:
    return {line.partition(":")[0] for line in check(History.of(events))}


def test_a_good_history_breaks_nothing() -> None:
    assert check(History.of(GOOD)) == []


def test_a_history_is_the_same_after_it_was_written_and_read(tmp_path: Path) -> None:
    every_kind = [*GOOD, KILL, LETTER, Rested(11.0, "r", DISPATCH, 0), Leak("x", "y"), Complaint("w", "line")]
    write(every_kind, tmp_path / "history.jsonl")
    assert read(tmp_path / "history.jsonl") == History.of(every_kind)


FORGED: dict[str, tuple[str, list[Event]]] = {
    "a request that never ended": ("I1", without(REPLY, OUTCOME, CALL, DISPATCHED, GOOD[10])),
    "an asker who was never told": ("I1", without(REPLY, DISPATCHED, GOOD[10])),
    "an ending of a request that nobody sent": ("I1", without(SENT, TRIAGED, GOOD[9])),
    "a reply to an address that is not allowed": ("I1", swapped(SENT, replace(SENT, deaf=True))),
    "a state that is none": (
        "I1",
        [replace(each, state="shrugged") if isinstance(each, Reply | Outcome) else each for each in GOOD],
    ),
    "two replies that disagree": ("I2", [*GOOD, replace(REPLY, offset=1, state="expired", at=41.0)]),
    "one correlation id for two requests": (
        "I2",
        [
            *GOOD,
            replace(SENT, request_id="s", offset=-1, acknowledged=False),
            replace(REPLY, request_id="s"),
            replace(OUTCOME, request_id="s", body="body-s"),
        ],
    ),
    "an outcome record that disagrees with the reply": ("I2", swapped(OUTCOME, replace(OUTCOME, state="failed"))),
    "a commit before the reply": ("I11", swapped(DISPATCHED, replace(DISPATCHED, at=11.55))),
    "a commit before the outcome record": ("I11", swapped(DISPATCHED, replace(DISPATCHED, at=11.65))),
    "a commit whose map covers what is not published": (
        "I11",
        [replace(DISPATCHED, at=11.0, position=0, finished=((0, 1),)), *GOOD],
    ),
    "a commit of triage before the order": ("I11", swapped(TRIAGED, replace(TRIAGED, at=10.4))),
    "a commit over an order that never ended": (
        "I11",
        [*GOOD, Order(11.0, "s", DISPATCH, 0, 1), Decision(11.0, "s", "triage-1"), replace(DISPATCHED, position=2)],
    ),
    "a position that goes back": ("I4", [*GOOD, replace(DISPATCHED, at=13.0, position=0), replace(DISPATCHED, at=14)]),
    "one call too many": (
        "I5",
        [
            *swapped(
                OUTCOME, replace(OUTCOME, reached=3, prompt_tokens=300, completion_tokens=60, cost_usd_micros=420)
            ),
            CALL,
            CALL,
        ],
    ),
    "a second worker's call without a fault": ("I5", [*GOOD, SECOND, SECOND_OUTCOME]),
    "a second worker's call before any fault": (
        "I5",
        [*GOOD, SECOND, SECOND_OUTCOME, Fault(30.0, 30.0, "SIGKILL", ("dispatch-1",))],
    ),
    "a call for what was committed": (
        "I5",
        [*GOOD, replace(SECOND, at=13.0, end=13.1), SECOND_OUTCOME, replace(KILL, start=12.5, end=12.5)],
    ),
    "a call for what was committed, when twins had stopped taking turns": (
        "I5",
        [*GOOD, replace(SECOND, at=13.0, end=13.1), SECOND_OUTCOME, Fault(11.4, 12.9, TWINS)],
    ),
    "a call that no outcome record tells of": ("I5", [*GOOD, CALL]),
    "a call of a worker that lived, without a record": (
        "I5",
        [*GOOD, SECOND, Fault(11.4, 11.4, "rebalance")],
    ),
    "a call that died untold though there was a shared state": (
        "I5",
        [SHARED, *TAKEN_OVER],
    ),
    "an attempt that no provider saw": ("I5", swapped(OUTCOME, replace(OUTCOME, reached=2))),
    "an ending without an outcome record": ("I6", without(OUTCOME, CALL, DISPATCHED, GOOD[10])),
    "an order without a decision record": ("I6", without(GOOD[8], TRIAGED, GOOD[9])),
    "a dead letter without a letter": (
        "I6",
        [replace(each, state="dead_lettered") if isinstance(each, Reply | Outcome) else each for each in GOOD],
    ),
    "a letter about what was answered": ("I6", [*GOOD, LETTER]),
    "tokens that nobody counted": ("I6", swapped(OUTCOME, replace(OUTCOME, completion_tokens=21))),
    "money that nobody took": ("I6", swapped(OUTCOME, replace(OUTCOME, cost_usd_micros=141))),
    "more money than was allowed": ("I8", swapped(SENT, replace(SENT, ceiling_usd_micros=139))),
    "a secret in a log": ("I7", [*GOOD, Leak("CANARY", "dispatch-1.log")]),
    "a group that stays behind": ("I9", swapped(GOOD[10], LogEnd("f.dispatch", DISPATCH, 0, 2))),
    "a fleet that does not recover": (
        "I9",
        [*swapped(REPLY, REPLY, replace(REPLY, at=90.0, offset=1)), replace(KILL, workers=())],
    ),
    "memory without bound": ("I10", [*GOOD, Sample(12.0, "dispatch-1", 900e6, 50, 1)]),
    "tasks without bound": ("I10", [*GOOD, Sample(12.0, "dispatch-1", 100e6, 6_000, 1)]),
    "more in flight than allowed": ("I10", [*GOOD, Sample(12.0, "dispatch-1", 100e6, 50, 501)]),
    "a task left behind": ("I10", [*GOOD, Complaint("dispatch-1", "Task was destroyed but it is pending!")]),
    "a call after the deadline": ("I12", swapped(SENT, replace(SENT, deadline=10.6))),
    "an expiry before the deadline": (
        "I12",
        [replace(each, state="expired") if isinstance(each, Reply | Outcome) else each for each in GOOD],
    ),
    "a stop that takes too long": ("I13", [*GOOD, Exit(20.0, 66.0, "triage-1", "SIGTERM", 0)]),
    "a graceful stop with an error": ("I13", [*GOOD, Exit(20.0, 21.0, "triage-1", "SIGTERM", 1)]),
    "a worker that ended by itself": ("I13", [*GOOD, Exit(20.0, 20.0, "triage-1", None, 70)]),
}


@pytest.mark.parametrize(("number", "events"), FORGED.values(), ids=FORGED.keys())
def test_a_forged_history_is_found_out(number: str, events: list[Event]) -> None:
    assert numbers(events) == {number}


ALLOWED: dict[str, list[Event]] = {
    "a killed worker's call made again": [GOOD[0], *TAKEN_OVER],
    "the same with a shared state, where the call was written down": [
        SHARED, *(each for each in TAKEN_OVER if each is not SECOND_OUTCOME),
        replace(SECOND_OUTCOME, named={"w1/1": False}, estimated=True),
    ],
    "a call that was begun and never made": [
        *(each for each in GOOD if each is not OUTCOME), replace(OUTCOME, named={"w1/1": False}, estimated=True),
    ],
    "a worker that was overtaken and told of its call afterwards": [
        *GOOD, SECOND, KILL,
        replace(SECOND_OUTCOME, superseded=True, state="failed", reached=0, named={"w2/1": True}),
    ],
    "published, and killed before the commit": [*GOOD, SECOND, SECOND_OUTCOME, KILL, KILLED, replace(REPLY, offset=1)],
    "a call for what a twin had committed": [
        *GOOD, replace(SECOND, at=13.0, end=13.1), SECOND_OUTCOME, Fault(11.4, 13.2, TWINS),
    ],
    "a ceiling that holds": swapped(SENT, replace(SENT, ceiling_usd_micros=140)),
    "offsets that an operator moved": [
        *GOOD, Fault(13.0, 13.1, "offsets reset"), replace(DISPATCHED, at=13.1, position=0), replace(DISPATCHED, at=14.0),
    ],
    "offsets that an operator moved, read after a later commit of another group": [
        Commit(14.5, "f.other", "f.other.v1", 0, 1), *GOOD, Fault(13.0, 13.1, "offsets reset"),
        replace(DISPATCHED, at=13.1, position=0), replace(DISPATCHED, at=14.0),
    ],
    "the same outcome record twice": [*GOOD, replace(OUTCOME, at=11.8)],
    "nobody knows whether it was sent": [*GOOD, replace(SENT, request_id="s", offset=-1, acknowledged=False)],
    "an order that rests": [
        *GOOD, Order(10.5, "s", DISPATCH, 1, 0), Decision(10.5, "s", "triage-1"), Rested(11.0, "s", DISPATCH, 1),
        Commit(11.2, "f.dispatch", DISPATCH, 1, 1), replace(SENT, request_id="s", acknowledged=False, offset=-1),
    ],
    "an asker whose reply topic is refused": [
        *GOOD, replace(SENT, request_id="s", offset=1, deaf=True),
        replace(LETTER, request_id="s", reason="caller_reply_topic"),
        replace(OUTCOME, request_id="s", state="dead_lettered", body="body-s"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("events", ALLOWED.values(), ids=ALLOWED.keys())
def test_what_is_promised_is_no_violation(events: list[Event]) -> None:
    assert check(History.of(events)) == []


@pytest.mark.parametrize("make", [lambda: History.of(GOOD[1:]), lambda: History.of([*GOOD, GOOD[0]])])
def test_a_history_has_one_run(make: Callable[[], History]) -> None:
    with pytest.raises(ValueError, match="one event `run`"):
        make()
