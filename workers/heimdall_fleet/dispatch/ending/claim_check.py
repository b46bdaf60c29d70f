"""A reply that no record can hold: kept in an object store with a claim check in its place, or an error.

The claim check is the reply without what was said: `choices` keep `index` and `finish_reason`, their messages are empty,
and `heimdall.claim_check` is `{"url", "bytes", "sha256"}` of the object, whose content is the whole reply.
"""

import hashlib
from typing import Any

import orjson

from heimdall_fleet.dispatch.room import Room
from heimdall_fleet.dispatch.run import Ending
from heimdall_fleet.objects.base import ObjectStoreError
from heimdall_schemas.codec import encode
from heimdall_schemas.failure import Failure, FailureCode


async def fitted(ending: Ending, room: Room) -> Ending:
    """The ending with a reply that fits into a record. Raises Failure `heimdall_reply_too_large` where none can."""
    size = len(ending.reply)
    if size <= room.settings.max_reply_bytes:
        return ending
    if room.objects is None:
        raise _too_large(size, room, "ask for fewer max_tokens, set dispatch.large_replies, or kafka.max_message_bytes")
    digest = hashlib.sha256(ending.reply).hexdigest()
    try:
        url = await room.objects.put(f"{digest}.json", ending.reply)
    except ObjectStoreError as error:
        raise _too_large(size, room, str(error)) from error
    return ending._replace(reply=claim_check(ending.reply, {"url": url, "bytes": size, "sha256": digest}))


def claim_check(reply: bytes, claim: dict[str, Any]) -> bytes:
    """The reply with `claim` in the place of what was said."""
    whole = orjson.loads(reply)
    choices = [
        {**choice, "message": {"role": "assistant", "content": None}, "logprobs": None} for choice in whole["choices"]
    ]
    return encode({**whole, "choices": choices, "heimdall": {**whole["heimdall"], "claim_check": claim}})


def _too_large(size: int, room: Room, help_: str) -> Failure:
    most = room.settings.max_reply_bytes
    return Failure(
        FailureCode.HEIMDALL_REPLY_TOO_LARGE,
        f"the reply has {size:,} bytes, a record may have {most:,}; {help_}"[:500],
        context={"bytes": size, "max": most},
    )
