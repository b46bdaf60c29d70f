"""compose.yaml cannot be started in a test, so that everything it names is looked up instead."""

import json
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest

from heimdall_fleet.cli.main import cli
from heimdall_fleet.config import load
from heimdall_fleet.config.merge import VARIABLES
from heimdall_fleet.config.model import Config
from heimdall_fleet.config.provider_types import FACTS
from heimdall_fleet.config.units import parse_duration

Service = dict[str, Any]
Services = dict[str, Service]

PINNED = re.compile(r"[a-z0-9./-]+:v?\d+\.\d+\.\d+(-[a-z0-9.]+)?")
REFERENCE = re.compile(r"(?<!\$)\$\{([A-Z_]+)(:[-?][^}]*)?\}")
PORT = re.compile(r"127\.0\.0\.1:\$\{[A-Z_]+:-\d+\}:\d+")


@pytest.fixture(scope="module")
def config(root: Path) -> Config:
    return load(root / "deploy/config/heimdall.yaml", {"OPENAI_API_KEY": "sk-test"}).config


def test_it_follows_the_schema_of_the_compose_specification(compose: dict[str, Any]) -> None:
    schema = json.loads(files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(compose)
    assert "version" not in compose  # obsolete; Compose warns about it


def test_it_has_every_part(services: Services) -> None:
    parts = {"kafka", "topics", "redis", "triage", "dispatch", "prometheus", "grafana"}
    assert {name for name, service in services.items() if not service.get("profiles")} == parts


def test_every_foreign_image_is_pinned_to_a_patch_version(services: Services, fleet: Services) -> None:
    for name in services.keys() - fleet.keys():
        assert PINNED.fullmatch(services[name]["image"]), name


def test_every_part_has_a_health_check_or_ends(services: Services) -> None:
    for name, service in services.items():
        if service["restart"] == "no":
            assert service["healthcheck"] == {"disable": True}, name
        else:
            assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name
            assert service["restart"] == "unless-stopped", name


def test_every_part_waits_for_one_that_exists_and_can_fulfil_the_condition(services: Services) -> None:
    for service in services.values():
        for other, link in service.get("depends_on", {}).items():
            ends = services[other]["restart"] == "no"
            assert link["condition"] == ("service_completed_successfully" if ends else "service_healthy"), other


def test_every_command_is_one_of_heimdall(fleet: Services) -> None:
    for service in fleet.values():
        if "entrypoint" not in service:
            assert resolve(service["command"]) is not None


def test_the_scripted_providers_are_started_as_their_module_takes_it(fleet: Services, root: Path) -> None:
    service = fleet["providers"]
    assert service["profiles"] == ["demo"]
    python, dash_m, module = service["entrypoint"]
    assert (python, dash_m) == ("python", "-m")
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    options = [word for word in service["command"] if word.startswith("--")]
    assert [option for option in options if option not in done.stdout] == []
    assert (root / "deploy/config" / Path(service["command"][-1]).name).exists()


def test_the_demo_configuration_sends_every_candidate_to_the_scripted_providers(fleet: Services, root: Path) -> None:
    settings = dict(
        line.split("=") for line in (root / "deploy/demo.env").read_text().splitlines() if not line.startswith("#")
    )
    mounted = root / "deploy/config" / Path(settings["HEIMDALL_CONFIG"]).name
    loaded = load(mounted, {"ENVIRONMENT": settings["ENVIRONMENT"]})
    assert loaded.warnings == ()
    port = fleet["providers"]["command"][fleet["providers"]["command"].index("--port") + 1]
    for name, provider in loaded.config.providers.items():
        assert provider.base_url == f"http://providers:{port}/{name}/v1"


def resolve(words: list[str]) -> click.Command:
    """The command behind `heimdall WORDS`; options end the walk."""
    command: click.Command = cli
    for word in words:
        if word.startswith("-"):
            break
        assert isinstance(command, click.Group), words
        found = command.get_command(click.Context(command), word)
        assert found is not None, f"heimdall has no command {' '.join(words)}"
        command = found
    return command


def test_every_mounted_path_exists(services: Services, root: Path) -> None:
    for service in services.values():
        for source in (volume.split(":")[0] for volume in service.get("volumes", [])):
            assert not source.startswith(".") or (root / source).exists(), source


def test_every_volume_and_network_is_declared_and_used(compose: dict[str, Any], services: Services) -> None:
    mounted = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])}
    assert {name for name in mounted if not name.startswith(".")} == compose["volumes"].keys()
    joined = {network for service in services.values() for network in service["networks"]}
    assert joined == compose["networks"].keys()


def test_ports_are_published_on_this_machine_only_and_never_of_a_replica(services: Services, fleet: Services) -> None:
    for name, service in services.items():
        assert all(PORT.fullmatch(port) for port in service.get("ports", [])), name
    assert not any("ports" in service for service in fleet.values())


def test_dispatch_has_three_replicas_and_every_worker_the_agreed_limits(services: Services) -> None:
    assert services["dispatch"]["deploy"]["replicas"] == 3
    for name in ("triage", "dispatch"):
        assert services[name]["deploy"]["resources"] == {
            "limits": {"cpus": "1.0", "memory": "512M"},
            "reservations": {"cpus": "0.5", "memory": "256M"},
        }
    assert services["redis"]["deploy"]["resources"]["limits"] == {"cpus": "0.5", "memory": "128M"}


def test_what_is_in_flight_leaves_half_of_a_workers_memory_for_the_worker(config: Config) -> None:
    assert config.dispatch.max_in_flight_bytes <= 512 * 10**6 // 4


def test_a_worker_is_given_longer_to_stop_than_it_takes(services: Services, config: Config) -> None:
    for name in ("triage", "dispatch"):
        assert parse_duration(services[name]["stop_grace_period"], "s") > config.dispatch.grace


def test_workers_run_with_no_privilege_and_cannot_write_their_image(fleet: Services) -> None:
    for name, service in fleet.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert all(volume.endswith(":ro") for volume in service["volumes"]), name


def test_the_checks_of_the_workers_ask_the_port_that_is_configured(fleet: Services, config: Config) -> None:
    address = f"http://127.0.0.1:{config.observe.metrics.port}/readyz"
    for name in ("triage", "dispatch"):
        assert address in fleet[name]["healthcheck"]["test"][-1]


def test_workers_use_the_listener_that_the_broker_advertises_to_them(services: Services) -> None:
    advertised = services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(",")
    bootstrap = services["triage"]["environment"]["KAFKA_BOOTSTRAP_SERVERS"]
    assert f"INTERNAL://{bootstrap}" in advertised
    assert bootstrap in services["kafka"]["healthcheck"]["test"][-1]


def test_passwords_have_no_default(root: Path) -> None:
    text = (root / "compose.yaml").read_text()
    secrets = [match for match in REFERENCE.finditer(text) if "PASSWORD" in match[1]]
    assert {match[1] for match in secrets} == {"REDIS_PASSWORD", "GF_SECURITY_ADMIN_PASSWORD"}
    assert all((match[2] or "").startswith(":?set ") for match in secrets)


def test_only_workers_get_the_keys_of_providers(services: Services) -> None:
    holders = {
        name for name, service in services.items() if any("_API_KEY" in key for key in service.get("environment", {}))
    }
    assert holders == {"triage", "dispatch"}


def test_every_variable_that_a_worker_gets_is_read(services: Services, root: Path) -> None:
    in_files = {
        match[1] for file in (root / "deploy/config").glob("*.yaml") for match in REFERENCE.finditer(file.read_text())
    }
    of_providers = {name for facts in FACTS.values() for name in (*facts.key_variables, facts.base_url_variable)}
    read = in_files | of_providers | VARIABLES.keys() | {"ENVIRONMENT", "HEIMDALL_CONFIG"}
    assert services["triage"]["environment"].keys() <= read


def test_every_variable_is_in_the_operators_page(services: Services, root: Path, operations: str) -> None:
    named = {match[1] for match in REFERENCE.finditer((root / "compose.yaml").read_text())}
    passed_on = {name for name, value in services["triage"]["environment"].items() if value is None}
    assert [name for name in sorted(named | passed_on) if f"`{name}`" not in operations] == []


@pytest.mark.parametrize("environment", ["development", "staging", "production"])
def test_the_mounted_configuration_is_valid_in_every_environment(root: Path, environment: str) -> None:
    env = {"ENVIRONMENT": environment, "OPENROUTER_API_KEY": "sk-or-test"}
    loaded = load(root / "deploy/config/heimdall.yaml", env)
    assert loaded.warnings == ()


def test_production_leans_to_quality_and_remembers_more_decisions(root: Path) -> None:
    env = {"ENVIRONMENT": "production", "OPENROUTER_API_KEY": "sk-or-test"}
    config = load(root / "deploy/config/heimdall.yaml", env).config
    assert (config.router.alpha, config.cache.decision.max_size) == (0.75, 50_000)
