from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np
import orjson
import pytest
from click.testing import CliRunner, Result
from tests.bundles import dated, give_nan
from tests.unit.heimdall_fleet.learn.made import Desk, decision, feedback, outcome
from tests.unit.heimdall_models.learning.made import COSTS, log, worded_log

from heimdall_fleet.cli.common import needs_training_extra
from heimdall_fleet.cli.exits import CommandError, Exit
from heimdall_fleet.cli.globals import Globals
from heimdall_fleet.cli.promote import promote
from heimdall_fleet.cli.train import evaluate, train
from heimdall_fleet.learn.turn import failing
from heimdall_models.bundle import load_bundle
from heimdall_models.features import FEATURE_NAMES, FEATURE_VERSION
from heimdall_models.learning.gates import Gate
from heimdall_models.learning.logged import Logged
from heimdall_models.shipped import shipped

pytestmark = pytest.mark.slow

Run = Callable[..., Result]

WORDS = ("river", "garden", "window", "letter", "engine", "market")


def write_table(path: Path, rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lines = []
    for number in range(rows):
        hard = bool(rng.random() < 0.5)
        words = " ".join(WORDS[i] for i in rng.integers(len(WORDS), size=30 if hard else 6))
        small, large = float(rng.random() < (0.2 if hard else 0.9)), float(rng.random() < 0.9)
        lines.append({"pid": str(number), "prompt": f"{number} {words}", "s::small": small, "s::large": large})
    path.write_bytes(b"\n".join(map(orjson.dumps, lines)))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    clean = {"HEIMDALL_CONFIG": "", "ENVIRONMENT": "", "ENV": "", "OPENAI_API_KEY": "sk-test-0123456789"}

    def invoke(command: click.Command, *arguments: str, output: Literal["text", "json"] = "json") -> Result:
        return CliRunner().invoke(command, arguments, obj=Globals(output=output), env=clean)

    return invoke


def usage_error(result: Result) -> str:
    """What a command said that ended as one."""
    assert isinstance(result.exception, CommandError)
    assert result.exception.code is Exit.USAGE
    return str(result.exception)


def test_a_table_becomes_a_bundle_and_the_bundle_an_evaluation(run: Run) -> None:
    write_table(Path("mine.jsonl"), 220, 1)
    write_table(Path("fresh.jsonl"), 80, 2)
    trained = run(train, "--data", "mine.jsonl", "--out", "made", "--created", "2026-11-01")
    assert trained.exit_code == 0, trained.output
    answer = orjson.loads(trained.stdout)
    assert (answer["bundle"], answer["rows"]) == ("made", 220)
    assert answer["metrics"]["in_domain"]["mine"]["apgr"] > 0.5
    assert Path("made/MODEL_CARD.md").exists()

    judged = run(evaluate, "--bundle", "made", "--data", "fresh.jsonl", "--html", "report.html")
    assert judged.exit_code == 0, judged.output
    found = orjson.loads(judged.stdout)
    assert {"n", "apgr", "apgr_ci95", "cpt50", "cpt80", "auc", "baselines"} <= set(found)
    assert found["recorded"] == answer["metrics"]
    assert Path("report.html").read_text("utf-8").lower().startswith("<!doctype html>")


def test_people_get_a_summary(run: Run) -> None:
    write_table(Path("fresh.jsonl"), 80, 2)
    judged = run(evaluate, "--data", "fresh.jsonl", "--cheap", "small", "--strong", "large", output="text")
    assert judged.exit_code == 0, judged.output
    assert "fresh: small against large" in judged.stdout
    assert "nearest_phrase" in judged.stdout


def test_a_table_without_scores_is_a_usage_error_that_says_what_is_missing(run: Run) -> None:
    Path("odd.jsonl").write_text('{"prompt": "hi"}\n')
    assert "no column of scores" in usage_error(run(train, "--data", "odd.jsonl", "--out", "made"))
    assert not Path("made").exists()


def test_a_bundle_that_cannot_be_written_is_a_usage_error(run: Run) -> None:
    write_table(Path("mine.jsonl"), 60, 1)
    Path("file").touch()
    assert "cannot be written to file/made" in usage_error(
        run(train, "--data", "mine.jsonl", "--out", "file/made", "--quick")
    )


def test_an_option_for_replayed_data_is_a_usage_error_with_outcome_tables(run: Run) -> None:
    write_table(Path("mine.jsonl"), 60, 1)
    assert "--fit-text is for data of `heimdall replay`" in usage_error(
        run(train, "--data", "mine.jsonl", "--out", "made", "--quick", "--fit-text")
    )


def test_a_pair_that_no_table_has_is_a_usage_error(run: Run) -> None:
    write_table(Path("mine.jsonl"), 10, 1)
    assert "small and huge" in usage_error(
        run(evaluate, "--data", "mine.jsonl", "--cheap", "small", "--strong", "huge")
    )


def test_a_report_that_has_no_place_is_a_usage_error_before_anything_is_measured(run: Run) -> None:
    write_table(Path("fresh.jsonl"), 80, 2)
    assert "there is no directory nowhere" in usage_error(
        run(evaluate, "--data", "fresh.jsonl", "--html", "nowhere/report.html")
    )


def test_a_report_that_cannot_be_written_is_a_usage_error(run: Run) -> None:
    write_table(Path("fresh.jsonl"), 40, 2)
    Path("report.html").symlink_to("nowhere/report.html")
    assert "report.html cannot be written" in usage_error(
        run(evaluate, "--data", "fresh.jsonl", "--html", "report.html")
    )


def test_prompts_that_the_classifier_fails_on_are_told_beside_the_figures(run: Run) -> None:
    write_table(Path("fresh.jsonl"), 40, 2)
    mute = dated(Path("mute"), 2)
    give_nan(mute)
    judged = run(evaluate, "--bundle", "mute", "--data", "fresh.jsonl")
    assert judged.exit_code == 0, judged.output
    assert "the classifier gave no number for 40 prompts" in judged.stderr


def test_a_missing_package_names_the_extra_that_brings_it() -> None:
    @needs_training_extra
    def work() -> None:
        raise ModuleNotFoundError("No module named 'lightgbm'", name="lightgbm")

    with pytest.raises(CommandError, match=r"'lightgbm': pip install 'heimdall-fleet\[train\]'") as raised:
        work()
    assert raised.value.code is Exit.USAGE


CANDIDATES = """\
providers: {a: {type: custom, base_url: "http://127.0.0.1:9/v1"}, b: {type: custom, base_url: "http://127.0.0.1:9/v1"}}
models: {a/cheap: {price: {input: 1, output: 1}}, b/strong: {price: {input: 20, output: 20}}}
router: {cheap_candidates: [a/cheap], mid_candidates: [a/cheap], hard_candidates: [b/strong]}
"""


def audit_of(rows: int) -> list[dict[str, Any]]:
    """Decisions of the shipped bundle with outcomes and ratings: the cheap model fails at what has LaTeX in it."""
    return records_of(log(rows, load_bundle(shipped("bundles/default")), seed=4))


def records_of(made: Logged) -> list[dict[str, Any]]:
    """The audit and feedback records of these decisions, with their texts where they are kept."""
    records: list[dict[str, Any]] = []
    for at in range(len(made)):
        model, name = made.served_model[at], f"r{at:04d}"
        numeric = dict(zip(FEATURE_NAMES, made.features[at].tolist(), strict=True))
        candidates = [
            {"model": each, "score": float(score), "quality": 0.5, "cost": 0.5, "cost_usd_micros": int(cost)}
            for each, score, cost in zip(made.models, made.candidates.score[at], COSTS, strict=True)
        ]
        bucket = str(made.bucket[at])
        features = {
            "feature_version": FEATURE_VERSION,
            "clusters": [3],
            "cluster_similarities": [0.4],
            "numeric": numeric,
        }
        told = {
            "bucket": bucket,
            "bucket_before_guardrails": bucket,
            "bundle": str(made.bundle[at]),
            "selected_model": str(model),
            "tenant": "t",
            **({"text": made.text[at]} if made.text else {}),
        }
        records.append(decision(name, at / 10, features=features, candidates=candidates, **told))
        paid = {"p_served": float(made.p_served[at]), "cost_usd_micros": int(made.cost_usd_micros[at])}
        records.append(outcome(name, at / 10, selected_model=str(model), **paid))
        records.append(feedback(name, at / 10, score=float(made.reward[at])))
    return records


def test_a_replayed_log_becomes_a_bundle_and_an_evaluation_with_intervals(run: Run, tmp_path: Path) -> None:
    Desk(tmp_path).run(*audit_of(2400))
    Path("heimdall.yaml").write_text(CANDIDATES)

    trained = run(train, "--data", "data", "--out", "made", "--created", "2026-11-22")
    assert trained.exit_code == 0, trained.output
    answer = orjson.loads(trained.stdout)
    assert answer["rows"] > 1000
    assert answer["metrics"]["held_out"]["apgr"] > 0.6

    judged = run(evaluate, "--bundle", "made", "--data", "data", "--html", "report.html")
    assert judged.exit_code == 0, judged.output
    found = orjson.loads(judged.stdout)
    assert {"n", "apgr", "apgr_ci95", "cpt50", "cpt80", "auc", "baselines"} <= set(found)
    assert found["conclusive"], found["why_not"]
    assert found["champion"] == load_bundle(shipped("bundles/default")).hash
    assert found["difference"]["reward"]["value"] > 0
    assert found["baselines"]["always_cheap"]["effective"] > 100
    assert Path("report.html").read_text("utf-8").lower().startswith("<!doctype html>")


def test_texts_that_a_tenant_lets_be_kept_make_a_text_model_that_is_judged_and_may_serve(
    run: Run, tmp_path: Path
) -> None:
    serving = load_bundle(shipped("bundles/default"))
    Desk(tmp_path).run(*records_of(worded_log(3600, serving)))
    Path("heimdall.yaml").write_text(CANDIDATES)

    trained = run(train, "--data", "data", "--out", "words", "--fit-text")
    assert trained.exit_code == 0, trained.output
    words = load_bundle(Path("words"))
    assert words.manifest["text_model"]["from"] == "logs"

    judged = orjson.loads(run(evaluate, "--bundle", "words", "--data", "data").stdout)
    assert judged["conclusive"], judged["why_not"]
    assert judged["apgr"] > judged["baselines"]["champion"]["apgr"]
    promoted = run(promote, "words", "--data", "data", "--dry-run")
    assert promoted.exit_code == 0, promoted.exception


def test_texts_are_fitted_to_where_the_configuration_or_the_command_says_so(run: Run, tmp_path: Path) -> None:
    Desk(tmp_path).run(*records_of(worded_log(1200, load_bundle(shipped("bundles/default")))))
    fitted = []
    for settings, flags in (
        ("", ()),
        ("learning: {fit_text: true}\n", ()),
        ("learning: {fit_text: true}\n", ("--no-fit-text",)),
    ):
        Path("heimdall.yaml").write_text(CANDIDATES + settings)
        assert run(train, "--data", "data", "--out", "made", *flags).exit_code == 0
        fitted.append(load_bundle(Path("made")).manifest["text_model"].get("from"))

    assert fitted == [None, "logs", None]


def test_an_evaluation_and_a_promotion_with_the_same_data_give_the_same_verdict(run: Run, tmp_path: Path) -> None:
    Desk(tmp_path).run(*audit_of(400))
    Path("heimdall.yaml").write_text(CANDIDATES)
    bundle = str(shipped("bundles/default"))

    gates = orjson.loads(run(evaluate, "--bundle", bundle, "--data", "data").stdout)["gates"]
    promoted = run(promote, bundle, "--data", "data", "--dry-run")

    failed = failing(tuple(Gate(**gate) for gate in gates))
    assert str(promoted.exception) == f"not promoted: {failed}"
    assert "nothing is won" in str(failed)


def test_an_evaluation_ends_with_its_verdict_for_people(run: Run, tmp_path: Path) -> None:
    Desk(tmp_path).run(*audit_of(400))
    Path("heimdall.yaml").write_text(CANDIDATES)

    told = run(evaluate, "--data", "data", output="text").stdout.splitlines()

    assert told[0] == "400 later decisions"
    assert sum(line.startswith("gate ") for line in told) == 8
    assert told[-1] == "`heimdall promote --data` would not promote it"


def test_logs_of_another_fleet_are_neither_learned_from_nor_concluded_on(run: Run, tmp_path: Path) -> None:
    Desk(tmp_path).run(*audit_of(400))

    trained, judged = run(train, "--data", "data", "--out", "made"), run(evaluate, "--data", "data")

    assert "stands in these logs (a/cheap, b/strong): they are another fleet's" in str(trained.exception)
    found = orjson.loads(judged.stdout)
    assert not found["would_be_promoted"]
    assert "give --config" in found["why_not"]


def test_sides_are_named_as_the_log_names_them(run: Run, tmp_path: Path) -> None:
    Desk(tmp_path).run(*audit_of(20))

    judged = run(evaluate, "--data", "data", "--cheap", "a/chaep")

    assert "no model 'a/chaep' in these logs; they have a/cheap, b/strong" in str(judged.exception)


def test_a_replayed_log_that_teaches_nothing_stops_with_the_reason(run: Run, tmp_path: Path) -> None:
    Desk(tmp_path).run(*audit_of(20))
    Path("heimdall.yaml").write_text(CANDIDATES)

    assert "20 of 20 rows" in usage_error(run(train, "--data", "data", "--out", "made"))
    assert not Path("made").exists()


def test_a_log_and_outcome_tables_are_not_mixed(run: Run, tmp_path: Path) -> None:
    Desk(tmp_path).run(*audit_of(20))
    write_table(Path("mine.jsonl"), 20, 1)

    trained = run(train, "--data", "data", "--data", "mine.jsonl", "--out", "made")
    assert isinstance(trained.exception, CommandError)
    assert "give it alone" in str(trained.exception)
