"""The image cannot be built in a test: hadolint reads the Dockerfile, and what it copies and installs is looked up."""

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

PIN = re.compile(r"^([a-z0-9-]+)==([^ ;]+)", re.MULTILINE)
NAME = re.compile(r"^[A-Za-z0-9-]+")
BASE = re.compile(r"python:3\.\d+\.\d+-slim-[a-z]+")


@pytest.fixture(scope="module")
def dockerfile(root: Path) -> list[tuple[str, str]]:
    """Its instructions in order: (word, the rest), continuation lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (root / "deploy/Dockerfile").read_text(), flags=re.MULTILINE)
    lines = (line.strip() for line in text.replace("\\\n", " ").splitlines())
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines if line)]


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    document: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text())
    return document


def rests(dockerfile: list[tuple[str, str]], word: str) -> list[str]:
    return [rest for found, rest in dockerfile if found == word]


def test_hadolint_finds_nothing(root: Path) -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    found = subprocess.run([hadolint, root / "deploy/Dockerfile"], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def stages(dockerfile: list[tuple[str, str]]) -> dict[str, str]:
    """What each stage starts from, in order."""
    words = [rest.split() for rest in rests(dockerfile, "FROM")]
    return {name: base for base, _, name in words}


def test_every_stage_starts_from_the_same_pinned_python(dockerfile: list[tuple[str, str]]) -> None:
    found = stages(dockerfile)
    bases = {base for base in found.values() if base not in found}
    assert len(bases) == 1
    assert BASE.fullmatch(bases.pop())


def test_the_fleet_is_what_a_build_without_a_target_gives(dockerfile: list[tuple[str, str]]) -> None:
    assert list(stages(dockerfile))[-1] == "fleet"


def test_it_runs_as_a_user_without_rights_and_stops_on_sigterm(dockerfile: list[tuple[str, str]]) -> None:
    assert rests(dockerfile, "USER") == ["10001:10001", "10001:10001"]  # of both stages that are run
    assert rests(dockerfile, "STOPSIGNAL") == ["SIGTERM"]
    assert rests(dockerfile, "ENTRYPOINT") == ['["heimdall"]']
    assert rests(dockerfile, "ADD") == []


def test_its_health_check_has_the_agreed_numbers(dockerfile: list[tuple[str, str]]) -> None:
    (check,) = rests(dockerfile, "HEALTHCHECK")
    assert check.startswith("--interval=30s --timeout=5s --start-period=5s --retries=3 ")
    (port,) = rests(dockerfile, "EXPOSE")
    assert f"http://127.0.0.1:{port}/healthz" in check


def test_it_carries_the_version_of_the_project(
    dockerfile: list[tuple[str, str]], project: dict[str, Any], root: Path
) -> None:
    version = project["project"]["version"]
    assert rests(dockerfile, "ARG") == [f"VERSION={version}"]
    assert f"${{HEIMDALL_VERSION:-{version}}}" in (root / "compose.yaml").read_text()


def test_what_it_copies_exists_and_is_let_through_by_dockerignore(
    dockerfile: list[tuple[str, str]], root: Path
) -> None:
    kept = [line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert [path for path in kept if not (root / path).exists()] == []
    for rest in rests(dockerfile, "COPY"):
        if rest.startswith("--from="):
            continue
        for source in (Path(word) for word in rest.split()[:-1]):
            assert (root / source).exists(), source
            assert any(source == Path(path) or source in Path(path).parents for path in kept), source


def test_what_the_configuration_expects_in_the_image_is_there(dockerfile: list[tuple[str, str]], root: Path) -> None:
    text = (root / "deploy/config/heimdall.yaml").read_text()
    (bundle,) = re.findall(r"artifact_url: file:///opt/heimdall/(\S+)", text)
    assert "models/bundles/ /opt/heimdall/models/bundles/" in rests(dockerfile, "COPY")
    assert (root / bundle).is_dir()


def test_an_installed_wheel_finds_the_catalogue_that_it_needs(root: Path, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=root, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "site-packages"
    zipfile.ZipFile(wheel).extractall(installed)
    look = "from heimdall_models.shipped import shipped; p = shipped('catalogue/models.json'); print(p, p.is_file())"
    env = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", look], env=env, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(str(installed)), done.stdout
    assert done.stdout.endswith("True\n"), f"not in the wheel: {done.stdout}"


def test_it_installs_what_was_tested(root: Path) -> None:
    tested = dict(PIN.findall((root / "requirements.lock").read_text()))
    for lock in ("requirements-fleet.lock", "requirements-learn.lock", "requirements-build.lock"):
        installed = dict(PIN.findall((root / "deploy" / lock).read_text()))
        assert {name: version for name, version in installed.items() if tested.get(name) != version} == {}, lock


@pytest.mark.parametrize(
    "lock", ["requirements.lock", "deploy/requirements-fleet.lock", "deploy/requirements-learn.lock"]
)
def test_every_python_gets_the_same_versions(root: Path, lock: str) -> None:
    """Else what is tested with one Python is not what another one, such as the image's, installs."""
    pins = PIN.findall((root / lock).read_text())
    assert sorted(pins) == sorted(dict(pins).items())


def test_it_installs_everything_that_a_worker_needs(root: Path, project: dict[str, Any]) -> None:
    installed = dict(PIN.findall((root / "deploy/requirements-fleet.lock").read_text()))
    wanted = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["fleet"]]
    assert {name_of(requirement) for requirement in wanted} <= installed.keys()
    built = dict(PIN.findall((root / "deploy/requirements-build.lock").read_text()))
    assert {name_of(requirement) for requirement in project["build-system"]["requires"]} <= built.keys()


def test_the_learning_stage_installs_everything_that_training_needs(root: Path, project: dict[str, Any]) -> None:
    fleet, learn = (
        dict(PIN.findall((root / f"deploy/requirements-{name}.lock").read_text())) for name in ("fleet", "learn")
    )
    wanted = {name_of(requirement) for requirement in project["project"]["optional-dependencies"]["train"]}
    assert wanted - {"heimdall-fleet"} <= learn.keys()
    assert fleet.items() <= learn.items()


def name_of(requirement: str) -> str:
    match = NAME.match(requirement)
    assert match, requirement
    return match[0].lower()
