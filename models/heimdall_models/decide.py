"""How a decision is made, from the conversation to the record: the steps in order, each in the file of its name.

    hear → recall (recall.py)  →  read, ask (asked.py)  →  classify (judge.py)  →  guard (guard.py)
         →  score, choose (score.py, choose.py)  →  write_records (write.py)  →  remember (recall.py)

Where exploration goes over all buckets, across.py stands around choose.
A batch is judged at once. Nothing here waits, draws a random number or looks at a wall clock: the same batch, judge and
memory give the same answers, and the order of a batch changes none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from heimdall_models.across import explore_across
from heimdall_models.asked import Clock, DecisionInput, Reading, Wishes, ask, read
from heimdall_models.cache import Memory
from heimdall_models.choose import choose, scores_of
from heimdall_models.guard import guard
from heimdall_models.judge import Judge, classify
from heimdall_models.recall import hear, recall, remember, unanswered
from heimdall_models.record import Decided, Refusal
from heimdall_models.times import StepTimes, Timing
from heimdall_models.write import Judged, write_records


def decide(
    batch: Sequence[DecisionInput], judge: Judge, memory: Memory, clock: Clock, times: StepTimes | None = None
) -> list[Decided | Refusal]:
    """One answer for each input, in order. `memory` is this worker's own; `clock` gives seconds and never goes back.

    A batch of n has n times `rules.timeout_ms`. When reading has used it up, what was read is not classified any more:
    the rows go to mid, flagged PREHOOK_TIMEOUT. `times` is added to.
    """
    started_s = clock()
    times = StepTimes() if times is None else times
    heard = hear(batch, judge, memory, started_s)
    answers = recall(heard, memory, started_s, clock)
    for rows in unanswered(heard, answers):
        one = rows[0][1].judge
        reading = read([each.item.body for _, each in rows], one.reader, clock)
        spent = (clock() - started_s) * 1000.0 > one.rules.timeout_ms * len(batch)
        wishes = Wishes(
            [each.item.request_id for _, each in rows],
            [each.asking for _, each in rows],
            [each.item.time_left_ms for _, each in rows],
        )
        timing = Timing(clock, started_s, times)
        judged = judge_read(wishes, replace(reading, spent=True) if spent else reading, one, timing)
        for (row, _), answer in zip(rows, judged, strict=True):
            answers[row] = answer
    remember(heard, answers, memory, clock())
    return [answer for answer in answers if answer is not None]


def judge_read(wishes: Wishes, reading: Reading, judge: Judge, timing: Timing) -> list[Decided | Refusal]:
    """From what was read of at most `MAX_BATCH` conversations to their records; `explain --recompute` starts here too."""
    clock, times = timing.clock, timing.times
    began_s = clock()
    asked = ask(wishes, reading, judge.rules.alpha)
    verdict = classify(reading, judge)
    classified_s = clock()
    guarded = guard(asked, verdict.bucket, judge.book)
    guarded_s = clock()
    scores, view, eligible = scores_of(asked, guarded, judge.book)
    scored_s = clock()
    if judge.rules.across and judge.rules.exploration:
        scores, choices = explore_across(asked, guarded, (scores, view, eligible), judge.book)
    else:
        choices = choose(asked, guarded, (scores, view, eligible), judge.book, judge.rules.exploration)
    chosen_s = clock()
    times.rows += len(asked)
    times.features_s += reading.extraction_ms / 1000.0
    times.embedding_s += reading.embedding_ms / 1000.0
    times.classifier_s += classified_s - began_s
    times.scores_s += scored_s - guarded_s
    times.decision_s += chosen_s - began_s
    latency_ms = round((chosen_s - timing.started_s) * 1000.0, 3)
    return write_records(Judged(asked, verdict, guarded, scores, choices, judge, latency_ms))
