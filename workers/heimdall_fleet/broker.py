"""How a worker stands with the broker: waiting for it, and what health and metrics say of it."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from heimdall_fleet.kafka.errors import KafkaFailure
from heimdall_fleet.kafka.facts import GroupFacts
from heimdall_fleet.kafka.producer import ProducerFacts
from heimdall_fleet.observe.health import Check
from heimdall_fleet.observe.metrics import Metrics

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_S = 2.0
SILENT_FOR_S = 20.0
STUCK_FOR_S = 15.0


async def until_possible(action: Callable[[], Awaitable[T]], what: str, stopping: asyncio.Event) -> T | None:
    """Try until Kafka lets it happen. None: we were told to stop meanwhile."""
    while not stopping.is_set():
        try:
            return await action()
        except KafkaFailure as error:
            log.warning("%s: %s; trying again", what, error, extra={"action": "broker_waits"})
        try:
            await asyncio.wait_for(stopping.wait(), RETRY_S)
        except TimeoutError:
            continue
    return None


def broker_check(group: GroupFacts, producer: ProducerFacts) -> Check:
    """Unhealthy: not in the group, or the broker does not answer. Degraded: what is sent is not confirmed for long."""
    details = {
        "assigned": len(group.assigned),
        "lag": sum(group.lag.values()),
        "metadata_age_s": round(group.metadata_age_s, 1),
        "last_poll_age_s": round(group.last_poll_age_s, 1),
        "pending_records": producer.pending_records,
        "oldest_pending_s": round(producer.oldest_pending_s, 1),
    }
    if not group.joined:
        return Check("unhealthy", {**details, "reason": "not in the consumer group yet"})
    if not group.broker_reachable or group.metadata_age_s > SILENT_FOR_S:
        return Check("unhealthy", {**details, "reason": "the broker does not answer"})
    if group.unreadable:
        held = [f"{topic}-{number}" for topic, number in sorted(group.unreadable)]
        return Check("degraded", {**details, "reason": "partitions that cannot be read", "held": held})
    if producer.oldest_pending_s > STUCK_FOR_S:
        return Check("degraded", {**details, "reason": "the broker does not confirm what is sent"})
    return Check("healthy", details)


class Seen(NamedTuple):
    """Counts of the last look, since counters only take what is new."""

    topics: frozenset[str] = frozenset()
    rebalances: int = 0
    replaced: int = 0


def show_group(metrics: Metrics, group: GroupFacts, producer: ProducerFacts, before: Seen) -> Seen:
    """Put lag, assignment, rebalances and replaced producers into the metrics; returns what was counted so far."""
    lag: Counter[str] = Counter()
    for (topic, _), records in group.lag.items():
        lag[topic] += records
    assigned = Counter(topic for topic, _ in group.assigned)
    for topic in before.topics | assigned.keys() | lag.keys():
        metrics.worker.lag(topic, lag[topic])
        metrics.worker.assigned(topic, assigned[topic])
    metrics.worker.kafka_rebalances.inc(max(0, group.rebalances - before.rebalances))
    metrics.worker.producer_rebuilds.inc(max(0, producer.replaced - before.replaced))
    return Seen(frozenset(assigned) | before.topics, group.rebalances, producer.replaced)
