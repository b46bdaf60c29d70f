"""A shadow: a request that was answered, asked once more of another model, so that there is a reward of both.

A shadow order stands on a dispatch topic like any other, with one header more. Nobody hears of its answer; it ends as a
`ShadowRecord` on the audit topic, under the id of the request that it is a shadow of.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import orjson

from heimdall_schemas.failure import Failure, FailureCode


@dataclass(frozen=True, slots=True)
class Shadow:
    """What the header `heimdall-shadow` says. `of`: id of the request; `served_model` has answered it.

    `share`: of all answered requests that get a shadow. `p_drawn`: probability that, given a shadow, it was this model's.
    `served_answer`: the text of the answer, cut; only where a judge shall compare the two.
    """

    of: str
    served_model: str
    share: float
    p_drawn: float
    served_answer: str | None = None


_FIELDS = frozenset(each.name for each in fields(Shadow))


def shadow_header(shadow: Shadow) -> bytes:
    """The header's JSON."""
    return orjson.dumps({name: value for name, value in asdict(shadow).items() if value is not None})


def read_shadow(header: bytes) -> Shadow:
    """What only a newer worker says is left out. Raises Failure `heimdall_internal` for what is no such header."""
    try:
        found: Mapping[str, Any] = orjson.loads(header)
        return Shadow(**{name: value for name, value in found.items() if name in _FIELDS})
    except (AttributeError, TypeError, ValueError) as error:
        raise Failure(
            FailureCode.HEIMDALL_INTERNAL,
            f"the header heimdall-shadow cannot be read: {error}; only dispatch writes it",
        ) from error
