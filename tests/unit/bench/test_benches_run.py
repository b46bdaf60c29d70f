"""The benchmarks run, and print the fields that the interface names. What they measure here means nothing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

pytestmark = pytest.mark.slow

BENCH = Path(__file__).resolve().parents[3] / "bench"

TRIAGE = [
    f"{name}_{size}"
    for size in ("600", "4k", "20k")
    for name in ("us", "us_naive", "us_cached", "ratio_naive", "ratio_cached")
]
RESIDENCE = [f"{name}_{share}_ms" for name in ("residence", "claimed_residence") for share in ("p50", "p99")]
DISPATCH = ["us_request", "us_bare_aiohttp", "ratio_bare_aiohttp", "ratio_200_to_10"]
FAILOVER = [f"{kind}_p{share}_ms" for kind in ("overloaded", "failing", "truncated") for share in (50, 99)]
"""Of a hung provider it may be a little below nothing: its log begins a call later than the caller's clock does."""
LEARNING = [f"apgr_{name}" for name in ("serving", "naive", "learned", "full", "learned_text", "full_text")]
COVERED = ["cover_dr_difference", "cover_snips_champion", "seen_swapped_prices", "train_rows", "train_s"]
CHALLENGER = ["us_alone", "us_challenged", "ratio_challenger"]
HUGE_PAGES = ["us_request", "us_request_small_pages", "ratio_small_pages", "rss_mib", "rss_mib_small_pages"]
MEMORY = ["rss_mib", "rss_mib_at_rest"]


@pytest.mark.timeout(150)  # seconds on a quiet machine, but each run starts four to six processes
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("triage", [*TRIAGE, *RESIDENCE, *MEMORY, "per_s_core_600"]),
        ("dispatch", [*DISPATCH, *MEMORY]),
        ("failover", FAILOVER),
        ("learning", [*LEARNING, *COVERED, "of_full"]),
        ("challenger", CHALLENGER),
        ("huge_pages", HUGE_PAGES),
    ],
)
def test_a_quick_run_prints_every_documented_field_as_a_positive_number(name: str, fields: list[str]) -> None:
    command = [sys.executable, str(BENCH / f"{name}.py"), "--quick", "-o", "json"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=140, env=dict(os.environ))
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    figures = orjson.loads(done.stdout)
    assert {field: figures.get(field) for field in fields if not figures.get(field, 0) > 0} == {}


def test_without_the_peer_the_comparison_says_how_to_get_it() -> None:
    nobody = shutil.which("false")
    assert nobody is not None
    command = [sys.executable, str(BENCH / "peers.py"), "--python", nobody]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60, env=dict(os.environ))
    assert done.returncode == 2
    assert "pip install '.[bench]'" in done.stderr.decode()
