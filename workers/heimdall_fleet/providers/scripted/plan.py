"""What the scripted providers are to do, as data: a `Plan` in Python or as JSON.

{"seed": 1, "behaviours": {"*": {"latency_ms": {"median": 40, "sigma": 0.4}},
                           "openai": {"errors": {"429": 0.1}, "retry_after_s": 1},
                           "openai/gpt-5": {"outages": [{"start_s": 10, "end_s": 20}]}}}
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist

import orjson
from pydantic import ConfigDict, TypeAdapter, ValidationError

from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.faults import faults_of

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Spread:
    """A log-normal quantity: half the draws are below `median`; `sigma` is the deviation of the logarithm."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    median: float
    sigma: float = 0.0

    def at(self, u: float) -> float:
        """The value below which the share `u` (0 < u < 1) of all draws lies."""
        if not self.sigma:
            return self.median
        return self.median * math.exp(self.sigma * _NORMAL.inv_cdf(u))


@dataclass(frozen=True, slots=True)
class Outage:
    """From `start_s` to `end_s` after the plan was set every call gets `status`."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    start_s: float
    end_s: float
    status: int = 503


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How one provider, or one model of it, behaves.

    `latency_ms` is the time to the first token; the rest of the answer comes at `tokens_per_s` (None: at once).
    `errors` gives shares by HTTP status; `hang`, `cut_stream` (stopped in the middle, of streams only),
    `truncated_body` and `error_in_200` are shares too. `rpm` is a limit per key and minute. `refused_keys` are the
    fingerprints that get a 401. `retry_after_s` goes with every 429 and 503.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    latency_ms: Spread = Spread(0.0)
    output_tokens: Spread = Spread(40.0)
    tokens_per_s: float | None = None
    errors: Mapping[int, float] = field(default_factory=dict)
    retry_after_s: float | None = None
    rpm: int | None = None
    outages: tuple[Outage, ...] = ()
    hang: float = 0.0
    cut_stream: float = 0.0
    truncated_body: float = 0.0
    error_in_200: float = 0.0
    refused_keys: tuple[str, ...] = ()


DEFAULT = Behaviour()


@dataclass(frozen=True, slots=True)
class Plan:
    """Behaviours by `provider/model`, `provider`, or `*`; the most specific one holds. `seed` fixes every draw."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    seed: int = 1
    behaviours: Mapping[str, Behaviour] = field(default_factory=dict)

    def behaviour(self, provider: str, model: str) -> Behaviour:
        found = (self.behaviours.get(name) for name in (f"{provider}/{model}", provider, "*"))
        return next((behaviour for behaviour in found if behaviour is not None), DEFAULT)

    def models(self, provider: str) -> list[str]:
        """The models that the plan names for this provider."""
        head = f"{provider}/"
        return [name.removeprefix(head) for name in self.behaviours if name.startswith(head)]

    def to_json(self) -> bytes:
        return orjson.dumps(self, option=orjson.OPT_NON_STR_KEYS)


_PLAN: TypeAdapter[Plan] = TypeAdapter(Plan)


def read_plan(value: bytes) -> Plan:
    """The plan in this JSON. Raises Failure (`heimdall_config`) naming the field at fault."""
    try:
        return _PLAN.validate_json(value)
    except ValidationError as error:
        why = faults_of(error, within="plan").text
        raise Failure(FailureCode.HEIMDALL_CONFIG, f"the plan of the scripted providers is wrong: {why}") from None
