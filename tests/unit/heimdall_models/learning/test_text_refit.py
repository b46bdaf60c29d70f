"""What is learned from texts that tenants let be kept, from which of them, and how two text models are compared."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.unit.heimdall_models.learning.made import RULES, log, scanned, worded_log

from heimdall_models.bundle import Bundle, load_bundle
from heimdall_models.learning.compare import compare
from heimdall_models.learning.gates import judge
from heimdall_models.learning.lineage import scored_anew, seen_by
from heimdall_models.learning.logged import Logged
from heimdall_models.learning.text_refit import latest
from heimdall_models.learning.train import Options, Trained, train_logged
from heimdall_models.scan import scan
from heimdall_models.text_model import TextModel, text_grams

QUARTZ, MARBLE = ("the river garden what is known of " + name for name in ("quartz", "marble"))


@pytest.fixture(scope="module")
def words(options: Options) -> Options:
    return replace(options, fit_text=True)


@pytest.fixture(scope="module")
def refitted(serving: Bundle, words: Options, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train_logged(worded_log(2000, serving), serving.path, tmp_path_factory.mktemp("refitted"), words)


def text_scores(bundle: Bundle) -> tuple[float, float]:
    """Of a text about quartz, and of one about marble."""
    quartz, marble = scanned([QUARTZ, MARBLE], bundle)[:, -1].tolist()
    return quartz, marble


def word_weight(model: TextModel, word: str) -> float:
    """Log-odds of a text that is this word alone, by the table of words."""
    place = text_grams(scan([word]))[0].index[0]
    return float(model.weights[0][place] * model.scales[0])


def later(logged: Logged) -> Logged:
    names = np.char.add("later ", logged.request_id)
    return replace(logged, time_ms=logged.time_ms + 36_000_000, request_id=names, question=names)


def test_a_word_that_decides_the_reward_is_learned_and_moves_the_score(refitted: Trained, serving: Bundle) -> None:
    bundle = load_bundle(refitted.bundle)

    quartz, marble = text_scores(bundle)
    before = text_scores(serving)

    assert marble - quartz > 1.0 + before[1] - before[0]
    difficulty = bundle.classifier.predict(scanned([QUARTZ, MARBLE], bundle)).difficulty
    assert difficulty[0] > difficulty[1] + 0.1


def test_the_bundle_says_what_its_text_model_is_made_of_and_holds_no_text(refitted: Trained, serving: Bundle) -> None:
    told = refitted.manifest["text_model"]

    assert (told["from"], told["texts"]) == ("logs", refitted.manifest["training_data"]["fitted"])
    assert refitted.manifest["same_features"] == []
    assert refitted.manifest["same_clusters"] == [serving.hash]
    assert f"fitted to {told['texts']} texts of tenants" in (refitted.bundle / "MODEL_CARD.md").read_text("utf-8")
    assert not any(b"quartz" in file.read_bytes() for file in refitted.bundle.iterdir())
    assert sum(file.stat().st_size for file in refitted.bundle.iterdir()) < 2_000_000


def test_few_texts_leave_the_text_model_of_the_parent_and_the_training_goes_on(
    serving: Bundle, words: Options, options: Options, tmp_path: Path
) -> None:
    few = worded_log(800, serving)

    found = train_logged(few, serving.path, tmp_path / "few", words)

    assert found.manifest["text_model"] == serving.manifest["text_model"]
    assert any("800 of 800 usable rows have the text that was scored" in each for each in found.warnings)
    without = train_logged(few, serving.path, tmp_path / "without", options)
    assert load_bundle(found.bundle).hash == load_bundle(without.bundle).hash


@pytest.mark.slow
def test_texts_of_less_than_half_of_the_rows_are_not_fitted_to(serving: Bundle, words: Options, tmp_path: Path) -> None:
    rows = worded_log(2000, serving)
    rare = tuple(text if at % 5 < 2 else None for at, text in enumerate(rows.text))

    found = train_logged(replace(rows, text=rare), serving.path, tmp_path, words)

    assert found.rows == 2000
    assert found.manifest["text_model"] == serving.manifest["text_model"]


@pytest.mark.slow
def test_rows_without_the_text_that_was_scored_are_left_out_and_told(
    serving: Bundle, words: Options, tmp_path: Path
) -> None:
    rows = worded_log(1200, serving)
    texts = list(rows.text)
    texts[:100], texts[100:130] = [None] * 100, ["and why?"] * 30

    found = train_logged(replace(rows, text=tuple(texts)), serving.path, tmp_path, words)

    assert found.rows == found.manifest["text_model"]["rows_with_text"] == 1070
    assert any(each.startswith("130 usable rows left out: no text of theirs is kept") for each in found.warnings)


@pytest.mark.slow
def test_a_gram_of_few_questions_keeps_its_weight(serving: Bundle, words: Options, tmp_path: Path) -> None:
    rows = worded_log(1200, serving)
    rare = [f"{QUARTZ} and zirconium" if at % 15 == 0 else text for at, text in enumerate(map(str, rows.text))]
    changed = replace(rows, text=tuple(rare), features=scanned(rare, serving))

    model = load_bundle(train_logged(changed, serving.path, tmp_path, words).bundle).text_model

    assert word_weight(model, "zirconium") == pytest.approx(
        word_weight(serving.text_model, "zirconium"), abs=model.scales[0]
    )
    assert word_weight(model, "quartz") < word_weight(serving.text_model, "quartz") - 1.0


@pytest.mark.slow
def test_what_an_erased_tenant_taught_is_gone_after_the_next_training(
    refitted: Trained, serving: Bundle, words: Options, tmp_path: Path
) -> None:
    parent = load_bundle(refitted.bundle)
    rows = worded_log(2400, serving)
    kept = rows.rows(np.array(["quartz" not in str(text) for text in rows.text]))

    again = load_bundle(train_logged(kept, parent.path, tmp_path, words).bundle)

    before, learned, after = (word_weight(each.text_model, "quartz") for each in (serving, parent, again))
    assert learned < before - 1.0
    assert after == pytest.approx(before, abs=again.text_model.scales[0])
    assert again.manifest["prior_text_model"] == serving.manifest["text_model"]


def test_a_log_of_two_bundles_is_learned_from_whole_where_texts_are_kept(
    refitted: Trained, serving: Bundle, options: Options, tmp_path: Path
) -> None:
    parent = load_bundle(refitted.bundle)
    first, second = worded_log(600, serving, seed=2), later(worded_log(600, parent, seed=3))
    mixed = joined(first, second)

    assert train_logged(mixed, parent.path, tmp_path / "with", options).rows == 1200
    without = train_logged(replace(mixed, text=()), parent.path, tmp_path / "without", options)
    assert without.rows == 600
    assert any("600 decisions were taken by bundles with another text model" in each for each in without.warnings)
    assert without.manifest["prior_text_model"] == serving.manifest["text_model"]
    assert without.manifest["same_clusters"] == [serving.hash]


def test_a_text_is_scored_as_triage_with_the_other_bundle_would_have(refitted: Trained, serving: Bundle) -> None:
    bundle = load_bundle(refitted.bundle)
    rows = worded_log(200, serving, seed=4)

    seen = seen_by(bundle, rows)

    assert seen.known.all()
    assert np.array_equal(seen.logged.features, worded_log(200, bundle, seed=4).features)


def test_only_a_text_that_gives_the_logged_numbers_is_the_one_that_was_scored(serving: Bundle) -> None:
    rows = worded_log(4, serving)
    others = (rows.text[0], None, f"{rows.text[2]}?", rows.text[1])

    score = scored_anew(replace(rows, text=others), np.arange(4), serving.text_model)

    assert score[0] == pytest.approx(rows.features[0, -1])
    assert np.isnan(score[1:]).all()


def test_the_latest_texts_count_where_all_are_too_many(serving: Bundle) -> None:
    rows = replace(worded_log(5, serving), text=("a" * 10, "b" * 20, "c" * 30, "d" * 40, "e" * 50))

    assert latest(rows, np.array([0, 1, 2, 3]), most_chars=90).tolist() == [1, 2, 3]
    assert latest(rows, np.array([0, 1, 4])).tolist() == [0, 1, 4]


def test_two_text_models_are_compared_on_the_rows_whose_text_is_known(refitted: Trained, serving: Bundle) -> None:
    rows = later(worded_log(1600, serving, seed=6))
    texts = tuple(None if at % 10 == 0 else text for at, text in enumerate(rows.text))

    found = compare(serving.path, refitted.bundle, replace(rows, text=texts), RULES)

    assert found.n == 1440
    assert found.left_out == {
        "decided with another text model than that of one of the two, and without the text that was scored": 160
    }
    assert found.conclusive, found.why_not
    assert [(gate.name, gate.why) for gate in judge(found) if not gate.passed] == []


@pytest.mark.slow
def test_the_way_back_is_judged_on_what_the_refitted_bundle_decided(refitted: Trained, serving: Bundle) -> None:
    rows = later(worded_log(1500, load_bundle(refitted.bundle), seed=7))

    found = compare(refitted.bundle, serving.path, rows, RULES)

    assert found.n == 1500
    assert not judge(found)[1].passed


def test_without_texts_two_text_models_are_not_compared(refitted: Trained, serving: Bundle) -> None:
    found = compare(serving.path, refitted.bundle, later(log(1000, serving)), RULES)

    assert not found.conclusive
    assert "1000 decided with another text model" in str(found.why_not)


def joined(first: Logged, second: Logged) -> Logged:
    """Two logs of the same models, one behind the other."""
    both = first.rows(np.r_[np.arange(len(first)), np.zeros(len(second), np.int64)])
    for name in (
        "time_ms",
        "request_id",
        "features",
        "bucket",
        "explored",
        "served",
        "p_served",
        "reward",
        "cost_usd_micros",
        "question",
        "bundle",
    ):
        values = np.concatenate((getattr(first, name), getattr(second, name)))
        both = replace(both, **{name: values})
    return replace(both, text=(*first.text, *second.text))
