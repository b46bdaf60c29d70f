import json
from functools import partial
from pathlib import Path

import pytest

from heimdall_fleet.cli.globals import Globals
from heimdall_fleet.cli.workers import Role, take_up, with_log
from heimdall_fleet.config import load
from heimdall_fleet.config.watch import Watcher
from heimdall_fleet.observe.health import Health
from heimdall_fleet.observe.metrics import Metrics

pytestmark = pytest.mark.usefixtures("logging_is_put_back")


class Idle:
    """A worker that does nothing."""

    async def run(self) -> None: ...

    def stop(self) -> None: ...

    def check_into(self, health: Health) -> None: ...


def test_a_worker_tells_the_warnings_of_its_configuration_in_its_log_and_nowhere_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, file = tmp_path / "heimdall.yaml", tmp_path / "worker.log"
    config.write_text(
        "version: 1\n"
        "providers: {openai: {type: openai, keys: [{name: k, value: a-key}]}}\n"
        f"observe: {{log: {{output: file, file: {{path: {file}}}}}}}\n"
    )
    with_log(Globals(config), {})
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert {line["action"] for line in lines} == {"config_issue"}
    assert any("no configured provider serves" in line["message"] for line in lines)
    assert capsys.readouterr() == ("", "")


def test_a_hangup_under_the_same_configuration_makes_a_triage_worker_look_for_another_bundle(tmp_path: Path) -> None:
    (tmp_path / "heimdall.yaml").write_text("version: 1\nrouter: {alpha: 0.5}\n")
    heard: list[str] = []
    role: Role[Idle] = Role(
        "triage", lambda *_: Idle(), lambda *_: heard.append("configured"), lambda _: heard.append("looked")
    )
    read = partial(load, tmp_path / "heimdall.yaml", {})
    watcher = Watcher(read(), read, partial(take_up, role, Idle(), Metrics("triage", "1")))
    watcher.reload()
    assert heard == ["looked"]
    (tmp_path / "heimdall.yaml").write_text("version: 1\nrouter: {alpha: 0.6}\n")
    watcher.reload()
    assert heard == ["looked", "configured"]
    (tmp_path / "heimdall.yaml").write_text("version: 7\n")
    watcher.reload()
    assert heard == ["looked", "configured"]
