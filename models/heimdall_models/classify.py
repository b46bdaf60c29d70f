"""The classifier: numbers of a conversation → how likely a cheap model answers it well. The only module with onnxruntime."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as failures

_log = logging.getLogger(__name__)

Bucket = Literal["cheap", "mid", "hard"]
BUCKETS: tuple[Bucket, Bucket, Bucket] = ("cheap", "mid", "hard")

BUCKET_TEMPERATURE = 0.1
"""Percentile distance over which a bucket's probability changes by a factor e."""

_LOG_ODDS_LIMIT = 40.0
_SILENT = 4

_ROWS_A_RUN = 64
"""ONNX Runtime takes longer for each row of larger inputs where a model has many trees."""

_FAILURES = (
    failures.Fail,
    failures.InvalidArgument,
    failures.InvalidGraph,
    failures.InvalidProtobuf,
    failures.NotImplemented,
    failures.RuntimeException,
    RuntimeError,
    UnicodeDecodeError,
)
"""What ONNX Runtime raises about a model, all without a class in common; the last two are its wrapper's own."""


class ClassifierError(ValueError):
    """ONNX Runtime takes no such model: says why not."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Difficulty percentiles in 0..1 that cut the buckets: below `cheap`, above `hard`."""

    cheap: float = 0.3
    hard: float = 0.7


@dataclass(frozen=True, slots=True)
class Platt:
    """P = 1 / (1 + exp(−(slope · log-odds + intercept))), fitted on held-out rows of one model pool."""

    slope: float
    intercept: float

    def __call__(self, log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrated probabilities of raw log-odds, element by element."""
        return _logistic(self.slope * log_odds + self.intercept)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """One row for each conversation, all (n,) float64 but `ok`.

    `raw`: the trees' own probability. `p_cheap_ok`: calibrated probability that a cheap model answers well.
    `difficulty` = 1 − p_cheap_ok. `percentile`: share of the reference traffic that is easier, 0..1.
    `ok`: False where the trees gave NaN or infinity; the other numbers of that row are NaN.
    """

    raw: NDArray[np.float64]
    p_cheap_ok: NDArray[np.float64]
    difficulty: NDArray[np.float64]
    percentile: NDArray[np.float64]
    ok: NDArray[np.bool_]


class Classifier:
    """One ONNX session with its calibration and the difficulties of the reference traffic."""

    def __init__(self, onnx_bytes: bytes, platt: Platt, reference: NDArray[np.float64]) -> None:
        """`onnx_bytes` were checked by the bundle; `reference`: ascending difficulties at evenly spaced percentiles.

        Raises ClassifierError for a model that ONNX Runtime refuses all the same.
        """
        try:
            self._session = _session(onnx_bytes)
        except _FAILURES as error:
            raise ClassifierError(f"ONNX Runtime refuses it ({str(error).strip()})") from error
        self._input: str = self._session.get_inputs()[0].name
        self._platt = platt
        self._reference = reference
        self._levels = np.linspace(0.0, 1.0, len(reference))

    def log_odds(self, numeric: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) for (n, features): the text score in the last column and what the trees, which correct it, add up to."""
        runs = [numeric[start : start + _ROWS_A_RUN] for start in range(0, max(1, len(numeric)), _ROWS_A_RUN)]
        outputs = [self._session.run(None, {self._input: rows})[0] for rows in runs]
        return np.asarray(numeric[:, -1] + np.concatenate(outputs, dtype=np.float64, axis=None), np.float64)

    def predict(self, numeric: NDArray[np.float32]) -> Verdicts:
        """Verdicts of (n, features) float32; a row without a finite result is marked. Never raises for a model's sake."""
        try:
            log_odds = self.log_odds(numeric)
        except _FAILURES as error:
            _log.error("the classifier failed on %d rows: %s", len(numeric), error, extra={"action": "predict_failed"})
            log_odds = np.full(len(numeric), np.nan)
        ok = np.isfinite(log_odds)
        log_odds[~ok] = 0.0
        raw, p_cheap_ok = _logistic(log_odds), self._platt(log_odds)
        difficulty = 1.0 - p_cheap_ok
        percentile = self.percentile(difficulty)
        if not ok.all():
            for column in (raw, p_cheap_ok, difficulty, percentile):
                column[~ok] = np.nan
        return Verdicts(raw, p_cheap_ok, difficulty, percentile, ok)

    def percentile(self, difficulty: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) share of the reference traffic that is easier than each difficulty."""
        return np.interp(difficulty, self._reference, self._levels)


def bucket_of(percentile: float, thresholds: Thresholds) -> Bucket:
    """The bucket of a difficulty percentile; `mid` for NaN (the classifier failed)."""
    if percentile < thresholds.cheap:
        return "cheap"
    return "hard" if percentile > thresholds.hard else "mid"


def bucket_probabilities(percentile: float, thresholds: Thresholds) -> Mapping[Bucket, float]:
    """Softmax of ((t_cheap − d)/τ, 0, (d − t_hard)/τ) with d the percentile: its argmax is always `bucket_of`.

    Uniform thirds for NaN. The three sum to 1.
    """
    if math.isnan(percentile):
        return dict.fromkeys(BUCKETS, 1 / 3)
    cheap = math.exp((thresholds.cheap - percentile) / BUCKET_TEMPERATURE)
    hard = math.exp((percentile - thresholds.hard) / BUCKET_TEMPERATURE)
    total = cheap + 1.0 + hard
    return {"cheap": cheap / total, "mid": 1.0 / total, "hard": hard / total}


def _logistic(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    bounded = np.minimum(np.maximum(log_odds, -_LOG_ODDS_LIMIT), _LOG_ODDS_LIMIT)
    return np.asarray(1.0 / (1.0 + np.exp(-bounded)))


def _session(onnx_bytes: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT  # what it would print comes as an exception
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(onnx_bytes, options, providers=["CPUExecutionProvider"])
