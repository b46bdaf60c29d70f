"""The α-score against the formula written out for one row at a time, and on the shipped bundle."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import pytest

from heimdall_models.asked import DecisionInput
from heimdall_models.bundle import Bundle, load_bundle
from heimdall_models.catalogue import Catalogue, Latency, Override, Rate
from heimdall_models.judge import Judge, Parts, make_judge
from heimdall_models.quality import QualityTable, parse_quality
from heimdall_models.recompute import recompute
from heimdall_models.record import Decided
from heimdall_models.rules import Penalties, Rules
from heimdall_models.shipped import shipped
from heimdall_schemas.topics import Bucket

One = Callable[..., Decided]
MakeInput = Callable[..., DecisionInput]
JudgeWith = Callable[..., Judge]


def _weights(similarities: list[float]) -> list[float]:
    raised = [math.exp((one - similarities[0]) / 0.1) for one in similarities]
    return [one / sum(raised) for one in raised]


def _normalised(values: Mapping[str, float]) -> dict[str, float]:
    low, high = min(values.values()), max(values.values())
    return {name: (value - low) / (high - low) for name, value in values.items()}


@pytest.fixture(scope="session")
def table(bundle: Parts) -> QualityTable:
    assert bundle.quality_json is not None
    return parse_quality(bundle.quality_json)


@pytest.mark.parametrize("hardness", [0.1, 0.5, 0.9])
def test_quality_is_the_bundles_table_and_cost_the_catalogues_prices(
    *,
    judge: Judge,
    bundle: Parts,
    table: QualityTable,
    shipped: Catalogue,
    make_input: MakeInput,
    decided: One,
    hardness: float,
) -> None:
    record = decided(make_input(hardness), judge).record
    features = record["features"]
    terms = {one["model"]: one for one in record["candidates"]}
    quality, cost = dict.fromkeys(terms, 0.0), dict.fromkeys(terms, 0.0)
    for cluster, weight in zip(features["clusters"], _weights(features["cluster_similarities"]), strict=True):
        mixture = bundle.clusters.domains[cluster].astype(float)
        answer = float(mixture @ table.output_tokens)
        qualities, prices = {}, {}
        for model in terms:
            qualities[model] = float(mixture @ table.quality[table.models.index(model)])
            facts = shipped.models[model]
            assert facts.price is not None
            rate = facts.price.at(features["token_count"])
            tokens = features["token_count"]
            prices[model] = (tokens * rate.input + answer * facts.output_ratio * rate.output) / 1e6
        for model in terms:
            quality[model] += weight * _normalised(qualities)[model]
            cost[model] += weight * _normalised(prices)[model]
    for model, one in terms.items():
        assert one["quality"] == pytest.approx(quality[model], abs=1e-6)
        assert one["cost"] == pytest.approx(cost[model], abs=1e-6)


def test_one_cluster_instead_of_five_changes_the_terms(
    judge_with: JudgeWith, make_input: MakeInput, decided: One
) -> None:
    one, five = (decided(make_input(0.5), judge_with(top_p=count)).record for count in (1, 5))
    assert [len(record["features"]["clusters"]) for record in (one, five)] == [1, 5]
    assert one["features"]["numeric"] == five["features"]["numeric"]
    assert [c["quality"] for c in one["candidates"]] != [c["quality"] for c in five["candidates"]]


def test_a_jittery_model_and_a_full_window_are_penalised(
    judge_with: JudgeWith, shipped: Catalogue, make_input: MakeInput, decided: One
) -> None:
    catalogue = shipped.with_overrides(
        {
            "openai/gpt-5.5": Override(latency=Latency(1_000.0, 900.0, measured=True)),
            "openai/gpt-6.1-sol": Override(context_window=11_000, latency=Latency(1_000.0, 100.0, measured=True)),
        }
    )
    judge = judge_with(catalogue, penalties=Penalties(latency_sd=0.1, ctx_over_80pct=0.15))
    messages = [{"role": "system", "content": "x" * 30_000}, {"role": "user", "content": "why? " * 20}]
    record = decided(make_input(messages=messages), judge).record
    penalties = {one["model"]: one["penalties"] for one in record["candidates"]}
    assert 8_800 < record["features"]["token_count"] < 11_000
    assert penalties["openai/gpt-5.5"] == {"latency_sd": 0.09}
    assert penalties["openai/gpt-6.1-sol"] == {"latency_sd": 0.01, "ctx_over_80pct": 0.15}
    assert record["features"]["context_overflow"] is True
    assert record["features"]["context_ratio"] == pytest.approx(record["features"]["token_count"] / 11_000, abs=1e-6)


@pytest.mark.parametrize("asked", [{"model": "openai/gpt-5"}, {"options": {"candidates": ["gpt-5", "openai/gpt-5.5"]}}])
def test_the_context_is_held_against_the_models_that_the_caller_names(
    judge_with: JudgeWith, shipped: Catalogue, make_input: MakeInput, decided: One, asked: dict[str, Any]
) -> None:
    judge = judge_with(shipped.with_overrides({"openai/gpt-5": Override(context_window=11_000)}))
    messages = [{"role": "system", "content": "x" * 30_000}, {"role": "user", "content": "why? " * 20}]
    record = decided(make_input(messages=messages, **asked), judge).record
    penalties = {one["model"]: one["penalties"] for one in record["candidates"]}
    assert "ctx_over_80pct" in penalties["openai/gpt-5"]
    assert record["features"]["context_overflow"] is True
    assert record["features"]["context_ratio"] == pytest.approx(record["features"]["token_count"] / 11_000, abs=1e-6)


def test_a_limit_on_the_output_lowers_the_expected_cost(judge: Judge, make_input: MakeInput, decided: One) -> None:
    free, short = (decided(make_input(0.5, **fields), judge).record for fields in ({}, {"max_tokens": 10}))
    for one, other in zip(free["candidates"], short["candidates"], strict=True):
        assert other["cost_usd_micros"] < one["cost_usd_micros"]


def test_prompts_above_a_price_threshold_pay_the_long_rate(
    judge_with: JudgeWith, make_input: MakeInput, decided: One
) -> None:
    judge = judge_with(candidates=dict.fromkeys(Bucket, ("anthropic/claude-haiku-5.5",)))
    messages = [{"role": "system", "content": "x" * 600_000}, {"role": "user", "content": "why? " * 10}]
    record = decided(make_input(messages=messages), judge).record
    tokens = record["features"]["token_count"]
    assert tokens > 100_000
    assert record["candidates"][0]["cost_usd_micros"] > 0.5 * tokens


@pytest.fixture(scope="session")
def shipped_bundle() -> Bundle:
    return load_bundle(shipped("bundles/default"))


def test_the_shipped_bundle_decides_and_its_records_are_proved(
    shipped_bundle: Bundle, shipped: Catalogue, make_input: MakeInput, answer: Callable[..., Any]
) -> None:
    served = {model: facts.author for model, facts in shipped.models.items()}
    judge = make_judge(shipped_bundle, shipped, Rules(served=served))
    assert judge.left_out == {}
    texts = [
        "hi",
        "Prove that √2 is irrational.",
        "def f(x):\n    return x\n\nWhy is this slow?",
        "你好，世界",
        "🙂" * 9,
    ]
    batch = [make_input(text=text, request_id=f"t-{place}") for place, text in enumerate(texts)]
    for found in answer(batch, judge):
        assert isinstance(found, Decided)
        record = orjson.loads(orjson.dumps({**found.record, **found.decision}))
        assert recompute(record, judge).differences == ()
        assert record["bundle"] == shipped_bundle.hash


def test_equal_scores_go_to_the_cheaper_and_then_to_the_first_name(
    judge_with: JudgeWith, shipped: Catalogue, make_input: MakeInput, decided: One
) -> None:
    twin = Override(context_window=100_000, price=Rate(1_000_000, 1_000_000))
    dearer = Override(context_window=100_000, price=Rate(2_000_000, 2_000_000))
    catalogue = shipped.with_overrides({"b/twin": twin, "a/dearer": dearer, "c/twin": twin})
    names = ("c/twin", "a/dearer", "b/twin")
    judge = judge_with(catalogue, served=dict.fromkeys(names, "p"), candidates=dict.fromkeys(Bucket, names), alpha=1.0)
    answer = decided(make_input(0.9), judge)
    assert len(set(answer.decision["alpha_scores"].values())) == 1
    assert answer.record["chain"] == ["b/twin", "c/twin", "a/dearer"]
