"""What may stand in the repository, and what each install needs."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata

from tests.house.tree import Tree, listed

from heimdall_schemas.generate import differences, files
from heimdall_schemas.topics import Topics

FORBIDDEN = {
    "a path of one machine": re.compile(r"(?<![\w./-])/(?:work|farm|root|Users)/\w"),
    "the address of a registry": re.compile(
        r"pythonhosted[.]org|pypi[.]org|repo1?[.]maven|registry[.]npmjs|--(?:extra-)?index-url|artifact[o]ry",
        re.IGNORECASE,
    ),
    "a private key": re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----"),
    "a provider's key": re.compile(
        r"\b(?:sk-(?:proj-|ant-)?[A-Za-z0-9]{24,}|AKIA[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{35})\b"
    ),
    "a token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|xox[abprs]-[A-Za-z0-9-]{12,}|hf_[A-Za-z0-9]{30,})\b"),
}
DISTRIBUTIONS = {
    "yaml": "pyyaml",
    "google": "google-auth",
    "sklearn": "scikit-learn",
    "pydantic_core": "pydantic",
    "annotated_types": "pydantic",
}
"""Import names that are not the distribution's name, and the halves that pydantic is made of."""

MADE_UP = ("EXAMPLE", "12345")
"""What a credential in a test has in it, to be known as none."""

OWN = {"heimdall_schemas", "heimdall_models", "heimdall_fleet"}
BARE = ("schemas/", "workers/heimdall_fleet/client/", "workers/heimdall_fleet/kafka/driver/")
S3 = "workers/heimdall_fleet/objects/s3.py"
TRAIN = ("models/heimdall_models/training/", "models/heimdall_models/learning/", "workers/heimdall_fleet/learn/")
TOO_HEAVY_FOR_A_CLIENT = {"numpy", "onnxruntime", "httpx", "aiohttp", "confluent_kafka", "prometheus_client", "yaml"}


def readable_files(tree: Tree) -> Iterator[tuple[str, str]]:
    """Text files and their text; data beyond a megabyte is left out."""
    for path in tree.files:
        raw = (tree.root / path).read_bytes()
        if len(raw) < 1_000_000 and b"\0" not in raw[:4096]:
            yield path, raw.decode("utf-8", errors="replace")


def test_nothing_private_stands_in_the_repository(tree: Tree) -> None:
    found = [
        f"{path}: {what}: {match.group()[:12]}…"
        for path, text in readable_files(tree)
        for what, pattern in FORBIDDEN.items()
        for match in pattern.finditer(text)
        if not any(mark in match.group() for mark in MADE_UP)
    ]
    assert not found, listed(
        found, "take it out, and out of the history; a made-up credential has EXAMPLE or 12345 in it"
    )


def test_the_generated_files_are_fresh(tree: Tree) -> None:
    found = differences(tree.root / "schemas", files(Topics()))
    assert not found, listed(found, "run python -m heimdall_schemas.generate")


def test_importing_the_client_needs_the_bare_install_only() -> None:
    script = "import sys, heimdall_fleet.client; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & TOO_HEAVY_FOR_A_CLIENT == set()


def test_each_install_brings_what_its_modules_import(tree: Tree) -> None:
    declared = requirements(tree)
    found = []
    for path, module in tree.shipped():
        brought = declared["bare"] if path.startswith(BARE) else declared["fleet"]
        brought = declared["train"] if path.startswith(TRAIN) else brought
        brought = declared["s3"] if path == S3 else brought
        missing = {DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in third_parties(module)} - brought
        found += [f"{path}: {name}" for name in sorted(missing)]
    assert not found, listed(
        found, "name it in pyproject.toml, in the dependencies or in the extra that these modules belong to"
    )


def requirements(tree: Tree) -> dict[str, set[str]]:
    """Distributions that each install brings; an extra that names another one brings that one too."""
    project = tomllib.loads(tree.text("pyproject.toml"))["project"]
    extras = {name: project["optional-dependencies"][name] for name in ("fleet", "s3", "train")}
    bare = set(map(distribution, project["dependencies"]))
    fleet = bare | set(map(distribution, extras["fleet"]))
    more = {name: fleet | set(map(distribution, extras[name])) for name in ("s3", "train")}
    return {"bare": bare, "fleet": fleet, **more}


def distribution(requirement: str) -> str:
    return re.split(r"[\[<>=~! ;]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def third_parties(module: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - OWN


def test_the_lock_names_every_declared_distribution(tree: Tree) -> None:
    locked = {distribution(line) for line in tree.text("requirements.lock").splitlines() if line and line[0].isalnum()}
    assert requirements(tree)["train"] - {"heimdall-fleet"} <= locked


def test_the_installed_distribution_is_the_one_of_this_tree(tree: Tree) -> None:
    project = tomllib.loads(tree.text("pyproject.toml"))["project"]
    assert metadata.version(project["name"]) == project["version"]
