"""Apache Kafka behind TLS and passwords, as operators run it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from tests.brokers.certificates import self_signed
from tests.brokers.clusters import load_broker_module
from tests.brokers.tools import Recorder, running, until

from heimdall_fleet.kafka.driver.admin import RawAdmin, TopicRequest
from heimdall_fleet.kafka.driver.connection import preflight
from heimdall_fleet.kafka.errors import BrokerUnavailable
from heimdall_fleet.kafka.producer import open_producer
from heimdall_fleet.kafka.records import Outgoing
from heimdall_fleet.kafka.settings import IntakeSettings, KafkaSettings, ProducerSettings, SaslMechanism
from heimdall_fleet.stack.processes import free_port

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = self_signed([x509.DNSName("localhost")], until=datetime.now(UTC) + timedelta(hours=12))
    (folder / "both.pem").write_bytes(key + certificate)
    (folder / "authority.pem").write_bytes(certificate)
    plain, controller, port = free_port(), free_port(), free_port()
    login = "org.apache.kafka.common.security"
    more = {
        "listeners": f"PLAINTEXT://127.0.0.1:{plain},SECURED://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{plain},SECURED://localhost:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SECURED:SASL_SSL,CONTROLLER:PLAINTEXT",
        "listener.name.secured.ssl.keystore.type": "PEM",
        "listener.name.secured.ssl.keystore.location": str(folder / "both.pem"),
        "listener.name.secured.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "listener.name.secured.plain.sasl.jaas.config": f'{login}.plain.PlainLoginModule required user_fleet="right";',
        "listener.name.secured.scram-sha-512.sasl.jaas.config": f"{login}.scram.ScramLoginModule required;",
    }
    with load_broker_module().KafkaBroker(None, plain, controller, more, {"fleet": "right"}):
        yield KafkaSettings(
            bootstrap_servers=f"localhost:{port}",
            security_protocol="SASL_SSL",
            ssl_cafile=str(folder / "authority.pem"),
            sasl_plain_username="fleet",
            sasl_plain_password="right",
            fetch_max_wait_ms=100,
        )


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
async def test_the_fleet_writes_and_reads_behind_tls_and_a_password(
    secured: KafkaSettings, mechanism: SaslMechanism
) -> None:
    settings, topic = replace(secured, sasl_mechanism=mechanism), f"orders-{mechanism.lower()}"
    async with RawAdmin(settings) as admin:
        assert (await admin.create([TopicRequest(topic, 1, 1, {})])) == {topic: None}
    producer = open_producer(settings, ProducerSettings())
    await producer.start()
    await producer.send(Outgoing(topic, b"hello"))
    await producer.stop()
    recorder = Recorder()
    async with running(settings, IntakeSettings(group_id=f"g-{topic}", topics=(topic,)), recorder):
        await until(lambda: recorder.ended == [(0, 0)])


async def test_a_wrong_password_a_strange_certificate_another_name_and_a_missing_file_are_told_apart(
    secured: KafkaSettings,
) -> None:
    with pytest.raises(BrokerUnavailable, match=r"(?i)authentication"):
        await preflight(replace(secured, sasl_plain_password="wrong"))
    with pytest.raises(BrokerUnavailable, match="self-signed certificate"):
        await preflight(replace(secured, ssl_cafile=None))
    by_address = secured.bootstrap_servers.replace("localhost", "127.0.0.1")
    with pytest.raises(BrokerUnavailable, match=r"certificate is not valid for '127\.0\.0\.1'"):
        await preflight(replace(secured, bootstrap_servers=by_address))
    await preflight(replace(secured, bootstrap_servers=by_address, ssl_check_hostname=False))
    with pytest.raises(BrokerUnavailable, match=r"kafka\.ssl_cafile /nowhere\.pem: .*No such file"):
        await preflight(replace(secured, ssl_cafile="/nowhere.pem"))
