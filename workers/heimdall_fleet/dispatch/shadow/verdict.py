"""What a judge is asked about two answers, and what it said. Plain functions; who stands first is drawn from a hash."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from heimdall_fleet.dispatch.settings import JudgeSettings
from heimdall_fleet.providers.shapes import list_of, object_of
from heimdall_models.experiment import draw
from heimdall_schemas.ids import derived_id
from heimdall_schemas.order import Address, Order, Plan, Step

MOST_CHARS = 16_000
"""Of the request and of each answer."""

_PLACE = re.compile(r"\{(request|a|b)\}")
_OBJECT = re.compile(r"\{[^{}]*\}")
_BYTES_PER_TOKEN = 3


class Verdict(NamedTuple):
    """Scores of 0 to 1."""

    served: float
    shadow: float


def answer_text(reply: Mapping[str, Any]) -> str | None:
    """The text of a completion, cut; None where it says nothing in words, such as a call of a tool."""
    message = object_of(object_of(next(iter(list_of(reply.get("choices"))), None)).get("message"))
    content = message.get("content")
    return content[:MOST_CHARS] if isinstance(content, str) and content.strip() else None


def served_first(shadow_id: str) -> bool:
    """Whether the answer that was served stands as A. Judges lean to one place, so it must not always be the same."""
    return draw("judge order", shadow_id) < 0.5


def judge_order(shadow: Order, body: Mapping[str, Any], answers: tuple[str, str], settings: JudgeSettings) -> Order:
    """The question to the judge about a shadow; `answers`: the one that was served, and the shadow's."""
    first, second = answers if served_first(shadow.request_id) else answers[::-1]
    texts = {"request": _conversation(body), "a": first, "b": second}
    prompt = _PLACE.sub(lambda found: texts[found[1]], settings.prompt)
    asked = {"messages": [{"role": "user", "content": prompt}], "max_tokens": settings.max_tokens}
    judge_id = derived_id("judge", shadow.request_id)
    plan = shadow.plan
    return Order(
        request_id=judge_id,
        bucket=shadow.bucket,
        decision={},
        plan=Plan(
            steps=(Step(settings.model, shadow.bucket),),
            deadline_ms=plan.deadline_ms,
            received_ms=plan.received_ms,
            p_chosen=1.0,
            lane=plan.lane,
            token_count=len(prompt.encode()) // _BYTES_PER_TOKEN + 1,
            tenant=plan.tenant,
        ),
        address=Address(shadow.address.topic, None, judge_id.encode()),
        body=orjson.dumps(asked),
        trace=shadow.trace,
    )


def verdict_in(text: str | None, shadow_id: str) -> Verdict | None:
    """The two scores in what the judge said: the last JSON object with `a` and `b`, each 0 to 1. None: there is none."""
    for found in reversed(_OBJECT.findall(text or "")):
        try:
            said = orjson.loads(found)
        except orjson.JSONDecodeError:
            continue
        if _is_score(said.get("a")) and _is_score(said.get("b")):
            first, second = float(said["a"]), float(said["b"])
            return Verdict(first, second) if served_first(shadow_id) else Verdict(second, first)
    return None


def _is_score(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _conversation(body: Mapping[str, Any]) -> str:
    """What was said, the last of it where it is long."""
    told = [f"{message.get('role')}: {_words(message.get('content'))}" for message in list_of(body.get("messages"))]
    return "\n\n".join(told)[-MOST_CHARS:]


def _words(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(str(object_of(part).get("text", f"[{object_of(part).get('type')}]")) for part in list_of(content))
