from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from heimdall_fleet.cli.config import group
from heimdall_fleet.cli.globals import Globals

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    clean = {"HEIMDALL_CONFIG": "", "ENVIRONMENT": "", "ENV": "", "OPENAI_API_KEY": "sk-test-0123456789"}

    def invoke(*arguments: str, **env: str) -> Result:
        return CliRunner().invoke(group, arguments, obj=Globals(), env={**clean, **env})

    return invoke


def test_lint_points_at_the_mistake_and_exits_with_2(run: Run) -> None:
    Path("heimdall.yaml").write_text("router:\n  alhpa: 0.7\n")
    for name in ("lint", "check"):
        result = run(name)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert "heimdall.yaml:2:3: error: router.alhpa" in result.stderr
        assert "^~~~~" in result.stderr
        assert "did you mean alpha?" in result.stderr


def test_lint_of_a_good_file_is_quiet_on_stdout(run: Run) -> None:
    Path("good.yaml").write_text("version: 1\n")
    result = run("lint", "good.yaml")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no errors" in result.stderr


def test_lint_prints_one_json_object(run: Run) -> None:
    Path("bad.yaml").write_text("router: {alpha: 2}\n")
    result = run("lint", "bad.yaml", "-o", "json")
    printed = orjson.loads(result.stdout)
    assert result.exit_code == 2
    assert (printed["valid"], printed["issues"][0]["key"], printed["issues"][0]["line"]) == (False, "router.alpha", 1)
    assert orjson.loads(run("lint", "-o", "json").stdout)["valid"] is True


def test_show_masks_credentials_and_tells_the_origin(run: Run) -> None:
    result = run("show", "--origin", HEIMDALL_ALPHA="0.4")
    assert result.exit_code == 0
    assert "router.alpha = 0.4  # environment HEIMDALL_ALPHA" in result.stdout
    assert "sk-test" not in result.output
    printed = orjson.loads(run("show", "-o", "json").stdout)
    assert printed["config"]["providers"]["openai"]["keys"][0]["value"] == "**********"


def test_show_of_a_bad_configuration_exits_with_2(run: Run) -> None:
    result = run("show", HEIMDALL_ALPHA="abc")
    assert result.exit_code == 2
    assert "environment HEIMDALL_ALPHA: error: router.alpha: 'abc' is not a number" in result.stderr


def test_init_writes_a_file_that_passes_lint_and_never_overwrites(run: Run) -> None:
    assert run("init").exit_code == 0
    assert run("init", "--environment", "production").exit_code == 0
    assert run("lint", ENVIRONMENT="production").exit_code == 0
    Path("heimdall.yaml").write_text("mine: 1\n")
    assert run("init").exit_code == 2
    assert Path("heimdall.yaml").read_text() == "mine: 1\n"


def test_schema_prints_one_json_object(run: Run) -> None:
    assert orjson.loads(run("schema").stdout)["title"] == "heimdall.yaml"


def test_every_command_has_an_example(run: Run) -> None:
    for command in group.commands:
        assert "Example:" in run(command, "--help").stdout
