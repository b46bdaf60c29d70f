"""Before and after judging: what the caller said, what the worker remembers of it, and what it remembers next."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches
from typing import NamedTuple

import orjson

from heimdall_models.asked import Asking, Clock, DecisionInput, read_asking
from heimdall_models.cache import Entry, Memory, cache_key, find, keep
from heimdall_models.experiment import CONTROL, arm_of
from heimdall_models.features import MAX_BATCH
from heimdall_models.judge import Judge
from heimdall_models.record import Decided, Kept, Refusal, took_json
from heimdall_schemas.failure import Failure, FailureCode

_KIB = 1024
_EMBEDDED, _NOT_EMBEDDED = b'"embedding_cached":false', b'"embedding_cached":true'
FEWER_ABOVE = ((128 * _KIB, MAX_BATCH // 2), (256 * _KIB, MAX_BATCH // 4))
"""Bytes of requests above which fewer rows are judged together. The arrays of more would not stay in the processor's cache,
which costs a quarter; those of 64 long requests are more than the heap keeps, which costs a tenth in page faults."""


class Heard(NamedTuple):
    """One request before it is judged: its wishes, the judge of its arm, and its key in the decision cache."""

    item: DecisionInput
    asking: Asking
    judge: Judge
    key: bytes


def hear(batch: Sequence[DecisionInput], judge: Judge, memory: Memory, now_s: float) -> list[Heard | Refusal]:
    """What every caller asks for, or the refusal of one that pins an unknown model."""
    names, resolve = judge.rules.served, judge.book.catalogue.resolve

    def served(name: str) -> str:
        found = resolve(name)
        if found is None or found not in names:
            raise _unknown(name, names)
        return found

    def previous(session: tuple[str | None, str]) -> str | None:
        return memory.sessions.get(session, now_s)

    heard: list[Heard | Refusal] = []
    for item in batch:
        try:
            asking = read_asking(item, served, previous)
        except Failure as failure:
            heard.append(Refusal(item.request_id, failure))
            continue
        one = _judge_for(item, asking, judge) if judge.arms else judge
        key = b"" if memory.decisions is None else cache_key(item, asking, one.salt)
        heard.append(Heard(item, asking, one, key))
    return heard


def _unknown(name: str, served: Collection[str]) -> Failure:
    """Whoever sent it has no list of the fleet's models at hand: the names that come nearest stand in the message."""
    near = get_close_matches(name.lower(), served, n=3, cutoff=0.4)
    instead = f" or one that is served, such as {', '.join(near)}" if near else ""
    return Failure(
        FailureCode.CALLER_UNKNOWN_MODEL,
        f'no configured provider serves the model {name!r}; send "model": "auto"{instead}',
        context={"model": name[:256]},
    )


def _judge_for(item: DecisionInput, asking: Asking, judge: Judge) -> Judge:
    experiment = judge.rules.experiment
    arm = CONTROL if experiment is None else arm_of(experiment, asking.session, item.request_id)
    return judge.arms.get(arm, judge)


def recall(
    heard: Sequence[Heard | Refusal], memory: Memory, started_s: float, clock: Clock
) -> list[Decided | Refusal | None]:
    """Refusals and cached decisions in their places, None where a row is still to be judged.

    The whole batch is looked up before anything of it is stored, so a copy within the batch is judged again.
    """
    found = [
        None if isinstance(one, Refusal) else find(memory, one.key, one.item.time_left_ms, started_s) for one in heard
    ]
    took = took_json(round((clock() - started_s) * 1000.0, 3), cache_hit=True) if any(found) else b""
    answers: list[Decided | Refusal | None] = []
    for one, entry in zip(heard, found, strict=True):
        if isinstance(one, Refusal):
            answers.append(one)
        else:
            answers.append(None if entry is None else _from_entry(one, entry, took))
    return answers


def unanswered(
    heard: Sequence[Heard | Refusal], answers: Sequence[Decided | Refusal | None]
) -> Iterator[list[tuple[int, Heard]]]:
    """The rows still to be judged, at most `MAX_BATCH` together, a half or a quarter of that of long requests, all of one
    judge."""
    by_judge: dict[int, list[tuple[int, Heard]]] = {}
    for row, (one, answer) in enumerate(zip(heard, answers, strict=True)):
        if answer is None and not isinstance(one, Refusal):
            by_judge.setdefault(id(one.judge), []).append((row, one))
    for rows in by_judge.values():
        start = 0
        while start < len(rows):
            together = rows[start : start + MAX_BATCH]
            for most_bytes, fewer in FEWER_ABOVE:
                if sum([one.item.size_bytes for _, one in together]) > most_bytes:
                    together = together[:fewer]
            yield together
            start += len(together)


def remember(
    heard: Sequence[Heard | Refusal], answers: Sequence[Decided | Refusal | None], memory: Memory, now_s: float
) -> None:
    """Keep fresh decisions and each session's model. Stand-ins for a failed step, and what a near deadline forced, are
    not kept: they are not what the next caller should get."""
    for one, answer in zip(heard, answers, strict=True):
        if isinstance(one, Refusal) or not isinstance(answer, Decided):
            continue
        if one.asking.session is not None:
            memory.sessions.put((one.asking.tenant, one.asking.session), answer.model, now_s)
        if memory.decisions is not None and answer.kept is not None:
            keep(memory, one.key, _to_entry(one, answer, answer.kept), now_s)


def _to_entry(heard: Heard, answer: Decided, kept: Kept) -> Entry:
    """What copies are made of: for none of them anything is embedded."""
    return Entry(
        answer.request_id,
        answer.bucket,
        answer.model,
        answer.guardrails,
        answer.chain,
        answer.p_chosen,
        answer.token_count,
        kept._replace(features=kept.features.replace(_EMBEDDED, _NOT_EMBEDDED, 1)),
        heard.judge.book.shortest_ms.get(answer.model, 0.0),
    )


def _from_entry(heard: Heard, entry: Entry, took: bytes) -> Decided:
    """The decision as it was, for another request: its propensity is the one it was drawn with, the time is its own."""
    asking, kept = heard.asking, entry.kept
    return Decided(
        heard.item.request_id,
        asking.session,
        entry.bucket,
        entry.model,
        "cached",
        None,
        entry.guardrails,
        entry.chain,
        entry.p_chosen,
        entry.token_count,
        asking.pinned is not None,
        kept.decision.replace(kept.took, took, 1),
        b'{"decision_type":"cached","cached_from":%b,%b,"features":{%b,"extraction_latency_ms":0.0},"candidates":[]}'
        % (orjson.dumps(entry.request_id), kept.common, kept.features),
        None,
    )
