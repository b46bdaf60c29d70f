"""The made-up traffic is the same for a seed, varied, and a request that triage takes."""

import random
from collections import Counter

import orjson
import pytest

from heimdall_fleet.demo_data.subjects import LARGE, NOISE, RELIC, SHARES, SMALL, answers_well, asks, right_model, score
from heimdall_schemas.request import read_request


def test_a_seed_gives_the_same_traffic_and_another_one_another() -> None:
    assert asks(50, 1) == asks(50, 1)
    assert asks(50, 1) != asks(50, 2)


def test_subjects_come_in_their_shares_and_texts_hardly_repeat() -> None:
    made = asks(3_000, 3)
    counted = Counter(ask.subject for ask in made)
    for subject, share in SHARES.items():
        assert counted[subject] / 3_000 == pytest.approx(share, abs=0.04)
    assert len({ask.text for ask in made}) > 2_900


def test_triage_takes_each_request_and_its_tags() -> None:
    for ask in asks(40, 4):
        options, _ = read_request(orjson.dumps(ask.body("changed")))
        assert options.tags == {"subject": ask.subject, "phase": "changed"}


def test_the_planted_change_takes_sums_from_the_small_model_and_nothing_else() -> None:
    assert right_model("sums", "at_first") == SMALL
    assert right_model("sums", "changed") == LARGE
    for subject in ("chat", "facts", "proofs"):
        assert right_model(subject, "at_first") == right_model(subject, "after")
    assert answers_well(RELIC, "sums", "after")


def test_feedback_is_the_truth_but_for_some_noise() -> None:
    draw = random.Random(5)
    said = [score(SMALL, "proofs", "changed", draw) for _ in range(2_000)]
    assert sum(said) / 2_000 == pytest.approx(NOISE, abs=0.015)
