from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from heimdall_models.training.build import Plan, build

WORDS = ("river", "garden", "window", "letter", "engine", "market", "winter", "bridge", "candle", "forest")
HARD_WORDS = ("theorem", "eigenvalue", "integral", "lemma", "topology")


def write_table(path: Path, rows: int, bench: str, seed: int) -> Path:
    """Prompts whose length and hard words decide, with some noise, whether the small model answers well."""
    rng = np.random.default_rng(seed)
    lines = []
    for number in range(rows):
        hard = bool(rng.random() < 0.5)
        words = [WORDS[i] for i in rng.integers(len(WORDS), size=30 if hard else 8)]
        if hard:
            words.append(HARD_WORDS[int(rng.integers(len(HARD_WORDS)))])
        lines.append(
            {
                "pid": f"{bench}:{number}",
                "bench": bench,
                "domain": "math" if hard else "chat",
                "prompt": f"{bench} {number} " + " ".join(words),
                "s::small": float(rng.random() < (0.25 if hard else 0.9)),
                "s::large": float(rng.random() < 0.92),
                "c::small": 0.001,
                "c::large": 0.03,
            }
        )
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return path


@pytest.fixture(scope="session")
def plan() -> Plan:
    sources = ({"table": "one", "repository": "someone/exam", "licence": "MIT", "what": "exam questions"},)
    return Plan(created=datetime(2026, 11, 1, tzinfo=UTC), sources=sources)


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("tables")
    return [write_table(folder / "one.jsonl", 240, "one", 1), write_table(folder / "two.jsonl", 120, "two", 2)]


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("fresh") / "fresh.jsonl", 150, "fresh", 3)


@pytest.fixture(scope="session")
def quick(tables: list[Path], plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mapping[str, Any]]:
    out = tmp_path_factory.mktemp("quick") / "mine"
    return out, build(tables, out, replace(plan, quick=True))


@pytest.fixture(scope="session")
def bundle(tables: list[Path], plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mapping[str, Any]]:
    out = tmp_path_factory.mktemp("bundle") / "mine"
    return out, build(tables, out, plan)
