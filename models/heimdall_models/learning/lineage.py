"""Which rows of a log mean the same to a bundle, and what its text model makes of those that another one scored."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from heimdall_models.bundle import CENTRES, CLUSTER_DOMAINS, TEXT_TABLES, Bundle
from heimdall_models.conversation import read_conversation
from heimdall_models.features import FEATURE_NAMES, MAX_BATCH, extract
from heimdall_models.learning.logged import Flags, Floats, Indices, Logged
from heimdall_models.text_model import TextModel
from heimdall_models.training.fit import with_text_score

SAME_FEATURES = "same_features"
"""Hashes of bundles with the same text model and clusters: features that they logged mean the same."""

SAME_CLUSTERS = "same_clusters"
"""Hashes of bundles with the same clusters, but another text model: what they logged means the same but for its text score."""

_KEPT_HASHES = 200
_OF_TEXT = [
    place
    for place in range(FEATURE_NAMES.index("max_tokens_log") + 1, len(FEATURE_NAMES))
    if FEATURE_NAMES[place] not in ("token_count_log", "text_score")
]
"""Columns that depend on the scanned text alone, not on the conversation around it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Rows as one bundle sees them: `known` (n,) those whose features mean the same to it, by themselves or since its own
    text model scored their text anew."""

    logged: Logged
    known: Flags


def seen_by(bundle: Bundle, logged: Logged, beside: Bundle | None = None) -> Seen:
    """The log with the text scores of `bundle`. `beside`: one whose lineage counts as its own as far as their files agree."""
    same, clusters = _lineage(bundle, beside)
    known = np.isin(logged.bundle, same)
    others = np.flatnonzero(~known & np.isin(logged.bundle, clusters))
    score = scored_anew(logged, others, bundle.text_model)
    told = np.isfinite(score)
    if not told.any():
        return Seen(logged, known)
    known[others[told]] = True
    return Seen(with_scores(logged, others[told], score[told]), known)


def with_scores(logged: Logged, rows: Indices, score: Floats) -> Logged:
    """The log with these text scores in these rows."""
    column = logged.features[:, -1].astype(np.float64)
    column[rows] = score
    return replace(logged, features=with_text_score(logged.features, column))


def scored_anew(logged: Logged, rows: Indices, model: TextModel) -> Floats:
    """(rows,) text scores by `model`; NaN where the text is not kept, or is not what was scored.

    Serving scores the last question with the one before it where it is short, and joins parts in its own way; the record
    keeps the last one. Where a text gives every logged number that depends on the text alone, it is the one.
    """
    found = np.full(len(rows), np.nan)
    kept = np.flatnonzero([logged.text[row] is not None for row in rows] if logged.text else np.zeros(0))
    for begin in range(0, len(kept), MAX_BATCH):
        places = kept[begin : begin + MAX_BATCH]
        numeric = logged.features[rows[places]]
        asked = ({"role": "user", "content": logged.text[row]} for row in rows[places])
        features = extract([read_conversation({"messages": [message]}) for message in asked])
        same = (features.numeric[:, _OF_TEXT] == numeric[:, _OF_TEXT]).all(axis=1)
        score = model.score(features.scan) + model.amounts(numeric)
        found[places[same]] = score[same]
    return found


def continued(bundle: Bundle, *, same_text: bool) -> dict[str, list[str]]:
    """The two fields of the manifest of a bundle that continues this one, with its text model or with another one."""
    same, clusters = _lists(bundle)
    if not same_text:
        same, clusters = [], [*same, *clusters]
    fields = {SAME_FEATURES: same[:_KEPT_HASHES]}
    return {**fields, SAME_CLUSTERS: clusters[:_KEPT_HASHES]} if clusters else fields


def _lists(bundle: Bundle) -> tuple[list[str], list[str]]:
    manifest = bundle.manifest
    return [bundle.hash, *manifest.get(SAME_FEATURES, ())], [*manifest.get(SAME_CLUSTERS, ())]


def _lineage(bundle: Bundle, beside: Bundle | None) -> tuple[list[str], list[str]]:
    same, clusters = _lists(bundle)
    if beside is None or not _equal(bundle, beside, (CENTRES, CLUSTER_DOMAINS)):
        return same, clusters
    same_beside, clusters_beside = _lists(beside)
    text = bundle.manifest["text_model"]
    if _equal(bundle, beside, TEXT_TABLES) and all(
        text[name] == beside.manifest["text_model"][name] for name in ("scales", "bias", "slopes")
    ):
        return [*same, *same_beside], [*clusters, *clusters_beside]
    return same, [*clusters, *same_beside, *clusters_beside]


def _equal(one: Bundle, other: Bundle, names: tuple[str, ...]) -> bool:
    return all(one.manifest["files"][name] == other.manifest["files"][name] for name in names)
