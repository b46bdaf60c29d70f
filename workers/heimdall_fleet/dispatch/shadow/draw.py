"""Which answered orders are asked once more, of whom, and the order that says so. Plain functions, drawn from hashes.

The draw depends on the request id alone, so that a second life of a worker draws the same shadow under the same id.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from heimdall_fleet.dispatch.run import Ending, Run
from heimdall_fleet.dispatch.settings import ShadowSettings
from heimdall_fleet.dispatch.shadow.verdict import answer_text
from heimdall_fleet.kafka.records import Header, Outgoing
from heimdall_models.experiment import draw
from heimdall_schemas import headers as h
from heimdall_schemas.audit import State
from heimdall_schemas.ids import derived_id
from heimdall_schemas.order import Plan, Step, plan_header
from heimdall_schemas.shadow import Shadow, shadow_header
from heimdall_schemas.topics import Bucket, Topics

TTL_MS = 600_000
"""A shadow that found no place by then says nothing that the next one does not say as well."""

ANYBODY = "*"
_LANE = "batch"
_STREAMING = frozenset({"stream", "stream_options"})


class Drawn(NamedTuple):
    """The model that shall be asked as well."""

    step: Step
    shadow: Shadow


def shadow_for(run: Run, ending: Ending, settings: ShadowSettings) -> Drawn | None:
    """The shadow of an order whose end is published; None where it gets none.

    Only an answer that this worker paid for gets one, of a request whose tenant allows it and whose caller named no model.
    The model is drawn evenly among the order's candidates of other buckets than the answer's, else of the same one.
    """
    plan = run.order.plan
    if not settings.share or draw("shadow", run.request_id) >= settings.share:
        return None
    if run.order.shadow is not None or plan.pinned or not _allowed(plan.tenant, settings.tenants):
        return None
    if ending.state is not State.ANSWERED or ending.stored or ending.model is None or not run.attempts:
        return None
    others = _others(plan.steps, ending.model, run.order.bucket)
    if not others:
        return None
    step = others[int(draw("shadow model", run.request_id) * len(others))]
    judged = settings.judge is not None and draw("judge", run.request_id) < settings.judge.share
    text = answer_text(orjson.loads(ending.reply)) if judged else None
    return Drawn(step, Shadow(run.request_id, ending.model, settings.share, 1.0 / len(others), text))


def _allowed(tenant: str | None, tenants: tuple[str, ...]) -> bool:
    return ANYBODY in tenants or tenant in tenants


def _others(steps: tuple[Step, ...], served: str, bucket: str) -> list[Step]:
    """Candidates other than the one that answered: those of other buckets if there are any."""
    own = next((step.bucket for step in steps if step.model == served), bucket)
    once = {step.model: step for step in reversed(steps) if step.model != served}
    elsewhere = [step for step in once.values() if step.bucket != own]
    return sorted(elsewhere or once.values(), key=lambda step: step.model)


def shadow_order(run: Run, drawn: Drawn, topics: Topics, unix_ms: int) -> Outgoing:
    """The order of a shadow, without a partition: the same body, one model to ask, and an id made from the request's.

    Its reply address is nobody's: a worker of the release before, which knows no shadows, would answer there.
    """
    shadow_id = derived_id("shadow", run.request_id)
    plan = run.order.plan
    asked = Plan(
        steps=(drawn.step,),
        deadline_ms=unix_ms + TTL_MS,
        received_ms=unix_ms,
        p_chosen=drawn.shadow.p_drawn,
        lane=_LANE,
        token_count=plan.token_count,
        tenant=plan.tenant,
        tier=plan.tier,
    )
    headers: list[Header] = [
        (h.REQUEST_ID, shadow_id.encode()),
        (h.BUCKET, drawn.step.bucket.encode()),
        (h.DECISION, orjson.dumps({})),
        (h.PLAN, plan_header(asked)),
        (h.SHADOW, shadow_header(drawn.shadow)),
        (h.REPLY_TO, topics.replies.encode()),
        (h.CORRELATION_ID, shadow_id.encode()),
        *run.order.trace,
    ]
    return Outgoing(
        topic=topics.dispatch(Bucket(drawn.step.bucket)),
        value=run.order.body,
        key=None,
        partition=None,
        headers=headers,
    )


def unstreamed(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The body without the wish for a stream, which nobody would read."""
    return {name: value for name, value in body.items() if name not in _STREAMING}
