import json
from pathlib import Path

import pytest

from heimdall_fleet.cli.globals import Globals
from heimdall_fleet.cli.workers import with_log

pytestmark = pytest.mark.usefixtures("logging_is_put_back")


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
