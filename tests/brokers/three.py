"""Three brokers on one machine, each a controller too: what a test needs whose leader is to die."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from tests.brokers.clusters import load_broker_module

from heimdall_fleet.stack.processes import free_port

BROKERS = 3
SAFE = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "controller.quorum.bootstrap.servers": "",
}


class ThreeBrokers:
    """`brokers[n]` has the id n + 1."""

    def __init__(self) -> None:
        controllers = [free_port() for _ in range(BROKERS)]
        voters = ",".join(f"{n + 1}@127.0.0.1:{port}" for n, port in enumerate(controllers))
        self.brokers: list[Any] = [
            load_broker_module().KafkaBroker(
                None, 0, port, {**SAFE, "node.id": str(n + 1), "controller.quorum.voters": voters}
            )
            for n, port in enumerate(controllers)
        ]

    @property
    def bootstrap(self) -> str:
        return ",".join(broker.bootstrap for broker in self.brokers)

    def start(self) -> None:
        """All at once: one of them alone has no majority, and waits for the others."""
        with ThreadPoolExecutor(BROKERS) as pool:
            list(pool.map(lambda broker: broker.start(), self.brokers))

    def close(self) -> None:
        """SIGKILL, since who leaves last has nobody to say goodbye to and would wait for it."""
        for broker in self.brokers:
            with suppress(load_broker_module().BrokerFailed):  # it is not running
                broker.kill()
            broker.close()
