"""Identifiers: UUIDv7 for what is new, UUIDv5 for what must come out the same when it is made twice."""

import os
import time
from uuid import UUID, uuid5

_NAMESPACE = UUID("6c8e3f0a-52e4-5d2b-9a51-6f1d4f0f7c11")


def new_id(unix_ms: int | None = None, entropy: bytes | None = None) -> str:
    """A UUIDv7 (RFC 9562 §5.7): 48 bits of Unix milliseconds, then 74 random bits. Sorts by time as text."""
    stamp = time.time_ns() // 1_000_000 if unix_ms is None else unix_ms
    rand = int.from_bytes(os.urandom(10) if entropy is None else entropy, "big")
    value = (stamp & (1 << 48) - 1) << 80 | 0x7 << 76 | (rand >> 62 & 0xFFF) << 64 | 0b10 << 62 | rand & (1 << 62) - 1
    return str(UUID(int=value))


def derived_id(*parts: str) -> str:
    """A UUIDv5 of the parts: the same parts give the same id in every process, so a copy can be recognised."""
    return str(uuid5(_NAMESPACE, "\x1f".join(parts)))
