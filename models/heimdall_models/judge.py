"""One judge: a bundle, a catalogue and rules, made ready once and used for every batch until one of them changes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from heimdall_models.asked import Reader, Reading
from heimdall_models.bundle import DOMAINS, Clusters
from heimdall_models.catalogue import Catalogue
from heimdall_models.classify import BUCKET_TEMPERATURE, Verdicts
from heimdall_models.embed import EmbeddingCache
from heimdall_models.experiment import CONTROL, Arm, Experiment
from heimdall_models.pools import Flags, Floats, Indices, PoolBook
from heimdall_models.quality import QualityError, parse_quality
from heimdall_models.rules import Rules
from heimdall_models.text_model import TextModel

_DECIMALS = 6
_MID = 1
_UNDECIDED = (0.33, 0.34, 0.33)


class Predictor(Protocol):
    def predict(self, numeric: NDArray[np.float32]) -> Verdicts: ...


class Parts(Protocol):
    """What a judge takes of a bundle."""

    @property
    def hash(self) -> str: ...
    @property
    def classifier(self) -> Predictor: ...
    @property
    def text_model(self) -> TextModel: ...
    @property
    def clusters(self) -> Clusters: ...
    @property
    def quality_json(self) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Judge:
    """Everything that decides. `arms`: the judges of an experiment's arms by name; `label` is recorded.

    `salt`: a hash over the judge, to be copied and gone on with; the processor has instructions for this kind.
    `identity_json`: the fields of a record that name the judge, as JSON without braces.
    """

    bundle: Parts
    rules: Rules
    book: PoolBook
    reader: Reader
    salt: hashlib._Hash
    label: str | None
    arms: Mapping[str, Judge]
    identity_json: bytes

    @property
    def left_out(self) -> Mapping[str, str]:
        """Configured candidates, those of arms too, that can never be chosen → why; said once, when the judge is made."""
        return {name: why for one in (*self.arms.values(), self) for name, why in one.book.left_out.items()}


def make_judge(
    bundle: Parts,
    catalogue: Catalogue,
    rules: Rules,
    *,
    bundles: Mapping[str, Parts] | None = None,
    embedder: EmbeddingCache | None = None,
) -> Judge:
    """A judge of these parts; `bundles` holds those that the arms of `rules.experiment` name.

    Raises QualityError when a bundle has no usable quality table, KeyError when an arm names one that is not given.
    """
    experiment = rules.experiment
    arms: dict[str, Judge] = {}
    label = None
    if experiment is not None:
        label = _label(experiment, CONTROL)
        for arm in experiment.arms:
            treated = bundle if arm.bundle is None else (bundles or {})[arm.bundle]
            arms[arm.name] = _judge(treated, catalogue, _treated(rules, arm), _label(experiment, arm.name), embedder)
    return replace(_judge(bundle, catalogue, rules, label, embedder), arms=arms)


def _label(experiment: Experiment, arm: str) -> str:
    return f"{experiment.name}:{arm}"


def _treated(rules: Rules, arm: Arm) -> Rules:
    return replace(
        rules,
        alpha=rules.alpha if arm.alpha is None else arm.alpha,
        candidates=rules.candidates if arm.candidates is None else {**rules.candidates, **arm.candidates},
    )


def _judge(
    bundle: Parts, catalogue: Catalogue, rules: Rules, label: str | None, embedder: EmbeddingCache | None
) -> Judge:
    if bundle.quality_json is None:
        raise QualityError("the bundle has no quality.json; train it again or copy its parent's")
    try:
        quality = parse_quality(bundle.quality_json)
    except QualityError as error:
        raise QualityError(
            f"quality.json of bundle {bundle.hash[:12]}: {error}; fetch or train the bundle again"
        ) from error
    if quality.domains != DOMAINS:
        raise QualityError(
            f"the bundle's clusters are over the domains {DOMAINS}, its quality table over {quality.domains}"
        )
    identity = f"{bundle.hash}\x1f{catalogue.hash}\x1f{rules!r}\x1f{label}"
    return Judge(
        bundle=bundle,
        rules=rules,
        book=PoolBook(catalogue, rules, quality, bundle.clusters.domains.astype(np.float64)),
        reader=Reader(
            text_model=bundle.text_model,
            centres=bundle.clusters.centres,
            top_p=rules.top_p,
            timeout_ms=rules.feature_timeout_ms,
            embedding_timeout_ms=rules.embedding_timeout_ms,
            embedder=embedder,
        ),
        salt=hashlib.sha256(hashlib.sha256(identity.encode("utf-8", "surrogatepass")).digest()),
        label=label,
        arms={},
        identity_json=orjson.dumps(
            {
                "experiment": label,
                "bundle": bundle.hash,
                "catalogue": catalogue.hash,
                "config": rules.config_hash,
            }
        )[1:-1],
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """(n,) each, rounded as recorded; NaN where `failed`. `bucket`: 0 cheap, 1 mid, 2 hard; `probabilities` (n, 3)."""

    raw: Floats
    difficulty: Floats
    percentile: Floats
    failed: Flags
    bucket: Indices
    probabilities: Floats


def classify(reading: Reading, judge: Judge) -> Verdict:
    """How hard each row is. Rows read too late, and rows whose prediction is not finite, are `failed` and mid."""
    if reading.spent or reading.late.all():
        return _unknown(len(reading.late), judge.rules)
    found = judge.bundle.classifier.predict(reading.numeric)
    columns = np.array((found.raw, found.difficulty, found.percentile))
    failed = reading.late | ~np.isfinite(columns).all(axis=0)
    if failed.any():
        columns[:, failed] = np.nan
    raw, difficulty, percentile = columns.round(_DECIMALS)
    bucket = cut(percentile, judge.rules)
    return Verdict(raw, difficulty, percentile, failed, bucket, probabilities(percentile, bucket, judge.rules))


def _unknown(rows: int, rules: Rules) -> Verdict:
    """No time to classify: every row is mid, failed."""
    nothing = np.full(rows, np.nan)
    bucket = cut(nothing, rules)
    return Verdict(nothing, nothing, nothing, np.ones(rows, np.bool_), bucket, probabilities(nothing, bucket, rules))


def cut(percentile: Floats, rules: Rules) -> Indices:
    """The bucket of each difficulty percentile: below `cheap` cheap, above `hard` hard, else (and for NaN) mid."""
    return np.where(percentile < rules.cheap_below, 0, np.where(percentile > rules.hard_above, 2, _MID))


def probabilities(percentile: Floats, bucket: Indices, rules: Rules) -> Floats:
    """(n, 3) softmax of ((t_cheap − d)/τ, 0, (d − t_hard)/τ), rounded; each row sums to 1 and peaks at its bucket."""
    edges = np.stack((rules.cheap_below - percentile, np.zeros(len(percentile)), percentile - rules.hard_above), axis=1)
    raised = np.exp(edges / BUCKET_TEMPERATURE)
    shares = (raised / raised.sum(axis=1, keepdims=True)).round(_DECIMALS)
    shares[np.isnan(percentile)] = _UNDECIDED
    # On a threshold two shares are equal, or rounded to the wrong order; the bucket's own must be the largest.
    own = np.arange(len(bucket)), bucket
    shares = np.minimum(shares, shares[own][:, None] - 2 * 10.0**-_DECIMALS)
    shares[own] = 0.0
    shares[own] = (1.0 - shares.sum(axis=1)).round(_DECIMALS)
    return np.asarray(shares)
