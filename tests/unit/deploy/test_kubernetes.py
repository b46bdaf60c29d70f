"""The manifest cannot be applied in a test, so that everything it names is looked up instead."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from heimdall_fleet.cli.main import cli
from heimdall_fleet.config import load

NAMED_LIKE_A_SECTION = "HEIMDALL__"


@pytest.fixture(scope="module")
def job(root: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((root / "deploy/kubernetes/learn.yaml").read_text())
    return document


@pytest.fixture(scope="module")
def pod(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return found


@pytest.fixture(scope="module")
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod["containers"]
    assert isinstance(found, dict)
    return found


def test_one_turn_at_a_time_and_none_is_started_over(job: dict[str, Any], pod: dict[str, Any]) -> None:
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "CronJob")
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    assert pod["restartPolicy"] == "Never"


def test_its_command_is_one_that_the_image_understands(container: dict[str, Any]) -> None:
    name = container["args"][0]
    whole = cli.make_context("heimdall", list(container["args"]))
    assert whole.params["output"] == "json"
    command = cli.get_command(whole, name)
    assert command
    parsed = command.make_context(name, whole.args)
    assert parsed.params["once"] is True
    assert not parsed.params["dry_run"]
    assert any(parsed.params["out"].is_relative_to(mount["mountPath"]) for mount in container["volumeMounts"])


def test_its_variables_are_settings_with_values_that_a_configuration_takes(
    container: dict[str, Any], root: Path
) -> None:
    given = {each["name"]: each["value"] for each in container["env"]}
    reference = (root / "docs/configuration.md").read_text()
    for name in given:
        assert name.startswith(NAMED_LIKE_A_SECTION)
        assert f"| `{name.rsplit('__', 1)[-1].lower()}` |" in reference, name
    config = load(root / "deploy/config/heimdall.yaml", {"OPENAI_API_KEY": "sk-test", **given}).config
    assert config.kafka.bootstrap_servers == given["HEIMDALL__KAFKA__BOOTSTRAP_SERVERS"]
    store = config.learning.bundle_store
    assert store
    assert store == given["HEIMDALL__LEARNING__BUNDLE_STORE"]
    assert store.removeprefix("file://") in [mount["mountPath"] for mount in container["volumeMounts"]]


def test_every_mount_has_its_volume_and_the_configuration_lies_where_the_image_looks(
    pod: dict[str, Any], container: dict[str, Any], root: Path
) -> None:
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    assert f"HEIMDALL_CONFIG={mounts['config']}/heimdall.yaml" in (root / "deploy/Dockerfile").read_text()


def test_it_runs_as_the_images_user_without_rights(pod: dict[str, Any], container: dict[str, Any], root: Path) -> None:
    rights = pod["securityContext"]
    assert f"USER {rights['runAsUser']}:{rights['runAsGroup']}" in (root / "deploy/Dockerfile").read_text()
    assert rights["runAsNonRoot"]
    assert rights["fsGroup"] == rights["runAsGroup"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert not container["securityContext"]["allowPrivilegeEscalation"]


def test_its_image_is_the_stage_with_everything_that_training_needs(container: dict[str, Any], root: Path) -> None:
    dockerfile = (root / "deploy/Dockerfile").read_text()
    stage = re.findall(r"docker build \S+ \S+ --target (\w+) -t (\S+)", dockerfile)
    assert stage == [("learn", container["image"].split(":")[0])]
    (learn,) = re.findall(r"^FROM base AS learn\n(.*?)^FROM", dockerfile, re.MULTILINE | re.DOTALL)
    assert "COPY --from=learn-builder /opt/venv /opt/venv" in learn
    assert "libgomp1" in learn
    (builder,) = re.findall(r"^FROM builder AS learn-builder\n(.*?)^FROM", dockerfile, re.MULTILINE | re.DOTALL)
    assert "-r deploy/requirements-learn.lock" in builder
