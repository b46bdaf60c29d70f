"""What a challenger costs that decides silently: CPU of a batch through triage with one, over the same without.

    python bench/challenger.py -o json

From the bytes of the requests to the bytes of orders and decision records, without Kafka; the requests (600 B) all differ,
rounds are interleaved, `ratio_challenger` is the median of the rounds' ratios. The challenger is the shipped bundle itself.
"""

import statistics
import time
from dataclasses import replace

import harness

from heimdall_fleet.addresses import ReplyRules
from heimdall_fleet.bootstrap.triage import judge_maker
from heimdall_fleet.config import Config
from heimdall_fleet.dlq import Undertaker
from heimdall_fleet.kafka.records import Record
from heimdall_fleet.triage.challenger import Challenger
from heimdall_fleet.triage.emit import Desk
from heimdall_fleet.triage.pipeline import Bench, triage
from heimdall_fleet.triage.read import ReadRules
from heimdall_models.bundle import load_bundle
from heimdall_models.cache import Memory
from heimdall_models.shipped import shipped
from heimdall_schemas.codec import Limits
from heimdall_schemas.ids import new_id
from heimdall_schemas.topics import Topics

ROUNDS, QUICK_ROUNDS = 9, 1
BATCHES, BATCH = 24, 64
BYTES = 600


def main() -> None:
    options = harness.parser(__doc__ or "").parse_args()
    harness.show(measure(QUICK_ROUNDS if options.quick else ROUNDS), options.output)


def measure(rounds: int) -> dict[str, float]:
    texts = harness.Texts(seed=13)
    alone = bench()
    ways = {"alone": alone, "challenged": replace(alone, challenger=Challenger(alone.judge))}
    costs: dict[str, list[float]] = {way: [] for way in ways}
    for number, way in harness.in_turn(list(ways), rounds + 1):
        took_us = cost_us(ways[way], texts.bodies(BYTES, BATCHES * BATCH))
        if number:  # the first warms up
            costs[way].append(took_us)
    return {
        "us_alone": round(statistics.median(costs["alone"]), 1),
        "us_challenged": round(statistics.median(costs["challenged"]), 1),
        "ratio_challenger": harness.median_ratio(costs["challenged"], costs["alone"]),
        "rounds": rounds,
    }


def cost_us(desk: Bench, bodies: list[bytes]) -> float:
    """CPU microseconds a request."""
    batches = [requests(bodies[start : start + BATCH]) for start in range(0, len(bodies), BATCH)]
    started = time.process_time()
    for batch in batches:
        triage(batch, desk, lambda _: 24, time.time_ns() // 1_000_000)
    return (time.process_time() - started) / len(bodies) * 1e6


def requests(bodies: list[bytes]) -> list[Record]:
    now_ms = time.time_ns() // 1_000_000
    return [
        Record("requests", at % 24, at, now_ms, None, body, (("ce_id", new_id().encode()),))
        for at, body in enumerate(bodies)
    ]


def bench() -> Bench:
    topics = Topics()
    judge = judge_maker(Config(), everything_served=True)(load_bundle(shipped("bundles/default")))
    return Bench(
        rules=ReadRules(Limits(), ReplyRules.from_patterns(topics, []), default_ttl_ms=60_000),
        judge=judge,
        memory=Memory(decisions=None),
        clock=time.perf_counter,
        desk=Desk(topics, "bench", Undertaker(topics.dlq, "bench", "bench", max_value_bytes=1_000_000), 12, 24),
    )


if __name__ == "__main__":
    main()
