"""Two thousand requests on Apache Kafka, and workers that die in the middle of them."""

from pathlib import Path

import pytest
from tests.brokers.clusters import ApacheCluster
from tests.faults.checker import distinct
from tests.faults.figures import Tell
from tests.faults.fleet import Setup
from tests.faults.history import Call, History
from tests.faults.scenario import scenario

from heimdall_fleet.kafka.driver.reading import TopicReader
from heimdall_fleet.report.replies import contradicting, terminal_states

pytestmark = pytest.mark.kafka

REQUESTS = 2_000
PER_SECOND = 100.0
SLOW_ENOUGH_TO_BE_CAUGHT = {"*": {"latency_ms": {"median": 300, "sigma": 0.5}, "output_tokens": {"median": 30}}}


@pytest.mark.timeout(240)
async def test_a_killed_dispatch_and_a_stopped_triage_worker_lose_nothing_and_contradict_nobody(
    apache_broker: ApacheCluster, tmp_path: Path, tell: Tell
) -> None:
    setup = Setup(20_261_121, tmp_path, triage=2, dispatch=2, behaviours=SLOW_ENOUGH_TO_BE_CAUGHT)
    async with scenario(apache_broker, setup) as run:
        fleet = run.fleet
        await run.load.many(REQUESTS * 2 // 5, PER_SECOND)
        await fleet.kill(fleet.alive("dispatch")[0])
        await fleet.start("dispatch", wait=False)
        await run.load.many(REQUESTS // 5, PER_SECOND)
        stopped = await fleet.terminate(fleet.alive("triage")[0])
        await fleet.start("triage", wait=False)
        await run.load.many(REQUESTS * 2 // 5, PER_SECOND)
        await run.settled()

        async with TopicReader(fleet.kafka) as reader:
            replies = [record async for record in reader.read([fleet.topics.replies])]
        states = terminal_states(replies)
        assert len(states) == REQUESTS, "replies lost"
        assert contradicting(replies) == set()
        assert {state for each in states.values() for state in each} == {"answered"}
        assert stopped.code == 0

        verdict = await run.verdict()
        twice, died = called_twice(verdict.history), died_with_their_worker(verdict.history, "dispatch-1")
        audited = sum(outcome.reached for outcome in distinct(verdict.history.outcome))
        tell(verdict.figures() | {"called_twice": len(twice), "died_with_the_worker": len(died)})
        assert len(died) > 0, "the kill caught nothing, so this test shows nothing"
        assert len(verdict.history.call) == audited + len(died)
        extra = len(verdict.history.call) - REQUESTS
        assert len(twice) <= extra <= len(died) + verdict.copies, "a call that neither died nor was answered with"


def called_twice(history: History) -> set[str]:
    first: dict[str, Call] = {}
    return {call.request_id for call in history.call if first.setdefault(call.request_id, call) is not call}


def died_with_their_worker(history: History, worker: str) -> list[Call]:
    """Calls of a killed worker that no outcome record of its own tells of."""
    told = {outcome.request_id for outcome in history.outcome if outcome.worker == worker}
    return [call for call in history.call if call.worker == worker and call.request_id not in told]
