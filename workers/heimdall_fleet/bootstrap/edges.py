"""What every role and command shares: names, the client, readers, producers, dead letters, labels."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from heimdall_fleet.config import Config
from heimdall_fleet.config.rules import Finding, incomplete, retired, unknown
from heimdall_fleet.dlq import Undertaker
from heimdall_fleet.kafka.driver.reading import TopicReader
from heimdall_fleet.kafka.producer import SupervisedProducer, open_producer
from heimdall_fleet.kafka.settings import KafkaSettings, ProducerSettings
from heimdall_fleet.objects.base import ObjectStore, ObjectStoreError
from heimdall_fleet.objects.files import FileStore
from heimdall_fleet.settings import (
    catalogue_of,
    kafka_settings,
    limits_of,
)

if TYPE_CHECKING:
    from heimdall_fleet.client import HeimdallClient

PRODUCE_TIMEOUT_MS = 30_000
"""A dead connection is noticed after that. Joining a group may take one request longer, writing never does."""


def worker_name(role: str) -> str:
    """Which process wrote a record: role, host, process id."""
    return f"{role}-{socket.gethostname()}-{os.getpid()}"


def client_for(config: Config) -> "HeimdallClient":
    """A client of the fleet that `config` describes."""
    from heimdall_fleet.client import HeimdallClient  # noqa: PLC0415 - a worker need not hold it
    from heimdall_fleet.client.kafka_transport import KafkaTransport  # noqa: PLC0415 - as above

    settings = kafka_settings(config, "heimdall-client")
    transport = KafkaTransport(asdict(settings), limits=limits_of(config))
    return HeimdallClient(settings.bootstrap_servers, config.kafka.topic_prefix, transport=transport)


def reader_for(config: Config) -> TopicReader:
    """A reader of whole topics, member of no group."""
    return TopicReader(kafka_settings(config, "heimdall-reader"))


@asynccontextmanager
async def producing(config: Config, client_id: str) -> AsyncIterator[SupervisedProducer]:
    """A producer for as long as a command needs one. Raises KafkaFailure where no broker is reached."""
    producer = open_producer_for(kafka_settings(config, client_id), config)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


def open_producer_for(kafka: KafkaSettings, config: Config) -> SupervisedProducer:
    return open_producer(kafka, producer_settings(kafka, config))


def open_prompt_producer_for(kafka: KafkaSettings, config: Config) -> SupervisedProducer:
    """For records that come in batches already: none waits for company."""
    return open_producer(kafka, replace(producer_settings(kafka, config), linger_ms=0))


def open_patient_producer_for(kafka: KafkaSettings, config: Config) -> SupervisedProducer:
    """For records that come one at a time, after seconds at a provider: a few milliseconds fill the batches."""
    patient_ms = {config.kafka.topics.audit: 20}
    return open_producer(kafka, replace(producer_settings(kafka, config), linger_ms=5, patient_ms=patient_ms))


def producer_settings(kafka: KafkaSettings, config: Config) -> ProducerSettings:
    """How every producer of the fleet writes."""
    return ProducerSettings(
        linger_ms=2,
        compression=config.kafka.compression_type,
        max_record_bytes=config.kafka.max_message_bytes,
        request_timeout_ms=min(PRODUCE_TIMEOUT_MS, kafka.request_timeout_ms),
    )


def undertaker_for(config: Config, worker: str, group: str) -> Undertaker:
    return Undertaker(
        config.kafka.topics.dlq, worker, group, max_value_bytes=config.kafka.max_message_bytes - 64 * 1024
    )


def closed_labels(config: Config) -> dict[str, list[str]]:
    """The values that the metric labels `model` and `provider` may have."""
    models = catalogue_of(config, datetime.now(UTC).date()).models
    links = (link for _, _, chain in config.dispatch.chains() for link in chain)
    return {"models": [*models, *links], "providers": list(config.providers)}


def doubtful_names(config: Config, *, candidates: bool = False) -> list[Finding]:
    """Configured candidates that are retired or will be, with what replaces them and when; and names that nothing has.

    `candidates`: also those that cannot be chosen, for `config lint`; a worker hears of them from its judge.
    """
    today = datetime.now(UTC).date()
    catalogue = catalogue_of(config, today)
    found = [*retired(config, catalogue, today), *unknown(config, catalogue)]
    return [*found, *incomplete(config, catalogue)] if candidates else found


def open_store(url: str) -> ObjectStore:
    """The store at `file://` or `s3://bucket/prefix`. Raises ObjectStoreError for S3 without the extra `s3`."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return FileStore(Path(url2pathname(parts.path)))
    try:
        from heimdall_fleet.objects.s3 import S3Objects  # noqa: PLC0415 - its library is an extra
    except ImportError as error:
        raise ObjectStoreError(f"{url} needs a library: pip install 'heimdall-fleet[s3]'") from error
    return S3Objects.at(url)
