"""A toy bundle around the real tables: its classifier reads the difficulty from the length of the ask."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from heimdall_models.asked import DecisionInput
from heimdall_models.bundle import DOMAINS, Clusters
from heimdall_models.cache import Memory
from heimdall_models.catalogue import Catalogue, Override, Rate, load_catalogue
from heimdall_models.classify import Verdicts
from heimdall_models.decide import decide
from heimdall_models.embed import DIMENSIONS, QUANTA
from heimdall_models.features import FEATURE_NAMES
from heimdall_models.judge import Judge, Parts, make_judge
from heimdall_models.record import Decided, Refusal
from heimdall_models.rules import Penalties, Rules
from heimdall_models.text_model import GROUP_BITS, TextModel
from heimdall_schemas.request import Request
from heimdall_schemas.topics import Bucket

CLUSTERS = 20
_ASK = FEATURE_NAMES.index("ask_chars_log")


class LengthClassifier:
    """Percentile = characters of the ask / 100, at most 1; NaN for an ask of 13 characters."""

    def predict(self, numeric: NDArray[np.float32]) -> Verdicts:
        chars = np.rint(np.expm1(numeric[:, _ASK].astype(np.float64)))
        share = np.where(chars == 13, np.nan, np.minimum(chars / 100.0, 1.0))
        return Verdicts(1.0 - share, 1.0 - share, share, share, np.isfinite(share))


@dataclass(frozen=True)
class ToyBundle:
    hash: str
    classifier: LengthClassifier
    text_model: TextModel
    clusters: Clusters
    quality_json: bytes | None


def _quality(models: Sequence[str], seed: int) -> bytes:
    random = np.random.default_rng(seed)
    cells = {
        model: {
            "quality": random.uniform(0.2, 0.9, len(DOMAINS)).round(4).tolist(),
            "sd": [0.02] * len(DOMAINS),
            "samples": [10] * len(DOMAINS),
        }
        for model in models
    }
    return orjson.dumps(
        {
            "format": 1,
            "date": "2026-11",
            "domains": DOMAINS,
            "output_tokens": [100.0 + 50 * place for place in range(len(DOMAINS))],
            "models": cells,
        }
    )


def _toy_bundle(models: Sequence[str], seed: int = 1) -> ToyBundle:
    random = np.random.default_rng(seed)
    centres = random.normal(size=(CLUSTERS, DIMENSIONS))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    mixture = random.dirichlet(np.ones(len(DOMAINS)), CLUSTERS).astype(np.float32)
    return ToyBundle(
        hash=f"toy-{seed}",
        classifier=LengthClassifier(),
        text_model=TextModel(tuple(np.zeros(1 << bits, np.int8) for bits in GROUP_BITS), (1.0, 1.0, 1.0), 0.0),
        clusters=Clusters(np.rint(centres * QUANTA).astype(np.int16), mixture),
        quality_json=_quality(models, seed),
    )


@pytest.fixture(scope="session")
def shipped() -> Catalogue:
    """The shipped catalogue, as of the day its prices were read."""
    return load_catalogue(dt.date(2026, 11, 21))


@pytest.fixture(scope="session")
def bundle(shipped: Catalogue) -> ToyBundle:
    return _toy_bundle(sorted(shipped.models))


@pytest.fixture(scope="session")
def rules(shipped: Catalogue) -> Rules:
    """Every model of the catalogue served by its author; no penalty, so that alpha alone decides."""
    return Rules(
        served={model: facts.author for model, facts in shipped.models.items()},
        penalties=Penalties(0.0, 0.0),
        config_hash="test",
    )


@pytest.fixture(scope="session")
def judge(bundle: Parts, shipped: Catalogue, rules: Rules) -> Judge:
    return make_judge(bundle, shipped, rules)


@pytest.fixture(scope="session")
def judge_with(bundle: Parts, shipped: Catalogue, rules: Rules) -> Callable[..., Judge]:
    """A judge whose rules differ in the fields given, over another catalogue when `catalogue` is given."""

    def make(catalogue: Catalogue = shipped, **changes: Any) -> Judge:
        return make_judge(bundle, catalogue, replace(rules, **changes))

    return make


@pytest.fixture(scope="session")
def another_bundle(shipped: Catalogue) -> ToyBundle:
    """A second bundle whose quality table and clusters differ."""
    return _toy_bundle(sorted(shipped.models), seed=2)


@pytest.fixture(scope="session")
def make_input() -> Callable[..., DecisionInput]:
    """One input; `hardness` 0..1 is the length of the ask in hundreds of characters."""
    numbers = count()

    def make(
        hardness: float = 0.5,
        *,
        text: str | None = None,
        options: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        time_left_ms: float | None = None,
        **body_fields: Any,
    ) -> DecisionInput:
        ask = text if text is not None else ("why? " * 40)[: round(hardness * 100)]
        body: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": ask}], **body_fields}
        if options is not None:
            body["heimdall"] = dict(options)
        return DecisionInput(
            request_id or f"r-{next(numbers)}", Request.model_validate(body).heimdall, body, time_left_ms
        )

    return make


@pytest.fixture(scope="session")
def answer() -> Callable[..., list[Decided | Refusal]]:
    """Decide with a clock that stands still and, unless one is given, a memory that remembers nothing."""

    def run(batch: Sequence[DecisionInput], judge: Judge, memory: Memory | None = None) -> list[Decided | Refusal]:
        return decide(batch, judge, memory or Memory(decisions=None), lambda: 0.0)

    return run


@pytest.fixture(scope="session")
def decided(answer: Callable[..., list[Decided | Refusal]]) -> Callable[..., Decided]:
    """The decision on one input, which must not be refused."""

    def run(item: DecisionInput, judge: Judge, memory: Memory | None = None) -> Decided:
        (found,) = answer([item], judge, memory)
        assert isinstance(found, Decided), found
        return found

    return run


@pytest.fixture(scope="session")
def priced() -> Callable[..., Catalogue]:
    """The catalogue with other prices: model → (input, output) in USD per million tokens."""

    def make(catalogue: Catalogue, prices: Mapping[str, tuple[float, float]]) -> Catalogue:
        overrides = {
            model: Override(price=Rate(round(usd[0] * 1_000_000), round(usd[1] * 1_000_000)))
            for model, usd in prices.items()
        }
        return catalogue.with_overrides(overrides)

    return make


@pytest.fixture(scope="session")
def buckets() -> tuple[Bucket, ...]:
    return tuple(Bucket)
