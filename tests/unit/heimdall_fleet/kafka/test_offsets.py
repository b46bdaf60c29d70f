"""The offset tracker against a model that remembers every offset by name."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from heimdall_fleet.kafka.offsets import (
    MAP_LIMIT_UTF16,
    Checkpoint,
    OffsetTracker,
    decode_finished,
)


def tracker_at(position: int, finished: list[tuple[int, int]] | None = None) -> OffsetTracker:
    tracker = OffsetTracker()
    tracker.adopt(position, finished or [])
    return tracker


def test_nothing_is_committed_before_a_position_is_known() -> None:
    assert OffsetTracker().checkpoint() is None


def test_the_position_is_the_lowest_offset_in_flight() -> None:
    tracker = tracker_at(10)
    assert [tracker.take(offset) for offset in (10, 11, 12)] == [True, True, True]
    tracker.finish(11)
    assert tracker.checkpoint() == Checkpoint(10, "h1:1,1")
    tracker.finish(10)
    assert tracker.checkpoint() == Checkpoint(12, "")


def test_with_nothing_in_flight_the_position_is_the_next_offset() -> None:
    tracker = tracker_at(10)
    tracker.take(10)
    tracker.finish(10)
    assert tracker.checkpoint() == Checkpoint(11, "")


def test_holes_in_the_log_do_not_hold_the_position() -> None:
    tracker = tracker_at(10)
    for offset in (12, 15):
        tracker.take(offset)
        tracker.finish(offset)
    assert tracker.position == 16


def test_holes_that_were_read_past_move_the_position_and_nothing_in_flight() -> None:
    tracker = tracker_at(5)
    assert tracker.take(5)
    tracker.pass_holes(8)
    assert tracker.position == 5
    tracker.finish(5)
    assert tracker.checkpoint() == Checkpoint(8, "")
    tracker.pass_holes(6)
    assert tracker.position == 8


def test_a_running_or_finished_offset_is_not_handed_out_again() -> None:
    tracker = tracker_at(0)
    tracker.take(0)
    tracker.take(1)
    tracker.finish(1)
    assert not tracker.take(0)
    assert not tracker.take(1)


def test_a_run_is_taken_at_once_only_if_nothing_is_known_about_it() -> None:
    tracker = tracker_at(10, decode_finished(10, "h1:3,2"))
    assert not tracker.take_run([10, 11, 12])
    assert [offset for offset in (10, 11, 12, 13, 14, 15) if tracker.take(offset)] == [10, 11, 12, 15]
    assert tracker.take_run([16, 18])
    assert not tracker.take_run([18, 19])
    assert (tracker.running, tracker.next) == (6, 19)


def test_a_released_offset_holds_the_position_and_is_handed_out_again() -> None:
    tracker = tracker_at(0)
    for offset in range(3):
        tracker.take(offset)
    tracker.finish(0)
    tracker.finish(2)
    tracker.release(1)
    assert tracker.position == 1
    assert tracker.take(1)
    tracker.finish(1)
    assert tracker.position == 3


def test_the_map_of_a_former_owner_is_honoured() -> None:
    tracker = tracker_at(10, decode_finished(10, "h1:1,3,2,1"))
    assert [offset for offset in range(10, 20) if tracker.take(offset)] == [10, 14, 15, 17, 18, 19]


def test_a_returning_partition_keeps_what_runs_and_drops_what_another_member_finished() -> None:
    tracker = tracker_at(0)
    for offset in range(6):
        tracker.take(offset)
    tracker.finish(4)
    tracker.adopt(2, [(3, 4)])
    assert tracker.running == 2  # 2 and 5; 0, 1 and 3 were finished elsewhere
    assert tracker.checkpoint() == Checkpoint(2, "h1:1,2")
    assert not tracker.take(4)


def test_a_commit_never_goes_below_a_confirmed_one() -> None:
    tracker = tracker_at(5)
    tracker.take(5)
    tracker.confirm(6)
    assert tracker.checkpoint() is None


def test_a_newer_record_below_a_confirmed_commit_shows_that_the_log_was_replaced() -> None:
    tracker = tracker_at(100)
    assert not tracker.went_back(100, 5_000)
    assert tracker.went_back(0, 5_001)


def test_an_old_record_below_a_confirmed_commit_is_the_same_log_read_again() -> None:
    tracker = tracker_at(100)
    assert not tracker.went_back(100, 5_000)
    assert not tracker.went_back(0, 4_000)
    assert not tracker.take(0)


def test_a_map_above_the_limit_is_cut_and_stays_true() -> None:
    tracker = tracker_at(0)
    count = 4 * MAP_LIMIT_UTF16
    for offset in range(count):
        tracker.take(offset)
    for offset in range(1, count, 2):
        tracker.finish(offset)
    checkpoint = tracker.checkpoint()
    assert checkpoint is not None
    assert len(checkpoint.metadata) <= MAP_LIMIT_UTF16
    assert tracker.overflowing
    claimed = decode_finished(checkpoint.position, checkpoint.metadata)
    assert claimed
    assert all(offset % 2 == 1 for start, end in claimed for offset in range(start, end))
    for offset in range(0, count, 2):
        tracker.finish(offset)
    assert tracker.checkpoint() == Checkpoint(count, "")
    assert not tracker.overflowing


@given(st.one_of(st.text(max_size=60), st.text(alphabet="0123456789,", max_size=60).map("h1:".__add__)))
def test_any_metadata_decodes_to_ascending_ranges_above_the_position(metadata: str) -> None:
    at = 7
    for start, end in decode_finished(7, metadata):
        assert at <= start <= end
        at = end


@given(st.integers(0, 50), st.lists(st.booleans(), max_size=60))
def test_a_map_written_is_the_map_read(first: int, fate: list[bool]) -> None:
    tracker = tracker_at(first)
    offsets = range(first, first + len(fate))
    for offset in offsets:
        tracker.take(offset)
    for offset, ends in zip(offsets, fate, strict=True):
        if ends:
            tracker.finish(offset)
    checkpoint = tracker.checkpoint()
    assert checkpoint is not None
    ranges = decode_finished(checkpoint.position, checkpoint.metadata)
    successor = tracker_at(checkpoint.position, ranges)
    redone = [offset for offset in offsets if offset >= checkpoint.position and successor.take(offset)]
    assert redone == [offset for offset, ends in zip(offsets, fate, strict=True) if not ends]


class OnePartition(RuleBasedStateMachine):
    """A partition handed from owner to owner, over a log with holes."""

    def __init__(self) -> None:
        super().__init__()
        self.tracker = OffsetTracker()
        self.committed = Checkpoint(0, "")
        self.read_from = 0
        self.log = [0]
        self.running: set[int] = set()
        self.released: set[int] = set()
        self.finished: set[int] = set()
        self.seen: set[int] = set()

    @initialize(start=st.integers(0, 20), steps=st.lists(st.integers(1, 3), min_size=1, max_size=40))
    def first_owner(self, start: int, steps: list[int]) -> None:
        self.log = [start + step for step in itertools.accumulate(steps)]
        self.committed = Checkpoint(start, "")
        self.read_from = start
        self.tracker.adopt(start, [])

    @precondition(lambda self: self.read_from <= self.log[-1])
    @rule()
    def read_one(self) -> None:
        offset = next(o for o in self.log if o >= self.read_from)
        taken = self.tracker.take(offset)
        assert taken == (offset not in self.running and offset not in self.finished)
        if taken:
            self.running.add(offset)
            self.released.discard(offset)
        self.seen.add(offset)
        self.read_from = offset + 1

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish_one(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.running)))
        self.tracker.finish(offset)
        self.running.remove(offset)
        self.finished.add(offset)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def give_up_one(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.running)))
        self.tracker.release(offset)
        self.running.remove(offset)
        self.released.add(offset)

    @rule()
    def commit(self) -> None:
        checkpoint = self.tracker.checkpoint()
        assert checkpoint is not None
        assert checkpoint.position >= self.committed.position
        claimed = decode_finished(*checkpoint)
        for offset in self.seen:
            ended = offset < checkpoint.position or any(start <= offset < end for start, end in claimed)
            assert not ended or offset in self.finished
        self.committed = checkpoint
        self.tracker.confirm(checkpoint.position)

    @rule()
    def the_partition_returns_to_the_same_owner(self) -> None:
        self.tracker.adopt(self.committed.position, decode_finished(*self.committed))
        self.read_from = self.committed.position

    @rule()
    def the_partition_goes_to_another_owner(self) -> None:
        claimed = decode_finished(*self.committed)
        self.tracker = OffsetTracker()
        self.tracker.adopt(self.committed.position, claimed)
        self.read_from = self.committed.position
        self.running.clear()
        self.released.clear()
        self.finished = {o for o in self.seen if o < self.committed.position or any(s <= o < e for s, e in claimed)}

    @invariant()
    def the_position_is_at_or_below_everything_unfinished(self) -> None:
        position = self.tracker.position
        if position is not None:
            assert all(position <= offset for offset in self.running | self.released)


TestOnePartition = OnePartition.TestCase
TestOnePartition.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
