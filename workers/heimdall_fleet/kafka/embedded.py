"""A broker inside this process: librdkafka's mock cluster, which comes in the confluent-kafka wheel.

Its limits. One member a group: a second one fails to join, and a successor waits for the session time-out of the one
that left. No admin requests: topics are created by
`EmbeddedBroker.create_topic`, or by first use with four partitions. Nothing is kept on disk, about 5 MB a partition
is kept in memory. One record batch per partition and fetch, and an empty fetch takes the client's whole
`fetch_max_wait_ms`, so clients should set 10. Aborted transactions are visible. Its latencies are not Kafka's.

The Python package reaches the mock cluster only through a configuration key, which cannot give topics their
partition counts and makes every group wait 3 s for its first assignment; so this module calls librdkafka's C
interface, `rdkafka_mock.h`, in the very library the wheel loads.
"""

import ctypes
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self

from confluent_kafka import cimpl

from heimdall_fleet.kafka.settings import KafkaSettings

_PRODUCER = 0  # rd_kafka_type_t: any client instance can carry a mock cluster
_PRODUCE_API = 0
_OK = 0
_PATIENCE_S = 0.01


class EmbeddedBroker:
    """`with EmbeddedBroker() as broker: ... broker.bootstrap ...`; up in about 10 ms."""

    def __init__(self) -> None:
        self._library = _load()
        self._client: int | None = None
        self._cluster: int | None = None
        self.bootstrap = ""
        """``host:port`` while the broker runs."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        reason = ctypes.create_string_buffer(512)
        configuration = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set(configuration, b"log_level", b"0", reason, len(reason))
        self._client = self._library.rd_kafka_new(_PRODUCER, configuration, reason, len(reason))
        if not self._client:
            raise RuntimeError(f"librdkafka gave no client for the embedded broker: {reason.value.decode()}")
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, 1)
        if not self._cluster:
            raise RuntimeError("librdkafka could not open a port on 127.0.0.1 for the embedded broker")
        self.bootstrap = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        with self._awake() as cluster:
            self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0)

    def stop(self) -> None:
        if self._cluster:
            with self._awake() as cluster:
                self._library.rd_kafka_mock_cluster_destroy(cluster)
            self._library.rd_kafka_destroy(self._client)
        self._client = self._cluster = None

    def settings(self, client_id: str = "heimdall") -> KafkaSettings:
        """Connection settings that suit this broker."""
        return KafkaSettings(
            bootstrap_servers=self.bootstrap,
            client_id=client_id,
            fetch_max_wait_ms=10,
            session_timeout_ms=10_000,
        )

    def create_topic(self, name: str, partitions: int) -> None:
        """Before its first use; an existing topic keeps its partitions and raises `ValueError`."""
        with self._awake() as cluster:
            failed = self._library.rd_kafka_mock_topic_create(cluster, name.encode(), partitions, 1)
        if failed != _OK:
            raise ValueError(f"the embedded broker did not create topic {name!r}: it exists or the name is invalid")

    def refuse_produce(self, error_codes: Sequence[int]) -> None:
        """Answer the next produce requests with these Kafka error codes, one a request: for tests of poisoning."""
        codes = (ctypes.c_int * len(error_codes))(*error_codes)
        self._library.rd_kafka_mock_push_request_errors_array(self._running(), _PRODUCE_API, len(error_codes), codes)

    def set_up(self, up: bool) -> None:
        """Refuse connections and close the open ones, or accept them again: a broker that is gone and comes back."""
        change = self._library.rd_kafka_mock_broker_set_up if up else self._library.rd_kafka_mock_broker_set_down
        with self._awake() as cluster:
            change(cluster, 1)

    def _running(self) -> int:
        if self._cluster is None:
            raise RuntimeError("the embedded broker is not running; use it as a context manager or call start()")
        return self._cluster

    @contextmanager
    def _awake(self) -> Iterator[int]:
        """The running cluster, kept awake while it is asked for something.

        It misses what wakes it about once in a hundred calls, and then sleeps its whole second; a connection wakes it, too.
        """
        cluster, answered = self._running(), Event()
        waker = Thread(target=self._wake, args=(answered,), name="embedded-broker-waker", daemon=True)
        waker.start()
        try:
            yield cluster
        finally:
            answered.set()
            waker.join()

    def _wake(self, answered: Event) -> None:
        host, _, port = self.bootstrap.rpartition(":")
        while not answered.wait(_PATIENCE_S):
            with suppress(OSError), socket.create_connection((host, int(port))):
                pass


def _load() -> ctypes.CDLL:
    """The library that confluent-kafka's extension module is linked against, with the signatures we call."""
    library = ctypes.CDLL(cimpl.__file__)
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "rd_kafka_conf_new": (pointer, []),
        "rd_kafka_conf_set": (number, [pointer, text, text, text, ctypes.c_size_t]),
        "rd_kafka_new": (pointer, [number, pointer, text, ctypes.c_size_t]),
        "rd_kafka_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_new": (pointer, [pointer, number]),
        "rd_kafka_mock_cluster_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_bootstraps": (text, [pointer]),
        "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [pointer, ctypes.c_int32]),
        "rd_kafka_mock_topic_create": (number, [pointer, text, number, number]),
        "rd_kafka_mock_push_request_errors_array": (
            None,
            [pointer, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(number)],
        ),
        "rd_kafka_mock_broker_set_down": (number, [pointer, ctypes.c_int32]),
        "rd_kafka_mock_broker_set_up": (number, [pointer, ctypes.c_int32]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library
