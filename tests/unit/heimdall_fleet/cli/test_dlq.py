"""The commands for dead letters, against a broker inside the process."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from heimdall_fleet.cli.dlq import dlq, wanted
from heimdall_fleet.cli.exits import CommandError, Exit
from heimdall_fleet.cli.globals import Globals
from heimdall_fleet.dispatch.letters import Wanted
from heimdall_fleet.dlq import Undertaker
from heimdall_fleet.kafka.driver.reading import TopicReader
from heimdall_fleet.kafka.embedded import EmbeddedBroker
from heimdall_fleet.kafka.producer import open_producer
from heimdall_fleet.kafka.records import Record
from heimdall_fleet.kafka.settings import ProducerSettings
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.topics import Topics

TOPICS = Topics()
BODY = b'{"messages":[{"role":"user","content":"hi"}],"heimdall":{"tenant":"acme"}}'


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    """Three letters: two requests that a bug hit, and one whose body was too large for a letter."""
    with EmbeddedBroker() as running:
        for topic in TOPICS.all():
            running.create_topic(topic.name, topic.partitions)
        asyncio.run(_bury(running))
        yield running


async def _bury(broker: EmbeddedBroker) -> None:
    producer = open_producer(broker.settings("undertaker"), ProducerSettings(linger_ms=0))
    await producer.start()
    for number, most in enumerate((1_000, 1_000, 10)):
        record = Record(TOPICS.requests, number, number, 1, b"k", BODY, (("ce_id", f"r{number}".encode()),))
        failure = Failure(FailureCode.HEIMDALL_INTERNAL, "a bug")
        await producer.send(Undertaker(TOPICS.dlq, "w", "g", most).letter(record, failure, f"r{number}", now_ms=10**12))
    await producer.stop()


def run(broker: EmbeddedBroker, *arguments: str) -> tuple[Any, Result]:
    result = CliRunner().invoke(dlq, arguments, obj=Globals(bootstrap=broker.bootstrap, output="json"))
    return (orjson.loads(result.stdout) if result.stdout.startswith("{") else None), result


def code(result: Result) -> Exit:
    assert isinstance(result.exception, CommandError), result.output
    return result.exception.code


def requests(broker: EmbeddedBroker) -> list[Record]:
    async def read() -> list[Record]:
        async with TopicReader(broker.settings("reader")) as reader:
            return [record async for record in reader.read([TOPICS.requests])]

    return asyncio.run(read())


def test_letters_are_listed_shown_sent_again_and_let_go(broker: EmbeddedBroker) -> None:
    listed, _ = run(broker, "list", "--reason", "heimdall_*")
    assert sorted(letter["request_id"] for letter in listed["letters"]) == ["r0", "r1", "r2"]
    assert b"hi" not in orjson.dumps(listed)
    shown, _ = run(broker, "show", "r0")
    assert shown["letters"][0]["record"]["value"] == orjson.loads(BODY)

    dry, _ = run(broker, "redrive", "r0", "r1")
    assert (sorted(dry["redriven"]), dry["dry_run"]) == (["r0", "r1"], True)
    assert requests(broker) == []

    done, result = run(broker, "redrive", "--all", "--yes")
    assert (sorted(done["redriven"]), list(done["refused"]), code(result)) == (["r0", "r1"], ["r2"], Exit.CHECK_FAILED)
    again = {dict(record.headers)["ce_id"]: record for record in requests(broker)}
    assert {name: (record.partition, record.value) for name, record in again.items()} == {
        b"r0": (0, BODY),
        b"r1": (1, BODY),
    }

    gone, result = run(broker, "discard", "r2", "--why", "sent by mistake", "--yes")
    assert (gone["discarded"], result.exception) == (["r2"], None)
    assert run(broker, "list")[0]["letters"] == []


def test_an_unknown_id_is_not_found_and_no_filter_is_a_mistake(broker: EmbeddedBroker) -> None:
    assert code(run(broker, "show", "nobody")[1]) is Exit.NOT_FOUND
    assert code(run(broker, "redrive", "nobody", "--yes")[1]) is Exit.NOT_FOUND
    assert code(run(broker, "discard", "--yes")[1]) is Exit.USAGE
    assert run(broker, "list", "--tenant", "acme", "--since", "1h")[0]["letters"] == []


def test_a_list_is_bounded_in_number_and_by_time(broker: EmbeddedBroker) -> None:
    listed, _ = run(broker, "list", "--limit", "2")
    assert (len(listed["letters"]), listed["more"]) == (2, 1)
    assert len(run(broker, "list", "--until", "1m")[0]["letters"]) == 3
    assert run(broker, "list", "--since", "1m")[0]["letters"] == []


def test_spans_are_counted_back_from_now() -> None:
    found = wanted(10_000_000, since=timedelta(hours=1), until=timedelta(minutes=1))
    assert found == Wanted(since_ms=6_400_000, until_ms=9_940_000)
