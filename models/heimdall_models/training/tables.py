"""Outcome tables: what several models scored on the same prompts, from Parquet or JSON lines.

Columns: `pid`, `prompt` (or `messages`), optional `bench`, `domain`; `s::<model>` score 0..1; optional `c::<model>` USD and
`o::<model>` output characters; optional `contaminated` marks rows to leave out. The only module here with pyarrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from heimdall_models.conversation import Conversation, read_conversation

SCORE, COST, OUTPUT = "s::", "c::", "o::"


class TableError(ValueError):
    """An outcome table cannot be used: says which file, which column and what is expected there."""


@dataclass(frozen=True, slots=True)
class OutcomeTable:
    """`n` prompts with the scores of `m` models.

    `scores`: (n, m) float64 0..1, NaN where a model was not asked. `costs_usd`: same shape, NaN where unknown.
    """

    name: str
    pids: tuple[str, ...]
    benches: tuple[str, ...]
    domains: tuple[str, ...]
    conversations: tuple[Conversation, ...]
    models: tuple[str, ...]
    scores: NDArray[np.float64]
    costs_usd: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.pids)

    def rows(self, keep: NDArray[np.integer[Any]]) -> OutcomeTable:
        """The table with only these rows, in this order."""
        return replace(
            self,
            pids=tuple(self.pids[i] for i in keep),
            benches=tuple(self.benches[i] for i in keep),
            domains=tuple(self.domains[i] for i in keep),
            conversations=tuple(self.conversations[i] for i in keep),
            scores=self.scores[keep],
            costs_usd=self.costs_usd[keep],
        )

    def score_of(self, models: Sequence[str]) -> NDArray[np.float64]:
        """(n,) mean score of these models, NaN where none was asked. Raises TableError for a model the table does not have."""
        return self._mean_of(self.scores, models)

    def cost_of(self, models: Sequence[str]) -> NDArray[np.float64]:
        """(n,) mean cost of these models in USD, NaN where none is known. Raises TableError for an unknown model."""
        return self._mean_of(self.costs_usd, models)

    def _mean_of(self, values: NDArray[np.float64], models: Sequence[str]) -> NDArray[np.float64]:
        unknown = [model for model in models if model not in self.models]
        if unknown:
            raise TableError(f"{self.name}: no scores of {unknown}; it has {', '.join(self.models)}")
        chosen = values[:, [self.models.index(model) for model in models]]
        known = np.isfinite(chosen)
        total = np.where(known, chosen, 0.0).sum(axis=1)
        count = known.sum(axis=1)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


@dataclass(frozen=True, slots=True)
class Pools:
    """Which models of a table count as cheap and which as strong."""

    cheap: tuple[str, ...]
    strong: tuple[str, ...]


def default_pools(table: OutcomeTable) -> Pools:
    """The weaker half of the models by mean score, and the better half; of three the middle one is cheap."""
    order = np.argsort(np.nanmean(table.scores, axis=0), kind="stable")
    ranked = [table.models[i] for i in order]
    half = (len(ranked) + 1) // 2
    return Pools(tuple(ranked[:half]), tuple(ranked[half:]) or tuple(ranked[-1:]))


def read_tables(paths: Sequence[Path]) -> list[OutcomeTable]:
    """Every table under `paths` (files, or directories of .parquet and .jsonl files), in order of their names."""
    files: list[Path] = []
    for path in paths:
        files += sorted(p for p in path.iterdir() if p.suffix in _READERS) if path.is_dir() else [path]
    if not files:
        raise TableError(f"no .parquet or .jsonl file under {', '.join(map(str, paths))}")
    return [read_table(path) for path in files]


def read_table(path: Path) -> OutcomeTable:
    """One outcome table. Raises TableError when the file cannot be read or lacks a column."""
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise TableError(f"{path}: outcome tables are .parquet or .jsonl files")
    try:
        columns = reader(path)
    except (OSError, pa.ArrowException) as error:
        raise TableError(f"{path}: cannot be read as an outcome table ({error})") from error
    return table_of(path.stem, columns)


def table_of(name: str, columns: Mapping[str, Sequence[Any]]) -> OutcomeTable:
    """An outcome table from its columns, contaminated rows left out. Raises TableError."""
    named = tuple(column[len(SCORE) :] for column in columns if column.startswith(SCORE))
    if not named:
        raise TableError(f"{name}: no column of scores; name them {SCORE}<model>")
    conversations = _conversations(name, columns)
    rows = len(conversations)
    scores = _scores(name, columns, named, rows)
    keep = np.flatnonzero(~_contaminated(name, columns, rows) & np.isfinite(scores).any(axis=1))
    if not len(keep):
        raise TableError(f"{name}: no row is left: each is marked `contaminated`, or no model has a score in it")
    asked = np.flatnonzero(np.isfinite(scores[keep]).any(axis=0))
    models = tuple(named[i] for i in asked)
    return OutcomeTable(
        name=name,
        pids=_texts(columns, "pid", [f"{name}:{i}" for i in range(rows)]),
        benches=_texts(columns, "bench", [name] * rows),
        domains=_texts(columns, "domain", [""] * rows),
        conversations=conversations,
        models=models,
        scores=scores[:, asked],
        costs_usd=_numbers(name, columns, COST, models, rows),
    ).rows(keep)


def _conversations(name: str, columns: Mapping[str, Sequence[Any]]) -> tuple[Conversation, ...]:
    if columns.keys().isdisjoint(("prompt", "messages")):
        raise TableError(f"{name}: neither a column `prompt` nor `messages`")
    missing = [None] * len(next(iter(columns.values())))
    asked = zip(columns.get("messages", missing), columns.get("prompt", missing), strict=True)
    return tuple(_conversation(f"{name}: row {number}", *each) for number, each in enumerate(asked, 1))


def _conversation(where: str, messages: Any, prompt: Any) -> Conversation:
    """Of `messages`, else of `prompt`. Raises TableError: a row without either would be learned from as an empty prompt."""
    if messages is None and isinstance(prompt, str):
        messages = [{"role": "user", "content": prompt}]
    if not isinstance(messages, list) or not any(map(_has_content, messages)):
        raise TableError(
            f"{where} has neither a text as `prompt` nor, as `messages`, a list of objects with `content`; "
            "fill one of them in, or leave the row out"
        )
    return read_conversation({"messages": messages})


def _has_content(message: Any) -> bool:
    return isinstance(message, dict) and message.get("content") is not None


def _contaminated(name: str, columns: Mapping[str, Sequence[Any]], rows: int) -> NDArray[np.bool_]:
    marks = columns.get("contaminated", [None] * rows)
    for number, mark in enumerate(marks, 1):
        if mark not in (True, False, None):
            raise TableError(f"{name}: row {number}: `contaminated` is {mark!r}, neither true nor false")
    return np.array(marks, np.bool_)


def _texts(columns: Mapping[str, Sequence[Any]], name: str, default: list[str]) -> tuple[str, ...]:
    """The column's values, with the default where it has none."""
    values = columns.get(name, default)
    return tuple(str(other if value is None else value) for value, other in zip(values, default, strict=True))


def _scores(name: str, columns: Mapping[str, Sequence[Any]], models: Sequence[str], rows: int) -> NDArray[np.float64]:
    scores = _numbers(name, columns, SCORE, models, rows)
    outside = np.argwhere((scores < 0) | (scores > 1))
    if len(outside):
        row, column = outside[0]
        raise TableError(
            f"{name}: row {row + 1}: `{SCORE}{models[column]}` is {scores[row, column]:g}; scores must lie in 0..1, "
            "so divide them by what a full score is"
        )
    return scores


def _numbers(
    name: str, columns: Mapping[str, Sequence[Any]], prefix: str, models: Sequence[str], rows: int
) -> NDArray[np.float64]:
    missing = [None] * rows
    listed = [_column(name, prefix + model, columns.get(prefix + model, missing)) for model in models]
    return np.stack(listed, axis=1)


def _column(name: str, column: str, values: Sequence[Any]) -> NDArray[np.float64]:
    try:
        return np.array(values, np.float64)
    except (TypeError, ValueError) as error:
        raise TableError(f"{name}: `{column}` holds something else than numbers ({error})") from error


def _read_parquet(path: Path) -> Mapping[str, Sequence[Any]]:
    table = pq.read_table(path)
    return {name: table[name].to_pylist() for name in table.column_names if not name.startswith(OUTPUT)}


def _read_jsonl(path: Path) -> Mapping[str, Sequence[Any]]:
    with path.open("rb") as file:
        rows = [_object(path, number, line) for number, line in enumerate(file, 1) if line.strip()]
    names = dict.fromkeys(name for row in rows for name in row if not name.startswith(OUTPUT))
    return {name: [row.get(name) for row in rows] for name in names}


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise TableError(f"{path}: line {number} is not JSON ({error.msg})") from error
    if not isinstance(row, dict):
        raise TableError(f"{path}: line {number} is no JSON object; an outcome table has one a line")
    return row


_READERS = {".parquet": _read_parquet, ".jsonl": _read_jsonl}
