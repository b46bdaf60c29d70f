"""Each guardrail by name, with the numbers that decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from heimdall_models.asked import DecisionInput
from heimdall_models.catalogue import Catalogue, Latency, Override, Price, Rate
from heimdall_models.ceiling import USUAL_OUTPUT_TOKENS, needed_usd_micros
from heimdall_models.judge import Judge
from heimdall_models.record import Decided, Refusal
from heimdall_schemas.failure import FailureCode
from heimdall_schemas.topics import Bucket

One = Callable[..., Decided]
MakeInput = Callable[..., DecisionInput]
JudgeWith = Callable[..., Judge]

IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]
TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {}}}]


def _tokens(count: int) -> str:
    return "word " * count


def _why(answer: Decided, model: str) -> str:
    return next(
        str(one["fell_out"]) for one in answer.record["candidates"] if one["model"] == model and one.get("fell_out")
    )


def test_more_than_200k_tokens_go_to_a_gemini_in_hard(judge: Judge, make_input: MakeInput, decided: One) -> None:
    answer = decided(make_input(text=_tokens(230_000)), judge)
    assert answer.token_count > 200_000
    assert answer.bucket == "hard"
    assert answer.decision["selected_model"] == "google/gemini-3.8-flash"
    assert answer.record["guardrails"][0] == "context_200k"
    assert answer.decision["guardrail_triggered"]
    assert len(answer.steps) > 1


def test_a_prompt_over_every_window_of_the_bucket_goes_to_hard(
    judge_with: JudgeWith, make_input: MakeInput, decided: One
) -> None:
    judge = judge_with(
        candidates={
            Bucket.CHEAP: ("openai/gpt-oss-120b",),
            Bucket.MID: ("openai/gpt-oss-120b",),
            Bucket.HARD: ("openai/gpt-5.5",),
        }
    )
    messages = [{"role": "system", "content": "x" * 600_000}, {"role": "user", "content": "why is the sky blue?"}]
    answer = decided(make_input(messages=messages), judge)
    assert 131_072 < answer.token_count < 200_000
    assert answer.record["bucket_before_guardrails"] == "cheap"
    assert answer.bucket == "hard"
    assert "context_overflow" in answer.record["guardrails"]


def test_what_fits_no_model_at_all_is_the_callers_to_shorten(
    judge_with: JudgeWith, make_input: MakeInput, answer: Callable[..., Any]
) -> None:
    judge = judge_with(candidates=dict.fromkeys(Bucket, ("openai/gpt-oss-120b",)))
    (refused,) = answer([make_input(text=_tokens(190_000))], judge)
    assert isinstance(refused, Refusal)
    assert refused.failure.code is FailureCode.CALLER_CONTEXT_TOO_LONG
    assert "131,072" in refused.failure.message


def test_images_take_out_models_that_cannot_see(
    judge_with: JudgeWith, shipped: Catalogue, make_input: MakeInput, decided: One
) -> None:
    blind_model = Override(context_window=10_000, price=Rate(1, 1), images=False)
    judge = judge_with(
        shipped.with_overrides({"blind/model": blind_model}),
        served={"blind/model": "blind", "openai/gpt-6-luna": "openai"},
        candidates=dict.fromkeys(Bucket, ("blind/model", "openai/gpt-6-luna")),
    )
    answer = decided(make_input(messages=IMAGE), judge)
    blind = {one["model"] for one in answer.record["candidates"] if (one.get("fell_out") or "").startswith("images: ")}
    assert answer.record["guardrails"] == ["images"]
    assert blind == {"blind/model"}
    assert not blind & set(answer.decision["alpha_scores"])


def test_tools_and_formats_take_out_models_that_lack_them(
    judge_with: JudgeWith, shipped: Catalogue, make_input: MakeInput, decided: One
) -> None:
    catalogue = shipped.with_overrides(
        {"openai/gpt-6-sol": Override(tools=False), "qwen/qwen3.8-max": Override(structured_output=False)}
    )
    judge = judge_with(catalogue)
    answer = decided(make_input(0.5, tools=TOOLS, response_format={"type": "json_object"}), judge)
    assert answer.record["guardrails"] == ["tools", "structured_output"]
    assert _why(answer, "openai/gpt-6-sol").startswith("tools: ")
    assert _why(answer, "qwen/qwen3.8-max").startswith("structured_output: ")
    assert answer.record["decision_type"] == "guarded"
    assert not {"openai/gpt-6-sol", "qwen/qwen3.8-max"} & set(answer.record["chain"])


def test_a_tenant_gets_only_what_its_list_allows(judge_with: JudgeWith, make_input: MakeInput, decided: One) -> None:
    judge = judge_with(tenants={"acme": ("anthropic/", "openai/gpt-6-sol")})
    answer = decided(make_input(0.5, options={"tenant": "acme"}), judge)
    assert set(answer.decision["alpha_scores"]) == {"anthropic/claude-sonnet-5.5", "openai/gpt-6-sol"}
    assert _why(answer, "x-ai/grok-4.7") == "tenant_allow_list: tenant acme may not use it"
    assert len(decided(make_input(0.5, options={"tenant": "other"}), judge).decision["alpha_scores"]) == 8


SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}


def test_a_model_whose_provider_takes_no_schema_answers_schemas_only_when_nobody_else_can(
    judge_with: JudgeWith, make_input: MakeInput, decided: One
) -> None:
    able, unable = "openai/gpt-5.5", "x-ai/grok-4.7"
    judge = judge_with(candidates=dict.fromkeys(Bucket, (able, unable)), schemaless=frozenset({unable}))
    answer = decided(make_input(0.5, response_format=SCHEMA), judge)
    assert answer.record["asked"]["schema"]
    assert answer.record["guardrails"] == ["json_schema"]
    assert _why(answer, unable) == "json_schema: the request has a JSON schema, the model's provider takes none"
    assert set(answer.record["chain"]) == {able}
    plain = decided(make_input(0.5, response_format={"type": "json_object"}), judge)
    assert set(plain.record["chain"]) == {able, unable}

    alone = judge_with(candidates=dict.fromkeys(Bucket, (unable,)), schemaless=frozenset({unable}))
    gave_way = decided(make_input(0.5, response_format=SCHEMA), alone).record
    assert set(gave_way["chain"]) == {unable}
    assert gave_way["waived"] == ["json_schema"]
    assert "waived" not in answer.record


def test_a_pinned_model_outside_the_tenants_list_is_refused(
    judge_with: JudgeWith, make_input: MakeInput, answer: Callable[..., Any]
) -> None:
    judge = judge_with(tenants={"acme": ("anthropic/",)})
    (refused,) = answer([make_input(model="openai/gpt-5.5", options={"tenant": "acme"})], judge)
    assert isinstance(refused, Refusal)
    assert refused.failure.code is FailureCode.POLICY_NO_CANDIDATE


@pytest.mark.parametrize(
    "excluded", [["openai/", "google", "claude-sonnet-5-5"], ["OpenAI", "Google/", "Claude-Sonnet-5-5"]]
)
def test_a_callers_exclusions_and_candidates_hold(
    judge: Judge, make_input: MakeInput, decided: One, excluded: list[str]
) -> None:
    answer = decided(make_input(0.5, options={"exclude": excluded}), judge)
    assert not [name for name in answer.record["chain"] if name.startswith(("openai/", "google/")) or "sonnet" in name]
    named = decided(make_input(0.1, options={"candidates": ["gpt-5.5", "anthropic/claude-opus-5.5"]}), judge)
    assert set(named.decision["alpha_scores"]) == {"openai/gpt-5.5", "anthropic/claude-opus-5.5"}
    assert named.bucket == "cheap"


def _needed(judge: Judge, found: Decided, model: str, output: int = USUAL_OUTPUT_TOKENS) -> int:
    """What dispatch wants to find for a call, in micro-dollars."""
    price, tokens = judge.book.catalogue.models[model].price, found.record["features"]["token_count"]
    assert price is not None
    return needed_usd_micros(tokens, output, price.at(tokens))


def _expected(found: Decided, model: str) -> int:
    return next(int(one["cost_usd_micros"]) for one in found.record["candidates"] if one["model"] == model)


def test_a_cost_ceiling_takes_out_what_costs_more(
    judge: Judge, make_input: MakeInput, decided: One, answer: Callable[..., Any]
) -> None:
    free = decided(make_input(0.9), judge)
    costs = sorted(max(_needed(judge, free, name), _expected(free, name)) for name in free.decision["alpha_scores"])
    found = decided(make_input(0.9, options={"max_cost_usd": costs[2] / 1e6}), judge)
    assert len(found.decision["alpha_scores"]) == 3
    assert found.record["guardrails"] == ["max_cost"]
    (refused,) = answer([make_input(0.9, options={"max_cost_usd": 0.0})], judge)
    assert isinstance(refused, Refusal)
    assert refused.failure.code is FailureCode.POLICY_BUDGET
    assert "google/gemini-3.8-flash: max_cost: needs" in refused.failure.message


@pytest.mark.parametrize("limit", [None, 1, 20, 40_000])
def test_a_ceiling_lets_a_model_pass_that_dispatch_will_call_and_not_a_micro_dollar_below(
    limit: int | None, judge: Judge, make_input: MakeInput, answer: Callable[..., Any]
) -> None:
    body = {} if limit is None else {"max_tokens": limit}
    for model in ("openai/gpt-5.5", "google/gemini-3.8-flash", "anthropic/claude-opus-5.5"):
        (free,) = answer([make_input(0.9, model=model, **body)], judge)
        least = _needed(judge, free, model) if limit is None else _needed(judge, free, model, limit)
        if limit is None:
            least = max(least, _expected(free, model))
        for ceiling, kind in ((least, Decided), (least - 1, Refusal)):
            (found,) = answer([make_input(0.9, model=model, options={"max_cost_usd": ceiling / 1e6}, **body)], judge)
            assert isinstance(found, kind)


def test_a_prompt_that_is_long_enough_to_be_dearer_is_held_against_the_ceiling_at_that_price(
    judge_with: JudgeWith, shipped: Catalogue, make_input: MakeInput, answer: Callable[..., Any]
) -> None:
    price = Price(Rate(1_000_000, 0), long=Rate(2_000_000, 0), long_above_tokens=1_000)
    facts = replace(shipped.models["openai/gpt-5.5"], price=price)
    judge = judge_with(replace(shipped, models={**shipped.models, facts.id: facts}))
    (free,) = answer([make_input(text=_tokens(2_000), model=facts.id)], judge)
    ceiling_usd = free.token_count * 1.5 / 1e6
    (found,) = answer([make_input(text=_tokens(2_000), model=facts.id, options={"max_cost_usd": ceiling_usd})], judge)
    assert isinstance(found, Refusal)


def test_a_pinned_model_of_unknown_price_passes_a_ceiling_only_at_the_price_that_dispatch_guesses(
    judge_with: JudgeWith, shipped: Catalogue, make_input: MakeInput, answer: Callable[..., Any]
) -> None:
    facts = replace(shipped.models["openai/gpt-5.5"], price=None)
    judge = judge_with(replace(shipped, models={**shipped.models, facts.id: facts}))
    for ceiling_usd, kind in ((0.07, Refusal), (0.1, Decided)):  # 500 tokens at 150 USD a million, and the prompt
        (found,) = answer([make_input(model=facts.id, options={"max_cost_usd": ceiling_usd})], judge)
        assert isinstance(found, kind)


def test_a_near_deadline_takes_out_slow_models_and_moves_to_a_quicker_bucket(
    judge_with: JudgeWith, shipped: Catalogue, make_input: MakeInput, decided: One
) -> None:
    quick, slow = Latency(400.0, 100.0, measured=True), Latency(20_000.0, 5_000.0, measured=True)
    catalogue = shipped.with_overrides(
        {name: Override(latency=slow) for name in shipped.models} | {"openai/gpt-6-luna": Override(latency=quick)}
    )
    judge = judge_with(catalogue)
    answer = decided(make_input(0.9, time_left_ms=1_000.0), judge)
    assert answer.decision["selected_model"] == "openai/gpt-6-luna"
    assert answer.bucket == "cheap"
    assert "deadline" in answer.record["guardrails"]
    assert "needs 15,000 ms or more, 1,000 ms are left" in _why(answer, "openai/gpt-5.5")


def test_a_deadline_that_nothing_meets_still_gets_a_model(judge: Judge, make_input: MakeInput, decided: One) -> None:
    answer = decided(make_input(0.9, time_left_ms=1.0), judge)
    assert answer.bucket == "hard"
    assert len(answer.decision["alpha_scores"]) == 7


def test_excluded_authors_and_dear_models_of_openrouter_are_never_chosen(
    judge_with: JudgeWith, rules: Any, make_input: MakeInput, decided: One
) -> None:
    served = dict.fromkeys(rules.served, "openrouter") | {"openai/gpt-5.5": "openai"}
    judge = judge_with(served=served, exclude_authors=("Anthropic",), max_price_usd=12.0)
    names = set(decided(make_input(0.9), judge).decision["alpha_scores"])
    assert names == {"openai/gpt-5.5", "openai/gpt-6.1-sol", "google/gemini-3.8-flash", "meta/muse-spark-1.3"}
    assert "max_price 12" in judge.left_out["moonshotai/kimi-k3"]


@pytest.mark.parametrize("model", ["openai/gpt-oss-120b", "amazon/nova-pro-v1"])
def test_a_pinned_model_may_try_what_the_catalogue_says_it_cannot(
    judge: Judge, make_input: MakeInput, decided: One, model: str
) -> None:
    answer = decided(make_input(model=model, messages=IMAGE, tools=TOOLS), judge)
    assert answer.decision["selected_model"] == model
