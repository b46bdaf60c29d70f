"""Replaying from a broker: ranges, resuming, and what the topics no longer have."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from tests.brokers.clusters import ApacheCluster, Cluster
from tests.brokers.tools import producing
from tests.unit.heimdall_fleet.learn.made import TERMS, Desk, decision, feedback, lines, outcome

from heimdall_fleet.cli.replay import gaps_in_words
from heimdall_fleet.kafka.records import Outgoing
from heimdall_fleet.learn.kafka_source import KafkaSource, Range, _Part
from heimdall_fleet.learn.replay import Job, open_dataset, replay

Unique = Callable[[str], str]


async def write(cluster: Cluster, topic: str, *records: dict[str, Any], timestamp_ms: int | None = None) -> None:
    """Every request on the partition of the number in its id."""
    async with producing(cluster) as producer:
        sent = [
            producer.send(
                Outgoing(topic, lines(each), None, int(each["request_id"][-1]) % 2, timestamp_ms=timestamp_ms)
            )
            for each in records
        ]
        await asyncio.gather(*sent)


async def run(desk: Desk, cluster: Cluster, topics: list[str], span: Range) -> dict[str, Any]:
    position = open_dataset(desk.out, resume=True)
    at = {
        (place.rpartition(":")[0], int(place.rpartition(":")[2])): offset for place, offset in position.sources.items()
    }
    source = KafkaSource(cluster.settings(), topics, Range(span.since_ms, span.until_ms, {**at, **span.offsets}))
    return await replay(Job(desk.out, TERMS), source, position)


async def test_a_later_run_goes_on_where_the_last_one_ended(cluster: Cluster, unique: Unique, tmp_path: Path) -> None:
    audit, said, desk = unique("audit"), unique("feedback"), Desk(tmp_path)
    for topic in (audit, said):
        await cluster.create_topic(topic, 2)
    await write(cluster, audit, decision("r0"), outcome("r0"), decision("r1"))
    told = await run(desk, cluster, [audit, said], Range())
    assert told["records"] == 3
    await write(cluster, audit, outcome("r1"))
    await write(cluster, said, feedback("r0", score=0.0))
    told = await run(desk, cluster, [audit, said], Range())
    assert told["records"] == 2
    rows = desk.rows()
    assert {name: (row["state"], row["reward"]) for name, row in rows.items()} == {
        "r0": ("answered", 0.0),
        "r1": ("answered", 1.0),
    }
    assert all("missing" not in each for each in told["ranges"])


async def test_a_range_by_offsets_takes_those_records_and_no_others(
    cluster: Cluster, unique: Unique, tmp_path: Path
) -> None:
    audit, desk = unique("audit"), Desk(tmp_path)
    await cluster.create_topic(audit, 2)
    await write(cluster, audit, decision("r0"), decision("r2"), decision("r1"), decision("r3"))
    told = await run(desk, cluster, [audit], Range(offsets={(audit, 0): 1, (audit, 1): 2}))
    assert told["records"] == 1
    assert list(desk.rows()) == ["r2"]


@pytest.mark.kafka
async def test_what_retention_deleted_before_it_was_read_is_a_gap(
    apache_broker: ApacheCluster, unique: Unique, tmp_path: Path
) -> None:
    audit, desk = unique("audit"), Desk(tmp_path)
    await apache_broker.create_topic(audit, 2)
    await write(apache_broker, audit, decision("r0"))
    await run(desk, apache_broker, [audit], Range())
    await write(apache_broker, audit, decision("r2"), decision("r4"), decision("r6"))
    admin = AIOKafkaAdminClient(bootstrap_servers=apache_broker.bootstrap)
    await admin.start()
    await admin.delete_records({TopicPartition(audit, 0): RecordsToDelete(before_offset=3)})
    await admin.close()
    told = await run(desk, apache_broker, [audit], Range())
    assert list(desk.rows()) == ["r0", "r6"]
    assert gaps_in_words(told["ranges"])[0] == f"{audit}:0: 2 offsets from 1 to 2 hold no record"


def test_offsets_without_records_are_a_gap() -> None:
    part = _Part(0, 10, 0)
    for offset in (0, 1, 5, 6, 9):
        part.move(offset)
    assert part.gaps == [(2, 4), (7, 8)]
    assert part.records == 5


async def test_a_gap_stays_in_the_manifest_of_every_later_run(cluster: Cluster, unique: Unique, tmp_path: Path) -> None:
    audit, desk = unique("audit"), Desk(tmp_path)
    await cluster.create_topic(audit, 2)
    await write(cluster, audit, decision("r0"), decision("r1"))
    source = Missing(cluster.settings(), [audit], Range())
    await replay(Job(desk.out, TERMS), source, open_dataset(desk.out, resume=False))
    await run(desk, cluster, [audit], Range())
    assert desk.manifest()["gaps"] == [{"source": f"{audit}:0", "first": 3, "last": 7}]


class Missing(KafkaSource):
    """A source that found offsets 3 to 7 of partition 0 without a record."""

    def ranges(self) -> list[dict[str, Any]]:
        return [{**each, "missing": [[3, 7]]} if each["source"].endswith(":0") else each for each in super().ranges()]
