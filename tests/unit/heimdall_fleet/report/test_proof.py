"""A decision is proved, and so is its copy from the cache."""

import datetime as dt
from typing import Any

import orjson
import pytest

from heimdall_fleet.report.proof import prove
from heimdall_models.asked import DecisionInput
from heimdall_models.bundle import load_bundle
from heimdall_models.cache import Memory
from heimdall_models.catalogue import load_catalogue
from heimdall_models.decide import decide
from heimdall_models.judge import Judge, make_judge
from heimdall_models.record import Decided, audit_json
from heimdall_models.rules import Rules
from heimdall_models.shipped import shipped
from heimdall_schemas.request import read_request


@pytest.fixture(scope="module")
def judge() -> Judge:
    catalogue = load_catalogue(dt.date(2026, 11, 21))
    served = {model: facts.author for model, facts in catalogue.models.items()}
    return make_judge(load_bundle(shipped("bundles/default")), catalogue, Rules(served=served, config_hash="test"))


def audited(judge: Judge, memory: Memory, request_id: str) -> dict[str, Any]:
    body = b'{"messages": [{"role": "user", "content": "Why is the sky blue?"}]}'
    (answer,) = decide([DecisionInput(request_id, *read_request(body), 60_000.0)], judge, memory, lambda: 0.0)
    assert isinstance(answer, Decided)
    record: dict[str, Any] = orjson.loads(
        audit_json(answer, {"correlation_id": request_id, "worker": "w", "time": "t"})
    )
    return record


def test_a_copy_is_proved_by_its_original_and_must_agree_with_it(judge: Judge) -> None:
    memory = Memory()
    scored, copy = audited(judge, memory, "one"), audited(judge, memory, "two")
    assert copy["cached_from"] == "one"
    assert prove(scored, judge, copy) == {"bundle": judge.bundle.hash, "differences": []}
    forged = {**copy, "selected_model": "nobody/cheaper"}
    assert [each.partition(":")[0] for each in prove(scored, judge, forged)["differences"]] == ["selected_model"]


def test_a_changed_record_is_not_proved(judge: Judge) -> None:
    scored = audited(judge, Memory(), "one")
    scored["difficulty"] += 0.1
    assert prove(scored, judge)["differences"][0].startswith("difficulty: recorded")
