"""What the reply topic itself says, read by someone who trusts nobody."""

from collections.abc import Iterable

import orjson

from heimdall_fleet.kafka.records import Record
from heimdall_schemas import headers as h


def terminal_states(replies: Iterable[Record]) -> dict[bytes, list[str]]:
    """Correlation id to the states of its whole replies, in order; chunks are no replies."""
    found: dict[bytes, list[str]] = {}
    for record in replies:
        facts = orjson.loads(record.value or b"{}").get("heimdall", {})
        if facts.get("state") is not None:
            correlation_id = h.last(record.headers).get(h.CORRELATION_ID, b"")
            found.setdefault(correlation_id, []).append(facts["state"])
    return found


def contradicting(replies: Iterable[Record]) -> set[bytes]:
    """Correlation ids whose replies do not agree about how the request ended."""
    return {each for each, states in terminal_states(replies).items() if len(set(states)) > 1}
