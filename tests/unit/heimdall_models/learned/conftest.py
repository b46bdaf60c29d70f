"""One small bundle, trained once for all tests here."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from heimdall_models.training.fit import own_settings
from heimdall_models.training.tables import OutcomeTable, table_of
from heimdall_models.training.train import Recipe, train_bundle

SUBJECTS = ("bread", "river", "window", "garden", "engine", "letter", "market", "bridge")
CREATED = datetime(2026, 1, 2, tzinfo=UTC)


def make_table(rows: int = 240, seed: int = 0) -> OutcomeTable:
    """Prompts whose difficulty shows in one word: a small model fails where the prompt says `paradox`."""
    rng = np.random.default_rng(seed)
    hard = rng.random(rows) < 0.5
    prompts = [
        f"Question {i}: what is the {'paradox' if hard[i] else 'colour'} of the {rng.choice(SUBJECTS)} "
        f"{' '.join(rng.choice(SUBJECTS, 12))}?"
        for i in range(rows)
    ]
    small = np.where(rng.random(rows) < 0.9, ~hard, hard).astype(float)
    columns: dict[str, list[Any]] = {
        "pid": [str(i) for i in range(rows)],
        "prompt": prompts,
        "bench": ["one" if i % 2 else "two" for i in range(rows)],
        "domain": ["math" if h else "chat" for h in hard],
        "s::small": small.tolist(),
        "s::large": [1.0] * rows,
    }
    return table_of("made", columns)


def recipe(**changes: Any) -> Recipe:
    fields: dict[str, Any] = {"created": CREATED, "settings": own_settings(240), "target": "gain"}
    return Recipe(**{**fields, **changes})


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundle")
    train_bundle([make_table()], out, recipe())
    return out


@pytest.fixture(scope="session")
def made_table() -> Callable[..., OutcomeTable]:
    return make_table


@pytest.fixture(scope="session")
def made_recipe() -> Callable[..., Recipe]:
    return recipe


@pytest.fixture
def write_parquet() -> Callable[[Path, dict[str, list[Any]]], None]:
    def write(path: Path, columns: dict[str, list[Any]]) -> None:
        pq.write_table(pa.table(columns), path)

    return write
