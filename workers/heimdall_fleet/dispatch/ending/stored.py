"""An ending as bytes, for the shared state: the reply and the outcome record, as they were or shall be published."""

import orjson

from heimdall_fleet.dispatch.run import Ending
from heimdall_schemas.audit import State
from heimdall_schemas.failure import Failure, FailureCode

_LENGTH_BYTES = 4


def pack(ending: Ending) -> bytes:
    """Length of the reply (4 bytes, big-endian), the reply, the outcome."""
    return len(ending.reply).to_bytes(_LENGTH_BYTES, "big") + ending.reply + ending.outcome


def unpack(stored: bytes) -> Ending:
    """The ending back. Raises Failure `heimdall_internal` for bytes that `pack` did not write."""
    try:
        end = _LENGTH_BYTES + int.from_bytes(stored[:_LENGTH_BYTES], "big")
        reply, outcome = stored[_LENGTH_BYTES:end], stored[end:]
        facts = orjson.loads(outcome)
        code = facts["failure"]
        failure = Failure(FailureCode(code), "as answered before") if code else None
        return Ending(
            state=State(facts["state"]),
            failure=failure,
            reply=reply,
            outcome=outcome,
            model=facts["selected_model"],
            provider=facts["selected_provider"],
            stored=True,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Failure(FailureCode.HEIMDALL_INTERNAL, f"a stored answer cannot be read: {error}") from error
