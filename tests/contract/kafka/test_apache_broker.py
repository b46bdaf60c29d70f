"""deploy/kafka/broker.py: what it says where something is missing, and the command itself."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest
from tests.brokers.clusters import ApacheCluster, load_broker_module

from heimdall_fleet.kafka.driver.connection import preflight
from heimdall_fleet.kafka.settings import KafkaSettings

ROOT = Path(__file__).parents[3]


def test_without_java_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    module = load_broker_module()
    broker = module.KafkaBroker(tmp_path / "data")
    with pytest.raises(module.BrokerMissing, match="needs Java 17"):
        broker.start()


def test_without_jars_and_maven_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    module = load_broker_module()
    with pytest.raises(module.BrokerMissing, match="Install Maven"):
        module.resolve_libraries()


def test_a_cache_with_other_files_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    module = load_broker_module()
    cache = tmp_path / "heimdall" / f"kafka-{module.VERSION}"
    cache.mkdir(parents=True)
    (cache / "kafka_2.13-4.3.1.jar").write_bytes(b"not what was pinned")
    with pytest.raises(module.BrokerMissing, match=r"kafka_2\.13-4\.3\.1\.jar"):
        module.resolve_libraries()


@pytest.mark.kafka
async def test_the_command_prints_the_address_and_ends_at_sigterm(apache_broker: ApacheCluster) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(ROOT / "deploy/kafka/broker.py"), "start", "--port", "0", "--foreground"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        address = (await process.stdout.readline()).decode().strip()
        await preflight(KafkaSettings(bootstrap_servers=address))
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
