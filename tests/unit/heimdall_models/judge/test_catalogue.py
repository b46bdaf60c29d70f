"""The shipped catalogue, its spellings, prices and warnings."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heimdall_models.catalogue import (
    DEFAULT_CANDIDATES,
    Catalogue,
    CatalogueError,
    Latency,
    Override,
    Rate,
    load_catalogue,
)
from heimdall_models.catalogue_build import build_catalogue
from heimdall_schemas.topics import Bucket

TODAY = dt.date(2026, 11, 21)


@pytest.mark.parametrize(
    ("spelling", "model"),
    [
        ("anthropic/claude-3.5-sonnet", "anthropic/claude-3.5-sonnet"),
        ("claude-3-5-sonnet-20241022", "anthropic/claude-3.5-sonnet"),
        ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", "anthropic/claude-3.5-sonnet"),
        ("bedrock/anthropic.claude-3-5-sonnet-20241022-v2:0", "anthropic/claude-3.5-sonnet"),
        ("openai/gpt-4o-2024-08-06", "openai/gpt-4o"),
        ("openrouter/openai/gpt-4o", "openai/gpt-4o"),
        ("GPT-4o", "openai/gpt-4o"),
        ("google/gemma-2-27b", "google/gemma-2-27b-it"),
        ("google/gemini-1.5-pro", "google/gemini-1.5-pro"),
        ("deepseek-v4-flash", "deepseek/deepseek-v4-flash"),
        ("mycompany/gpt-4o", None),
        ("gpt-9", None),
    ],
)
def test_one_model_has_many_spellings(shipped: Catalogue, spelling: str, model: str | None) -> None:
    assert shipped.resolve(spelling) == model


def test_every_default_candidate_is_current_priced_and_has_a_window(shipped: Catalogue) -> None:
    for names in DEFAULT_CANDIDATES.values():
        assert len({name.partition("/")[0] for name in names}) >= 4
        for name in names:
            facts = shipped.models[name]
            assert facts.status.state == "current"
            assert facts.price is not None
            assert facts.context_window is not None


def test_default_buckets_hold_what_their_settings_steer(shipped: Catalogue) -> None:
    for bucket in (Bucket.MID, Bucket.HARD):
        families = {shipped.models[name].family for name in DEFAULT_CANDIDATES[bucket]}
        assert {"gpt", "gemini", "claude"} <= families
    windows = [shipped.models[name].context_window or 0 for name in DEFAULT_CANDIDATES[Bucket.HARD] if "gemini" in name]
    assert max(windows) >= 1_000_000


def test_a_model_on_the_way_out_warns_with_replacement_and_date(shipped: Catalogue) -> None:
    gone = shipped.warning("claude-3-5-sonnet-20241022", TODAY)
    assert gone is not None
    assert "retired since 2025-10-28" in gone
    assert "use anthropic/claude-sonnet-5.5" in gone
    leaving = shipped.warning("openai/gpt-5", TODAY)
    assert leaving is not None
    assert "it shuts down on 2026-12-11" in leaving
    assert shipped.warning("openai/gpt-6-sol", TODAY) is None
    for facts in shipped.models.values():
        if not facts.status.current:
            replacement = shipped.facts(facts.status.replacement or "")
            assert replacement is not None, facts.id


def test_prices_are_whole_micro_dollars_and_long_prompts_cost_more(shipped: Catalogue) -> None:
    price = shipped.models["openai/gpt-6-luna"].price
    assert price is not None
    assert price.standard == Rate(100_000, 500_000, 10_000, 125_000)
    assert price.at(272_000) is price.standard
    assert price.at(272_001).input == 200_000
    assert price.standard.cost_usd_micros(10, 1) == 2
    assert price.standard.cost_usd_micros(0, 0) == 0


def test_an_announced_price_holds_from_its_day(shipped: Catalogue) -> None:
    now, later = shipped.models["google/gemini-3.8-flash"], load_catalogue(dt.date(2027, 1, 1))
    price, new_price = now.price, later.models["google/gemini-3.8-flash"].price
    assert price is not None
    assert new_price is not None
    assert (price.standard.output, new_price.standard.output) == (3_750_000, 7_500_000)
    assert later.hash != shipped.hash


def test_overrides_change_facts_add_models_and_change_the_hash(shipped: Catalogue) -> None:
    own = shipped.with_overrides(
        {
            "gpt-6-luna": Override(price=Rate(1, 2), latency=Latency(900.0, 90.0, measured=True), images=False),
            "acme/tuned": Override(context_window=8_192, price=Rate(10, 20), aliases=("tuned",)),
        }
    )
    luna = own.models["openai/gpt-6-luna"]
    assert luna.price is not None
    assert luna.price.at(10**7) == Rate(1, 2)
    assert (luna.latency.mean_ms, luna.abilities.images, luna.abilities.tools) == (900.0, False, True)
    assert own.resolve("tuned") == "acme/tuned"
    assert own.hash != shipped.hash
    assert shipped.with_overrides({}).hash == shipped.hash


def test_latency_priors_call_no_model_jittery(shipped: Catalogue) -> None:
    assert len({facts.latency.sd_ms / facts.latency.mean_ms for facts in shipped.models.values()}) == 1
    assert not any(facts.latency.measured for facts in shipped.models.values())


def test_a_damaged_file_says_how_to_build_it_again(tmp_path: Path) -> None:
    damaged = tmp_path / "models.json"
    damaged.write_text("{}")
    with pytest.raises(CatalogueError, match="catalogue_build"):
        load_catalogue(TODAY, damaged)


def test_the_builder_keeps_facts_and_attributions_and_drops_the_rest(tmp_path: Path) -> None:
    row: dict[str, Any] = {
        "id": "a/old",
        "aliases": {"a": ["old-1"]},
        "context_window": 1000,
        "abilities": {"tools": True},
        "price": {"input": 1.0, "output": 2.0, "audio_input": 3.0},
        "status": {"state": "legacy", "source": "s"},
        "differs": {"price": {}},
    }
    source = {"date": "2026-11", "prices": "USD", "sources": {"s": {"package": "s", "licence": "MIT"}}, "models": [row]}
    built = build_catalogue(source)
    assert built["attributions"] == ["s (MIT)"]
    path = tmp_path / "models.json"
    path.write_text(json.dumps(built))
    facts = load_catalogue(TODAY, path).models["a/old"]
    assert facts.abilities.tools is True
    assert "differs" not in built["models"][0]
    assert "audio_input" not in built["models"][0]


def test_the_hash_does_not_depend_on_the_order(shipped: Catalogue, priced: Callable[..., Catalogue]) -> None:
    both = {"openai/gpt-5.5": (1.0, 2.0), "x-ai/grok-4.7": (3.0, 4.0)}
    other_way = dict(reversed(both.items()))
    assert priced(shipped, both).hash == priced(shipped, other_way).hash
