"""Small messages beside the path: cancellations, feedback and pointers."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Cancel(BaseModel):
    """On `cancel`, keyed by the request id: do not start this request; stop it if it runs."""

    model_config = ConfigDict(extra="allow", frozen=True)
    request_id: Annotated[str, Field(min_length=1, max_length=128)]
    reason: Annotated[str, Field(max_length=256)] | None = None
    tenant: str | None = None


class Feedback(BaseModel):
    """On `feedback`, keyed by the request id: what the answer was worth.

    At least one of `score`, `accepted` and `label` is given.
    """

    model_config = ConfigDict(
        extra="allow",
        frozen=True,
        json_schema_extra={"anyOf": [{"required": [name]} for name in ("score", "accepted", "label")]},
    )
    request_id: Annotated[str, Field(min_length=1, max_length=128)]
    score: Annotated[float, Field(ge=0, le=1)] | None = Field(None, description="0 useless to 1 perfect")
    accepted: bool | None = None
    label: Literal["cheap", "mid", "hard"] | None = Field(None, description="the bucket it should have had")
    comment: Annotated[str, Field(max_length=4096)] | None = None
    time: str | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "Feedback":
        if self.score is None and self.accepted is None and self.label is None:
            raise ValueError("give score, accepted or label")
        return self


CHAMPION = "bundle"
"""Key of the pointer to the bundle that decides."""

CHALLENGER = "bundle.challenger"
"""Key of the pointer to the bundle that decides silently beside it."""

DRIFT = "drift"
"""Key of what the last turn of the learning loop found out about drift."""

MOST_EARLIER = 20

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Earlier(BaseModel):
    """What a pointer named before."""

    model_config = ConfigDict(extra="allow", frozen=True)
    url: str
    sha256: Sha256
    bundle: Sha256 | None = Field(None, description="sha-256 of the manifest, as decision records name the bundle")
    time: str | None = Field(None, description="RFC 3339, UTC: when it was promoted")


class Pointer(Earlier):
    """On `control`, keyed by its name: where the current bundle, catalogue or configuration lies.

    `sha256` is that of the archive at `url`. A compacted topic forgets, so `earlier` keeps the way back, newest first.
    """

    name: str
    earlier: Annotated[tuple[Earlier, ...], Field(max_length=MOST_EARLIER)] = ()


class Drift(BaseModel):
    """On `control`, keyed `drift`: what the last turn of the learning loop found, for the gauges of triage."""

    model_config = ConfigDict(extra="allow", frozen=True)
    time: str = Field(description="RFC 3339, UTC: of the turn")
    psi: dict[str, float] = Field(
        description="population stability index of `features` (the one that moved most) and of `buckets`"
    )
    reward_drops: dict[str, float] = Field(description="by model: mean reward lost in the kind of task that lost most")
    alarms: tuple[str, ...] = ()
