"""The traffic of `heimdall demo-learning` without a broker: decided, answered and rated, as audit and feedback records."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from tests.unit.heimdall_fleet.learn.made import outcome

from heimdall_fleet.bootstrap.triage import judge_maker
from heimdall_fleet.cli.demo_learning import SETTINGS
from heimdall_fleet.config import Config
from heimdall_fleet.demo_data.subjects import Phase, asks, score
from heimdall_models.asked import DecisionInput
from heimdall_models.bundle import Bundle
from heimdall_models.cache import Memory
from heimdall_models.decide import decide
from heimdall_models.record import Decided, audit_json
from heimdall_schemas.ids import derived_id
from heimdall_schemas.request import read_request

BEGIN = datetime(2026, 11, 21, 12, tzinfo=UTC)
STEP = timedelta(seconds=1)
NOBODY = {author: {"type": "custom", "base_url": "http://127.0.0.1:9/v1"} for author in ("openai", "amazon")}
CONFIG = Config.model_validate({**SETTINGS, "providers": NOBODY, "feature_timeout": "10s", "timeout": "10s"})


@dataclass(slots=True)
class World:
    """A clock and a coin; `records` goes on from where the last call ended."""

    bundle: Bundle
    now: datetime = BEGIN

    def records(self, count: int, phase: Phase, seed: int) -> list[dict[str, Any]]:
        draw = random.Random(seed)
        made = asks(count, seed)
        judge, memory = judge_maker(CONFIG)(self.bundle), Memory(decisions=None)
        found: list[dict[str, Any]] = []
        for start in range(0, count, 64):
            chunk = made[start : start + 64]
            items = [
                DecisionInput(
                    derived_id(phase, str(seed), str(start + at)), *read_request(orjson.dumps(ask.body(phase)))
                )
                for at, ask in enumerate(chunk)
            ]
            answers: Sequence[Any] = decide(items, judge, memory, lambda: 0.0)
            for ask, answer in zip(chunk, answers, strict=True):
                assert isinstance(answer, Decided)
                reward = score(answer.model, ask.subject, phase, draw)
                found += self._request(answer, ask.body(phase)["heimdall"]["tags"], reward)
        return found

    def _request(self, answer: Decided, tags: dict[str, str], reward: float) -> list[dict[str, Any]]:
        self.now += STEP
        moment = self.now.isoformat()
        said = {
            "time": moment,
            "correlation_id": answer.request_id,
            "worker": "t",
            "tags": tags,
            "question": answer.request_id,
        }
        decision = orjson.loads(audit_json(answer, said))
        expected = {each["model"]: each["cost_usd_micros"] for each in decision["candidates"]}
        ending = outcome(
            answer.request_id,
            time=moment,
            selected_model=answer.model,
            p_served=answer.p_chosen,
            cost_usd_micros=expected[answer.model],
        )
        return [decision, ending, {"request_id": answer.request_id, "time": moment, "score": reward}]
