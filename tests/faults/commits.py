"""What commits may say: the rules I3, I4 and I11, on the broker's own log of commits."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Protocol, TypeAlias

from tests.faults.history import Commit, History

Place: TypeAlias = tuple[str, int]
"""Topic and partition."""


class Told(Protocol):
    """What was said of a request, and when."""

    @property
    def at(self) -> float: ...
    @property
    def request_id(self) -> str: ...


OFFSETS_RESET = "offsets reset"
TWINS = "instance id given twice"
"""The worker whose place the other one took hears of it with its next heartbeat, and of no commit until then."""
SAME_INSTANT_S = 0.002
"""The broker stamps in milliseconds."""


def positions_never_go_back(history: History) -> Iterator[str]:
    """I4. Only an operator moves them back, while nobody reads."""
    last: dict[tuple[str, str, int], int] = {}
    resets = sorted(fault.start for fault in history.fault if fault.kind == OFFSETS_RESET)
    for commit in sorted(history.commit, key=attrgetter("at")):  # the broker keeps each group's commits apart
        if resets and commit.at >= resets[0]:
            resets.pop(0)
            last.clear()
        place = (commit.group, commit.topic, commit.partition)
        if commit.position < last.get(place, 0):
            yield f"I4: {commit.group} moved {commit.topic}-{commit.partition} from {last[place]} to {commit.position}"
        last[place] = commit.position


def commits_cover_only_what_is_published(history: History) -> Iterator[str]:
    """I3 and I11: what a commit covers, below its position or in its map, had reached its end in the log before."""
    done = done_at(history)
    for commit in history.commit:
        records = done.get((commit.topic, commit.partition), {})
        for offset, (request_id, at) in records.items():
            if _covers(commit, offset) and (at is None or at > commit.at + SAME_INSTANT_S):
                late = "never" if at is None else f"{(at - commit.at) * 1000:.0f} ms later"
                yield (
                    f"I11: {commit.group} committed {commit.topic}-{commit.partition} at {commit.position} "
                    f"over offset {offset}, and {request_id} was published {late}"
                )


def _covers(commit: Commit, offset: int) -> bool:
    return offset < commit.position or any(start <= offset < end for start, end in commit.finished)


def covered_at(history: History) -> dict[str, float]:
    """The moment from which every copy of a request's order was covered by a commit; absent while one never was."""
    by_place: dict[Place, list[Commit]] = defaultdict(list)
    for commit in history.commit:
        by_place[commit.topic, commit.partition].append(commit)
    found: dict[str, float] = {}
    for order in history.order:
        place = (order.topic, order.partition)
        at = next((commit.at for commit in by_place[place] if _covers(commit, order.offset)), float("inf"))
        found[order.request_id] = max(at, found.get(order.request_id, 0.0))
    return found


def done_at(history: History) -> Mapping[Place, Mapping[int, tuple[str, float | None]]]:
    """For each record that a group reads: its request, and the moment from which a commit may cover it (None: never).

    A request is done when it is an order with its decision record, or has ended. An order is done when its request has
    ended, or when it rests on a retry topic.
    """
    ended = _ended_at(history)
    routed = _both(_first(history.order), _first(history.decision))
    rested: dict[tuple[str, Place], float] = {}
    for rest in history.rested:
        source = (rest.request_id, (rest.source_topic, rest.source_partition))
        rested[source] = min(rest.at, rested.get(source, rest.at))
    found: dict[Place, dict[int, tuple[str, float | None]]] = defaultdict(dict)
    requests = {end.topic for end in history.logend if end.topic.endswith(".requests.v1")}
    for sent in history.sent:
        if sent.acknowledged:
            at = _earliest(routed.get(sent.request_id), ended.get(sent.request_id))
            for topic in requests:
                found[topic, sent.partition][sent.offset] = (sent.request_id, at)
    for order in history.order:
        place = (order.topic, order.partition)
        at = _earliest(ended.get(order.request_id), rested.get((order.request_id, place)))
        found[place][order.offset] = (order.request_id, at)
    return found


def _ended_at(history: History) -> dict[str, float]:
    """When reply and outcome record, and the letter of what is dead-lettered, were all in the log."""
    endings = [outcome for outcome in history.outcome if not outcome.superseded]
    deaf = {sent.request_id for sent in history.sent if sent.deaf}
    replies, outcomes, letters = _first(history.reply), _first(endings), _first(history.letter)
    ended = {}
    for request_id, at in outcomes.items():
        if request_id in replies or request_id in deaf:
            ended[request_id] = max(at, replies.get(request_id, at), letters.get(request_id, at))
    return ended


def _first(events: Iterable[Told]) -> dict[str, float]:
    found: dict[str, float] = {}
    for event in events:
        found[event.request_id] = min(event.at, found.get(event.request_id, event.at))
    return found


def _both(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {each: max(at, other[each]) for each, at in one.items() if each in other}


def _earliest(*moments: float | None) -> float | None:
    return min((moment for moment in moments if moment is not None), default=None)
