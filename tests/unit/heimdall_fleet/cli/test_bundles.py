"""`heimdall bundles` and `heimdall decide` say of a bundle what a worker would say of it."""

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from tests.bundles import dated, give_nan

from heimdall_fleet.cli.main import run
from heimdall_models.bundle import MANIFEST, QUALITY

Spoil = Callable[[Path], None]


def without_its_quality_table(bundle: Path) -> None:
    manifest = orjson.loads((bundle / MANIFEST).read_bytes())
    del manifest["files"][QUALITY]
    (bundle / MANIFEST).write_bytes(orjson.dumps(manifest))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [(without_its_quality_table, b"no quality.json"), (give_nan, b"gives NaN or infinity")],
)
def test_a_bundle_that_no_worker_takes_is_refused_by_every_command_that_looks_at_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], spoil: Spoil, why: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    bad = dated(tmp_path / "all" / "bad", 2)
    spoil(bad)
    dated(tmp_path / "all" / "good", 3)
    Path("requests.jsonl").write_bytes(b'{"messages": [{"role": "user", "content": "hi"}]}\n')
    assert run(["bundles", "show", str(bad)]) == 1
    assert why in capfdbinary.readouterr().err
    assert run(["decide", "--bundle", str(bad), "requests.jsonl"]) == 2
    shown = capfdbinary.readouterr()
    assert why in shown.err
    assert not shown.out
    assert run(["bundles", "list", "all", "-o", "json"]) == 0
    first, second = map(orjson.loads, capfdbinary.readouterr().out.splitlines())
    assert why.decode() in first["refused"]
    assert second["refused"] is None
