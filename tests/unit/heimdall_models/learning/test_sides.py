"""Who is cheap and who is strong, who may answer where, and where time cuts a log."""

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.heimdall_models.learning.made import CHEAP, POOLS, STRONG, features_of, log, rows_of

from heimdall_models.bundle import Bundle
from heimdall_models.classify import BUCKETS
from heimdall_models.learning.logged import Flags, Logged, Terms
from heimdall_models.learning.sides import pools_of, sides_of
from heimdall_models.learning.split import after, split_by_time

RELIC = "z/relic"


def three(best_in_hard: int) -> tuple[Logged, Flags]:
    """The demo's shape: two models in every bucket, a third and dearest one in the hard bucket only."""
    rows = 600
    made = rows_of(features_of(rows, np.random.default_rng(0)), np.zeros(rows, np.int64), np.ones(rows))
    served = np.arange(rows) % 3
    bucket = np.repeat(np.array(["cheap", "mid", "hard"]), 200)
    score = np.tile(np.array([0.9, 0.5, np.nan]), (rows, 1))
    score[bucket == "hard"] = 0.1
    score[bucket == "hard", best_in_hard] = 0.8
    cost = np.tile(np.array([100.0, 300.0, 9000.0]), (rows, 1))
    three_models = replace(made, models=(CHEAP, STRONG, RELIC), served=served, bucket=bucket)
    logged = replace(three_models, candidates=Terms(score, score, score, cost), cost_usd_micros=cost[0, served])
    return logged, pools_of(logged)


def test_the_bucket_in_which_a_model_is_best_tells_its_side_whatever_else_is_dear() -> None:
    sides = sides_of(*three(best_in_hard=1))

    assert (sides.cheap, sides.strong) == ((CHEAP,), (STRONG, RELIC))


def test_a_model_that_nothing_else_tells_of_is_judged_by_its_cost() -> None:
    logged, pools = three(best_in_hard=2)

    sides = sides_of(logged, pools)

    assert (sides.cheap, sides.strong) == ((CHEAP, STRONG), (RELIC,))


def test_models_that_stand_everywhere_are_parted_at_the_largest_step_in_cost() -> None:
    logged, _ = three(best_in_hard=0)

    sides = sides_of(logged, np.ones((3, 3), np.bool_))

    assert (sides.cheap, sides.strong) == ((CHEAP, STRONG), (RELIC,))


@pytest.mark.parametrize("only", ["cheap", "hard"])
def test_a_log_of_one_bucket_tells_the_sides_by_cost_alone(only: str) -> None:
    logged, _ = three(best_in_hard=1)
    one = replace(logged, bucket=np.full(len(logged), only))

    sides = sides_of(one, np.array([[bucket == only] * 3 for bucket in BUCKETS]))

    assert (sides.cheap, sides.strong) == ((CHEAP, STRONG), (RELIC,))


def test_sides_that_are_named_are_not_questioned() -> None:
    logged, pools = three(best_in_hard=1)

    sides = sides_of(logged, pools, cheap=(STRONG,), strong=(CHEAP,))

    assert (sides.cheap, sides.strong) == ((STRONG,), (CHEAP,))
    assert sides.of(np.array([0, 1, 2, -1])).tolist() == [1, 0, -1, -1]


def test_pools_are_those_given_or_those_that_the_log_shows(serving: Bundle) -> None:
    logged = log(300, serving)

    assert pools_of(logged, POOLS).tolist() == [[True, False], [True, False], [False, True]]
    assert pools_of(logged).all()


def test_a_candidate_that_a_guardrail_or_a_caller_brought_is_not_of_the_pool() -> None:
    logged, _ = three(best_in_hard=1)
    score = logged.candidates.score.copy()
    score[0, 2] = 0.5
    forced = np.zeros(600, np.bool_)
    score[1, 2], forced[1] = 0.5, True

    pools = pools_of(replace(logged, forced=forced, candidates=replace(logged.candidates, score=score)))

    assert pools[0].tolist() == [True, True, False]


def test_later_parts_never_hold_a_question_of_earlier_ones() -> None:
    made = rows_of(features_of(100, np.random.default_rng(0)), np.zeros(100, np.int64), np.ones(100))
    repeated = replace(made, question=(np.arange(100) % 70).astype(str))

    split = split_by_time(repeated, np.arange(100))

    assert split.fit.tolist() == list(range(65))
    assert split.calibrate.tolist() == list(range(65, 70))
    assert split.held_out.tolist() == []
    assert np.flatnonzero(after(repeated, int(made.time_ms[29]))).tolist() == [*range(30, 70)]
