"""`heimdall replay` and `heimdall feedback` as a user types them."""

from pathlib import Path

import orjson
import pytest
from tests.bundles import dated
from tests.unit.heimdall_fleet.learn.made import decision, feedback, lines, outcome

from heimdall_fleet.cli.main import run
from heimdall_models.bundle import MANIFEST
from heimdall_models.shipped import shipped

AUDIT = lines(decision("a", tenant="t"), outcome("a"), decision("b"), feedback("a", score=0.5))


@pytest.fixture
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "audit.jsonl"
    file.write_bytes(AUDIT)
    return file


def test_a_replay_tells_its_summary_as_json_and_everything_else_on_stderr(
    audit: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert run(["replay", "--from", str(audit), "--out", "data", "-o", "json"]) == 0
    shown = capfdbinary.readouterr()
    told = orjson.loads(shown.out)
    assert (told["rows"], told["without_outcome"], told["coverage"]["score"]["rows"]) == (2, 1, 1)
    assert b"1 requests without an outcome" in shown.err
    assert run(["replay", "--out", "data", "--erase", "t", "-o", "json"]) == 0
    assert orjson.loads(capfdbinary.readouterr().out)["rows"] == 1
    assert run(["replay", "--out", "data", "--erase", "T"]) == 0
    assert b"is it spelt as in the column" in capfdbinary.readouterr().err


def test_feedback_without_its_audit_says_what_is_missing(
    audit: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    audit.write_bytes(lines(feedback("a", score=0.5)))
    assert run(["replay", "--from", str(audit), "--out", "data"]) == 0
    assert b"feedback alone makes no rows, the audit is needed beside it" in capfdbinary.readouterr().err


def test_a_champion_of_another_version_is_named_with_the_way_out(
    audit: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    older = dated(audit.with_name("older"), 2)
    manifest = {**orjson.loads((older / MANIFEST).read_bytes()), "feature_version": "0"}
    (older / MANIFEST).write_bytes(orjson.dumps(manifest))
    audit.with_name("heimdall.yaml").write_text("tuning: {artifact_url: older}\n")
    assert run(["replay", "--from", str(audit), "--out", "data"]) == 0
    assert run(["train", "--data", "data", "--out", "learned"]) == 2
    assert (
        b"it is the one that decides: point tuning.artifact_url at one of this version" in capfdbinary.readouterr().err
    )
    assert not Path("learned").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["replay", "--out", "d"], 2, b"say where from"),
        (["replay", "--out", "d", "--from", "nowhere.jsonl"], 4, b"does not exist"),
        (["replay", "--out", "d", "--from", "kafka", "--from", "audit.jsonl"], 2, b"not both"),
        (["replay", "--out", "d", "--from", "audit.jsonl", "--from-offsets", "audit:0=1"], 2, b"needs --from kafka"),
        (["replay", "--out", "d", "--from", "kafka", "--from-offsets", "audit=1"], 2, b"is no offset"),
        (
            ["replay", "--out", "d", "--from", "audit.jsonl", "--resume", "--since", "2026-11-21"],
            2,
            b"leave out --since",
        ),
        (["replay", "--out", "d", "--from", "audit.jsonl", "--since", "soon"], 2, b"is no time"),
        (["replay", "--out", "d", "--erase", "t"], 4, b"no data set"),
        (["replay", "--out", ".", "--erase", "t"], 4, b"no data set"),
        (["feedback", "r"], 2, b"say something"),
    ],
)
@pytest.mark.usefixtures("audit")
def test_a_wish_that_cannot_be_met_says_why(
    arguments: list[str], code: int, why: bytes, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert run(arguments) == code
    assert why in capfdbinary.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["learn", "--out", "d"], 2, b"give --once"),
        (["learn", "--once", "--out", "d"], 2, b"learning.bundle_store"),
        (["learn", "--once", "--out", "d", "--from", "nowhere.jsonl", "--dry-run"], 4, b"does not exist"),
        (["promote", "nowhere"], 2, b"does not exist"),
    ],
)
@pytest.mark.usefixtures("audit")
def test_a_turn_that_cannot_be_made_says_why(
    arguments: list[str], code: int, why: bytes, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert run(arguments) == code
    assert why in capfdbinary.readouterr().err


def test_a_dry_run_of_a_promotion_needs_neither_broker_nor_store(
    audit: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    audit.with_name("heimdall.yaml").write_text(
        "providers: {openai: {type: custom, base_url: 'http://127.0.0.1:9/v1'}}\n"
    )
    bundle = str(shipped("bundles/default"))
    assert run(["promote", bundle, "--dry-run", "-o", "json"]) == 0
    told = orjson.loads(capfdbinary.readouterr().out)
    assert (told["promoted"], told["gates"], told["alias"]) == (False, [], "champion")
    assert run(["replay", "--from", str(audit), "--out", "data"]) == 0
    assert run(["promote", bundle, "--data", "data", "--dry-run"]) == 1
    assert b"not promoted: conclusive: " in capfdbinary.readouterr().err


def test_a_log_of_a_newer_schema_alone_stops_training_and_says_what_to_do(
    audit: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    audit.write_bytes(lines(decision("a", decision_version="2"), outcome("a")))
    assert run(["replay", "--from", str(audit), "--out", "data"]) == 0
    assert b"Upgrade, then replay the range again" in capfdbinary.readouterr().err
    assert run(["train", "--data", "data", "--out", "learned"]) == 2
    shown = capfdbinary.readouterr().err
    assert b"beginning with the configured bundle" in shown
    assert b"no row can be used" in shown
    assert not Path("learned").exists()


def test_an_audit_without_a_decision_teaches_nothing_and_is_no_failure(
    audit: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    audit.write_bytes(b"")
    assert run(["learn", "--once", "--from", str(audit), "--out", "loop", "--dry-run", "-o", "json"]) == 0
    told = orjson.loads(capfdbinary.readouterr().out)
    assert (told["promoted"], told["rows"]) == (False, 0)
    assert "no decisions" in told["why_not"]


def test_a_dry_run_on_two_requests_says_what_is_missing_and_keeps_its_summary(
    audit: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert run(["learn", "--once", "--from", str(audit), "--out", "loop", "--dry-run", "-o", "json"]) == 0
    told = orjson.loads(capfdbinary.readouterr().out)
    assert told["promoted"] is False
    assert told["why_not"]
    kept = orjson.loads(Path(told["summary"]).read_bytes())
    assert kept == {name: value for name, value in told.items() if name != "summary"}
