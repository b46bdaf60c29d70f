"""A worker in a process of its own, to be killed and stopped: `python -m tests.brokers.member ...`.

It writes ``begin partition offset`` and ``end partition offset`` lines, unbuffered, to its log. Every seventh record
takes ten times as long, so that records finish out of order; and time that the process is stopped does not count, so
that its handlers still run when it goes on.
"""

import asyncio
import signal
import sys
from pathlib import Path

from heimdall_fleet.kafka.intake import open_intake
from heimdall_fleet.kafka.records import Record
from heimdall_fleet.kafka.settings import IntakeSettings, KafkaSettings


async def serve(bootstrap: str, group_id: str, topic: str, log: Path, seconds: float) -> None:
    with log.open("a", buffering=1) as out:

        async def handler(record: Record) -> None:
            out.write(f"begin {record.partition} {record.offset}\n")
            for _ in range(1 if record.offset % 7 else 10):
                await asyncio.sleep(seconds)
            out.write(f"end {record.partition} {record.offset}\n")

        kafka = KafkaSettings(
            bootstrap_servers=bootstrap,
            session_timeout_ms=3_000,
            heartbeat_interval_ms=300,
            rebalance_timeout_ms=6_000,
            request_timeout_ms=10_000,
            fetch_max_wait_ms=100,
        )
        settings = IntakeSettings(group_id=group_id, topics=(topic,), max_in_flight=20, commit_interval_s=0.1)
        intake = open_intake(kafka, settings, handler)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, intake.stop)
        await intake.run()


if __name__ == "__main__":
    _, bootstrap_server, group, topic_name, log_path, pause = sys.argv
    asyncio.run(serve(bootstrap_server, group, topic_name, Path(log_path), float(pause)))
