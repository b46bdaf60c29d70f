"""How a decision is made, from the conversation to the record: the steps in order, each in the file of its name.

    hear → recall (recall.py)  →  read, ask (asked.py)  →  classify (judge.py)  →  guard (guard.py)
         →  score, choose (score.py, choose.py)  →  write_records (record.py)  →  remember (recall.py)

A batch is judged at once. Nothing here waits, draws a random number or looks at a wall clock: the same batch, judge and
memory give the same answers, and the order of a batch changes none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from heimdall_models.asked import Asking, Clock, DecisionInput, Reading, ask, read
from heimdall_models.cache import Memory
from heimdall_models.choose import choose, scores_of
from heimdall_models.features import MAX_BATCH
from heimdall_models.guard import guard
from heimdall_models.judge import Judge, classify
from heimdall_models.recall import hear, recall, remember, unanswered
from heimdall_models.record import Decided, Judged, Refusal, write_records


def decide(batch: Sequence[DecisionInput], judge: Judge, memory: Memory, clock: Clock) -> list[Decided | Refusal]:
    """One answer for each input, in order. `memory` is this worker's own; `clock` gives seconds and never goes back."""
    started_s = clock()
    heard = hear(batch, judge, memory, started_s)
    answers = recall(heard, memory, started_s)

    def elapsed_ms() -> float:
        return round((clock() - started_s) * 1000.0, 3)

    for rows in unanswered(heard, answers, MAX_BATCH):
        reading = read([one.item.body for _, one in rows], rows[0][1].judge.reader, clock)
        ids, asking = [one.item.request_id for _, one in rows], [one.asking for _, one in rows]
        judged = judge_read(ids, asking, reading, rows[0][1].judge, elapsed_ms)
        for (row, _), answer in zip(rows, judged, strict=True):
            answers[row] = answer
    remember(heard, answers, memory, clock())
    return [answer for answer in answers if answer is not None]


def judge_read(
    ids: Sequence[str], asking: Sequence[Asking], reading: Reading, judge: Judge, elapsed_ms: Callable[[], float]
) -> list[Decided | Refusal]:
    """From what was read of at most 64 conversations to their records; `explain --recompute` starts here too."""
    asked = ask(ids, asking, reading, judge.rules.alpha)
    verdict = classify(reading, judge)
    guarded = guard(asked, verdict.bucket, judge.book)
    scores, view, eligible = scores_of(asked, guarded, judge.book)
    choices = choose(asked, guarded, (scores, view, eligible), judge.book)
    return write_records(Judged(asked, verdict, guarded, scores, choices, judge, elapsed_ms()))
