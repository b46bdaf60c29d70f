"""`heimdall decide`, `explain --recompute` and `config lint` as a user calls them."""

import hashlib
import tarfile
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result
from tests.bundles import dated

from heimdall_fleet.cli.exits import CommandError, Exit
from heimdall_fleet.cli.main import cli
from heimdall_models.shipped import shipped

LINES = (
    {"id": "a", "messages": [{"role": "user", "content": "hi"}]},
    {"id": "b", "messages": [{"role": "user", "content": "Prove Fermat's last theorem."}]},
    {"id": "c", "messages": [{"role": "user", "content": "hi"}], "heimdall": {"alpha": 1.0}},
)

EXAMPLES = Path(__file__).parents[4] / "schemas" / "examples"


def config_file(folder: Path, text: str = "{}") -> Path:
    (folder / "heimdall.yaml").write_text(f"version: 1\nproviders: {{}}\ntimeout: 1ms\nfeature_timeout: 1ms\n{text}\n")
    return folder / "heimdall.yaml"


def call(folder: Path, *arguments: str, text: str = "", lines: bytes = b"") -> Result:
    file = config_file(folder, text)
    return CliRunner().invoke(cli, ["--config", str(file), *arguments], input=lines)


def decided(folder: Path, *arguments: str, text: str = "") -> list[dict[str, Any]]:
    lines = b"".join(orjson.dumps(line) + b"\n" for line in LINES)
    result = call(folder, "-o", "json", "decide", *arguments, text=text, lines=lines)
    assert result.exit_code == 0, result.output
    return [orjson.loads(line) for line in result.stdout.splitlines()]


def test_decisions_come_in_the_order_of_the_lines_with_their_fields(tmp_path: Path) -> None:
    found = decided(tmp_path)
    assert [each["id"] for each in found] == ["a", "b", "c"]
    names = "id bucket model difficulty difficulty_percentile p_cheap_ok alpha_scores reasons bundle"
    assert all(list(each) == names.split() for each in found)


def test_a_busy_machine_decides_like_a_quiet_one(tmp_path: Path) -> None:
    assert {each["fallback_used"] for each in decided(tmp_path, "--full")} == {False}


def test_the_turns_of_a_session_keep_its_model_as_they_would_in_a_worker(tmp_path: Path) -> None:
    turns = [
        {**LINES[0], "model": "openai/gpt-6-luna", "heimdall": {"session": "s"}},
        {**LINES[0], "heimdall": {"session": "s"}},
        {**LINES[0], "heimdall": {"session": "s", "tenant": "another"}},
    ]
    result = call(tmp_path, "decide", "--full", text="router: {switch_margin: 1}", lines=_lines(*turns))
    assert [orjson.loads(line)["decision_type"] for line in result.stdout.splitlines()] == [
        "pinned",
        "sticky",
        "scored",
    ]


def test_a_full_record_proves_itself(tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    audit.write_bytes(b"".join(orjson.dumps(each) + b"\n" for each in decided(tmp_path, "--full")))
    for name in "abc":
        result = call(tmp_path, "-o", "json", "explain", name, "--from", str(audit), "--recompute", "--alpha", "0.2")
        assert result.exit_code == 0, result.output
        assert orjson.loads(result.stdout)["recomputed"]["differences"] == []


def test_a_decision_of_an_arm_with_its_own_bundle_is_proved_without_a_broker(tmp_path: Path) -> None:
    arm = f"{{name: next, share: 1, bundle: '{dated(tmp_path / 'next', 20)}'}}"
    text = f"router: {{experiments: [{{name: trial, arms: [{arm}]}}]}}"
    audit = tmp_path / "audit.jsonl"
    audit.write_bytes(_lines(*decided(tmp_path, "--full", text=text)))
    result = call(tmp_path, "-o", "json", "explain", "a", "--from", str(audit), "--recompute", text=text)
    assert result.exit_code == 0, result.output
    told = orjson.loads(result.stdout)
    assert told["decision"]["experiment"] == "trial:next"
    assert told["recomputed"] == {"bundle": told["decision"]["bundle"], "differences": []}


def test_a_text_is_explained_without_an_audit(tmp_path: Path) -> None:
    result = call(tmp_path, "explain", "--text", 'print("Hello, world!")', "--recompute")
    assert result.exit_code == 0, result.output
    for said in ("decided    in ", "cache miss", "candidates with alpha 0.7", "selected ", ": the same decision"):
        assert said in result.output


def test_what_to_explain_is_one_thing(tmp_path: Path) -> None:
    for arguments in ([], ["an-id", "--text", "a text"]):
        failed = call(tmp_path, "explain", *arguments)
        assert isinstance(failed.exception, CommandError)
        assert failed.exception.code is Exit.USAGE


def test_a_record_that_was_changed_does_not(tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    first = {**decided(tmp_path, "--full")[0], "selected_model": "nobody/cheaper"}
    audit.write_bytes(orjson.dumps(first) + b"\n")
    result = call(tmp_path, "-o", "json", "explain", "a", "--from", str(audit), "--recompute")
    assert isinstance(result.exception, CommandError)
    assert result.exception.code is Exit.CHECK_FAILED
    assert "selected_model" in result.stdout


@pytest.mark.parametrize("lost", ["request_id", "difficulty", "candidates"])
def test_a_record_without_a_field_is_told_by_that_field(tmp_path: Path, lost: str) -> None:
    cut = {**decided(tmp_path, "--full")[0], "correlation_id": "asked"}
    del cut[lost]
    (tmp_path / "audit.jsonl").write_bytes(orjson.dumps(cut) + b"\n")
    failed = call(tmp_path, "explain", "asked", "--from", str(tmp_path / "audit.jsonl"))
    assert isinstance(failed.exception, CommandError)
    assert failed.exception.code is Exit.CHECK_FAILED
    assert f"{lost}: is required" in str(failed.exception)


def test_a_copy_whose_original_is_not_there_is_told_and_neither_ranked_nor_proved(tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    copied = {"request_id": "copy", "decision_type": "cached", "cached_from": "gone", "candidates": []}
    audit.write_bytes(orjson.dumps({**decided(tmp_path, "--full")[0], **copied}) + b"\n")
    assert "candidates unknown: their scores are in the decision of gone, which is not here" in _explained(audit).output
    for wish in (["--recompute"], ["--alpha", "0.2"]):
        failed = _explained(audit, *wish)
        assert isinstance(failed.exception, CommandError)
        assert failed.exception.code is Exit.NOT_FOUND
        assert "its terms are in the decision of gone" in str(failed.exception)


def test_of_several_requests_with_one_correlation_id_one_is_explained_and_the_others_named(tmp_path: Path) -> None:
    ended: dict[str, Any] = orjson.loads((EXAMPLES / "outcome-record.json").read_bytes())["value"]
    outcomes = [{**ended, "request_id": name, "cost_usd_micros": cost} for name, cost in (("b", 2), ("a", 1))]
    records = [*decided(tmp_path, "--full")[:2], *outcomes]
    (tmp_path / "audit.jsonl").write_bytes(_lines(*({**each, "correlation_id": "copy"} for each in records)))
    told = _explained(tmp_path / "audit.jsonl")
    assert told.stdout.startswith("request b\n")
    assert "outcome    answered, 0.000002 USD" in told.stdout
    assert "copy is an id of 2 requests, this is b; the others: a" in told.stderr


def _explained(audit: Path, *wish: str) -> Result:
    return call(audit.parent, "explain", "copy", "--from", str(audit), *wish)


def test_whole_lines_of_tail_are_explained_like_the_values(tmp_path: Path) -> None:
    (record, *_) = decided(tmp_path, "--full")
    line = {"topic": "heimdall.audit.v1", "partition": 0, "offset": 1, "key": "a", "value": record}
    (tmp_path / "tail.jsonl").write_bytes(orjson.dumps(line))
    result = call(tmp_path, "explain", "a", "--from", str(tmp_path / "tail.jsonl"), "--recompute")
    assert result.exit_code == 0, result.output
    assert "the same decision" in result.output


def test_a_bundle_that_only_the_control_topic_may_know_is_named_when_there_is_no_broker(tmp_path: Path) -> None:
    (record, *_) = decided(tmp_path, "--full")
    (tmp_path / "audit.jsonl").write_bytes(orjson.dumps({**record, "bundle": "f" * 64}))
    nobody = "kafka: {bootstrap_servers: '127.0.0.1:9'}"
    result = call(tmp_path, "explain", "a", "--from", str(tmp_path / "audit.jsonl"), "--recompute", text=nobody)
    assert isinstance(result.exception, CommandError)
    assert result.exception.code is Exit.UNREACHABLE
    assert "made with bundle ffffffffffff, which is not the configured one" in str(result.exception)


def test_a_bundle_behind_a_pointer_decides_like_its_directory(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "bundle.tar.gz", "w:gz") as archive:
        archive.add(shipped("bundles/default"), arcname="default")
    sha256 = hashlib.sha256((tmp_path / "bundle.tar.gz").read_bytes()).hexdigest()
    pointer = {"name": "bundle", "url": "bundle.tar.gz", "sha256": sha256}
    (tmp_path / "latest.json").write_bytes(orjson.dumps(pointer))
    url = (tmp_path / "latest.json").as_uri()
    text = f"tuning: {{artifact_url: '{url}', cache_dir: '{tmp_path}/cache'}}"
    assert [each["model"] for each in decided(tmp_path, text=text)] == [each["model"] for each in decided(tmp_path)]
    assert (tmp_path / "cache" / "bundles" / f"{sha256}.archive").exists()


def test_a_bundle_that_is_not_there_is_said_without_a_trace(tmp_path: Path) -> None:
    result = call(tmp_path, "decide", text=f"tuning: {{artifact_url: '{tmp_path}/nowhere'}}", lines=b"{}\n")
    assert isinstance(result.exception, CommandError)
    assert result.exception.code is Exit.USAGE
    assert "nowhere is no bundle" in str(result.exception)


def test_a_directory_instead_of_a_file_is_said_without_a_trace(tmp_path: Path) -> None:
    result = call(tmp_path, "decide", str(tmp_path))
    assert isinstance(result.exception, CommandError)
    assert result.exception.code is Exit.USAGE
    assert "cannot be read" in str(result.exception)


def test_a_request_whose_deadline_has_passed_is_refused_as_a_worker_refuses_it(tmp_path: Path) -> None:
    late = {**LINES[0], "heimdall": {"deadline": "2020-01-01T00:00:00Z"}}
    result = call(tmp_path, "decide", lines=orjson.dumps(late))
    assert isinstance(result.exception, CommandError)
    assert orjson.loads(result.stdout)["error"]["code"] == "policy_expired"


def test_a_deadline_that_no_model_meets_is_told_as_waived_and_one_that_some_meet_is_not(tmp_path: Path) -> None:
    lines = [{**LINES[0], "id": f"in-{ms}", "heimdall": {"ttl_ms": ms}} for ms in (50, 2_000)]
    result = call(tmp_path, "decide", "--full", lines=b"".join(orjson.dumps(line) + b"\n" for line in lines))
    assert result.exit_code == 0, result.output
    (tmp_path / "audit.jsonl").write_text(result.stdout)
    told = [call(tmp_path, "explain", f"in-{ms}", "--from", str(tmp_path / "audit.jsonl")).output for ms in (50, 2_000)]
    assert "guardrails deadline (waived: nothing else was left)" in told[0]
    assert "guardrails deadline\n" in told[1]
    reasons = orjson.loads(call(tmp_path, "decide", lines=orjson.dumps(lines[0])).stdout)["reasons"]
    assert "guardrail deadline, waived: nothing else was left" in reasons


def test_what_decide_writes_is_explained_though_some_of_its_requests_were_refused(tmp_path: Path) -> None:
    lines = [LINES[0], {**LINES[0], "id": "late", "heimdall": {"deadline": "2020-01-01T00:00:00Z"}}, [1]]
    (tmp_path / "audit.jsonl").write_text(call(tmp_path, "decide", "--full", lines=_lines(*lines)).stdout)
    explained = call(tmp_path, "explain", "a", "--from", str(tmp_path / "audit.jsonl"))
    assert explained.exit_code == 0, explained.output
    assert "2 requests of" in explained.stderr
    assert "were refused and have no decision: late, line-3" in explained.stderr
    assert "request a" in explained.stdout
    refused = call(tmp_path, "explain", "late", "--from", str(tmp_path / "audit.jsonl"))
    assert isinstance(refused.exception, CommandError)
    assert refused.exception.code is Exit.CHECK_FAILED
    assert "late was refused: policy_expired: the deadline passed" in str(refused.exception)


def _lines(*values: Any) -> bytes:
    return b"".join(orjson.dumps(value) + b"\n" for value in values)


def test_a_candidate_that_can_never_be_chosen_is_told_once(tmp_path: Path) -> None:
    text = """
models: {acme/new: {context_window: 100000}}
router: {cheap_candidates: [acme/new, acme/unheard-of, openai/gpt-6-luna]}"""
    lines = b"".join(orjson.dumps(line) + b"\n" for line in LINES)
    result = call(tmp_path, "decide", text=text, lines=lines)
    assert result.exit_code == 0, result.output
    assert result.stderr.count("acme/new is no candidate: its price is unknown") == 1
    assert result.stderr.count("acme/unheard-of is no candidate: not in the catalogue") == 1


def test_lint_names_retired_candidates(tmp_path: Path) -> None:
    text = "router: {mid_candidates: [anthropic/claude-3.5-sonnet]}"
    result = call(tmp_path, "config", "lint", "-o", "json", text=text)
    assert result.exit_code == 0, result.output
    issues = orjson.loads(result.stdout)["issues"]
    assert [each["key"] for each in issues if "claude-3.5-sonnet" in each["message"]]
