"""What is learned from a log, from what nothing is learned, and what the bundle says of itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.unit.heimdall_models.learning.made import CHANCE, CHEAP, STRONG, features_of, hard_of, log

from heimdall_models.bundle import Bundle, load_bundle
from heimdall_models.learning.train import Options, TooLittle, Trained, train_logged
from heimdall_models.quality import parse_quality


def test_what_the_cheap_side_fails_at_becomes_difficult(learned: Trained) -> None:
    fresh = features_of(1000, np.random.default_rng(9))

    difficulty = load_bundle(learned.bundle).classifier.predict(fresh).difficulty

    hard = hard_of(fresh)
    assert np.median(difficulty[hard]) > np.quantile(difficulty[~hard], 0.95)


def test_the_probability_means_that_the_cheap_side_is_preferred(learned: Trained) -> None:
    fresh = features_of(1000, np.random.default_rng(9))

    p_cheap_ok = load_bundle(learned.bundle).classifier.predict(fresh).p_cheap_ok

    preferred = (1 + CHANCE[:, 0] - CHANCE[:, 1]) / 2
    assert p_cheap_ok[~hard_of(fresh)].mean() == pytest.approx(preferred[0], abs=0.08)
    assert p_cheap_ok[hard_of(fresh)].mean() == pytest.approx(preferred[1], abs=0.08)


def test_the_bundle_says_what_it_was_made_of(learned: Trained, serving: Bundle) -> None:
    manifest = load_bundle(learned.bundle).manifest

    assert manifest["parent"] == serving.hash
    assert manifest["same_features"] == [serving.hash]
    assert manifest["prior_trees"] == serving.info.tree_count
    assert manifest["export_largest_difference"] < 1e-4
    data = manifest["training_data"]
    assert (data["cheap"], data["strong"]) == ([CHEAP], [STRONG])
    assert data["fitted"] + data["calibrated"] + data["held_out"] == learned.rows == 3000
    assert manifest["metrics"]["held_out"]["apgr"] > manifest["metrics"]["held_out"]["apgr_parent"]
    card = (learned.bundle / "MODEL_CARD.md").read_text("utf-8")
    assert f"{data['fitted']} fitted to" in card


@pytest.mark.slow
def test_the_same_log_gives_the_same_bytes(learned: Trained, serving: Bundle, options: Options, tmp_path: Path) -> None:
    again = train_logged(log(3000, serving), serving.path, tmp_path, options)

    assert load_bundle(again.bundle).hash == load_bundle(learned.bundle).hash


def test_learning_on_from_a_learned_bundle_keeps_the_prior_and_drops_the_old_own_trees(
    learned: Trained, options: Options, tmp_path: Path
) -> None:
    parent = load_bundle(learned.bundle)

    again = load_bundle(train_logged(log(1000, parent, seed=3), parent.path, tmp_path, options).bundle)

    assert again.info.tree_count == parent.info.tree_count
    assert again.manifest["same_features"] == [parent.hash, *parent.manifest["same_features"]]


def test_the_models_quality_moves_by_their_rewards(learned: Trained, serving: Bundle) -> None:
    document = load_bundle(learned.bundle).quality_json
    assert document is not None
    table = parse_quality(document)

    cheap, strong = (table.quality[table.models.index(name)].mean() for name in (CHEAP, STRONG))
    assert strong > cheap


def test_texts_that_a_tenant_lets_be_kept_are_no_part_of_what_is_learned(
    serving: Bundle, options: Options, tmp_path: Path
) -> None:
    logged = log(600, serving)
    texts = tuple(f"zanzibarite question {at}" for at in range(600))

    with_texts = load_bundle(train_logged(replace(logged, text=texts), serving.path, tmp_path / "with", options).bundle)
    without = load_bundle(train_logged(logged, serving.path, tmp_path / "without", options).bundle)

    assert with_texts.hash == without.hash
    assert with_texts.manifest["text_model"] == serving.manifest["text_model"]
    assert not any(b"zanzibarite" in file.read_bytes() for file in with_texts.path.iterdir())


def test_twenty_rows_teach_nothing(serving: Bundle, options: Options, tmp_path: Path) -> None:
    with pytest.raises(TooLittle, match=r"20 of 20 rows .* the bundle in use stays"):
        train_logged(log(20, serving), serving.path, tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


def test_equal_rewards_teach_nothing(serving: Bundle, options: Options, tmp_path: Path) -> None:
    same = log(500, serving)

    with pytest.raises(TooLittle, match="all 500 rewards are 1"):
        train_logged(replace(same, reward=np.ones(500)), serving.path, tmp_path / "out", options)


def test_answers_of_one_side_only_teach_nothing(serving: Bundle, options: Options, tmp_path: Path) -> None:
    one = log(500, serving)

    with pytest.raises(TooLittle, match=r"only 0 answers by the strong side .*router\.exploration\.share"):
        train_logged(replace(one, served=np.zeros(500, np.int64)), serving.path, tmp_path / "out", options)


def test_rows_without_a_reward_are_not_learned_from(serving: Bundle, options: Options, tmp_path: Path) -> None:
    half = log(600, serving)
    reward = np.where(np.arange(600) % 2, np.nan, half.reward)

    assert train_logged(replace(half, reward=reward), serving.path, tmp_path, options).rows == 300


def test_decisions_of_a_foreign_bundle_are_left_out_and_told(serving: Bundle, options: Options, tmp_path: Path) -> None:
    mixed = log(800, serving)
    bundle = np.where(np.arange(800) < 300, "of somebody else", mixed.bundle)

    trained = train_logged(replace(mixed, bundle=bundle), serving.path, tmp_path, options)

    assert trained.rows == 500
    assert any("300 decisions were taken by bundles with another text model" in each for each in trained.warnings)
