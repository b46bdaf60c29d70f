"""Brokers for every test that needs one: put ``pytest_plugins = ["tests.brokers.fixtures"]`` into the root conftest.

Brokers are shared by a whole session; `unique` gives names that no other test uses.
"""

import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.brokers.clusters import ApacheCluster, Cluster, EmbeddedCluster, broker_with_detour, load_broker_module
from tests.brokers.three import ThreeBrokers

from heimdall_fleet.kafka.embedded import EmbeddedBroker
from heimdall_schemas.topics import Topics


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[EmbeddedCluster]:
    with EmbeddedBroker() as broker:
        yield EmbeddedCluster(broker)


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    """An embedded broker of the test's own, with the topics of a fleet."""
    with EmbeddedBroker() as running:
        for topic in Topics().all():
            running.create_topic(topic.name, topic.partitions)
        yield running


@pytest.fixture(scope="session")
def apache_broker() -> Iterator[ApacheCluster]:
    cluster = broker_with_detour()
    try:
        _start_or_skip(cluster.broker)
        yield cluster
    finally:
        cluster.broker.close()


@pytest.fixture
def three_brokers() -> Iterator[ThreeBrokers]:
    """A cluster of the test's own."""
    cluster = ThreeBrokers()
    try:
        _start_or_skip(cluster)
        yield cluster
    finally:
        cluster.close()


def _start_or_skip(brokers: Any) -> None:
    """Without Java or the jars: skipped on a laptop, a failure where CI is set, so that CI cannot fool itself."""
    try:
        brokers.start()
    except load_broker_module().BrokerMissing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))


@pytest.fixture(params=["embedded", pytest.param("apache", marks=pytest.mark.kafka)])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """Each test that takes it runs twice: on the embedded broker and, marked `kafka`, on Apache Kafka."""
    found: Cluster = request.getfixturevalue(f"{request.param}_broker")
    return found


@pytest.fixture
def unique() -> Callable[[str], str]:
    """`unique("orders")` is a topic or group name of this test alone."""
    suffix = uuid.uuid4().hex[:12]
    return lambda name: f"{name}-{suffix}"
