"""Whom a bundle would have asked, by what the log keeps of a decision."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from tests.unit.heimdall_models.learning.made import COSTS, POOLS, RULES, TOKENS, features_of, log, rows_of

from heimdall_models.bundle import Bundle
from heimdall_models.learning.cells import domain_shares
from heimdall_models.learning.logged import NOBODY, Logged
from heimdall_models.learning.policy import PolicyRules, choices_of, expected_cost


def chosen(bundle: Bundle, logged: Logged, rules: PolicyRules = RULES) -> list[int]:
    found: list[int] = choices_of(bundle, logged, rules, expected_cost(logged)).model.tolist()
    return found


def both_everywhere() -> Mapping[str, tuple[str, ...]]:
    return dict.fromkeys(POOLS, ("a/cheap", "b/strong"))


def test_the_bundle_that_decided_decides_again_what_it_did(serving: Bundle) -> None:
    logged = log(400, serving, exploration=0.0)

    assert chosen(serving, logged) == logged.served.tolist()


def test_a_bucket_that_a_guardrail_chose_stays(serving: Bundle) -> None:
    logged = log(400, serving)
    hard = replace(logged, bucket=np.full(400, "hard"), forced=np.ones(400, np.bool_))

    assert set(choices_of(serving, hard, RULES, expected_cost(hard)).bucket.tolist()) == {2}


def test_a_model_that_the_caller_pinned_stays_though_it_is_in_no_pool(serving: Bundle) -> None:
    logged = log(400, serving)
    terms = logged.candidates
    only_strong = replace(terms, score=np.where(np.arange(2) == 1, terms.score, np.nan))
    pinned = replace(logged, candidates=only_strong, forced=np.ones(400, np.bool_))

    assert set(chosen(serving, pinned, replace(RULES, pools={"cheap": ("a/cheap",)}))) == {1}


def test_alpha_weighs_quality_against_cost(serving: Bundle) -> None:
    logged = log(400, serving)
    rules = replace(RULES, pools=both_everywhere())

    thrifty = replace(logged, alpha=np.zeros(400), candidates=replace(logged.candidates, score=np.zeros((400, 2))))

    assert set(chosen(serving, thrifty, rules)) == {0}


def test_a_bucket_without_a_model_asks_nobody(serving: Bundle) -> None:
    logged = log(400, serving)

    assert NOBODY in chosen(serving, logged, replace(RULES, pools={"cheap": ("a/cheap",)}))


def test_costs_that_no_decision_expected_are_read_off_a_line_over_the_tokens() -> None:
    features = features_of(200, np.random.default_rng(0))
    tokens = np.expm1(features[:, TOKENS].astype(np.float64))
    made = rows_of(features, np.arange(200) % 2, np.ones(200))
    cost = np.stack((2.0 * tokens, 30.0 * tokens), axis=1)
    seen = np.where(np.arange(200)[:, None] < 50, cost, np.nan)

    found = expected_cost(replace(made, candidates=replace(made.candidates, cost_usd_micros=seen)))

    assert found == pytest.approx(cost, rel=1e-6)


def test_costs_of_a_model_that_never_stood_are_those_of_its_answers() -> None:
    made = rows_of(features_of(50, np.random.default_rng(0)), np.ones(50, np.int64), np.ones(50))
    never = np.stack((np.full(50, COSTS[0]), np.full(50, np.nan)), axis=1)

    found = expected_cost(replace(made, candidates=replace(made.candidates, cost_usd_micros=never)))

    assert found[:, 1] == pytest.approx(np.full(50, COSTS[1]))


def test_a_row_is_of_the_kinds_of_task_that_its_clusters_are(serving: Bundle) -> None:
    made = rows_of(features_of(2, np.random.default_rng(0)), np.zeros(2, np.int64), np.ones(2))
    mixtures = serving.clusters.domains.astype(np.float64)

    shares = domain_shares(replace(made, clusters=np.array([[3, 1], [NOBODY, NOBODY]])), serving)

    assert shares[0] == pytest.approx(0.6 * mixtures[3] + 0.4 * mixtures[1], rel=1e-5)
    assert shares[1] == pytest.approx(np.full(9, 1 / 9))
