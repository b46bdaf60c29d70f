"""The decision cache: an exact hash of what decides → the decision, bounded in number and age; and its bounded map."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Generic, NamedTuple, Protocol, TypeVar

import orjson

from heimdall_models.asked import Asking, DecisionInput
from heimdall_models.forms import Chain
from heimdall_models.record import Kept

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

DECISION_TTL_S = 300.0
DECISION_ENTRIES = 10_000
SESSION_TTL_S = 3_600.0
SESSION_ENTRIES = 50_000

_DECIDING_FIELDS = ("messages", "tools", "functions", "response_format", "max_completion_tokens", "max_tokens")
_wishes = attrgetter(
    "pinned", "tenant", "previous", "candidates", "exclude", "alpha", "max_cost_usd_micros", "own_effort"
)


class RecentMap(Generic[Key, Value]):
    """At most `max_size` values, none older than `ttl_s`; the least recently used goes first. One thread."""

    def __init__(self, max_size: int, ttl_s: float) -> None:
        self._max_size = max_size
        self._ttl_s = ttl_s
        self._entries: OrderedDict[Key, tuple[float, Value]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key, now_s: float) -> Value | None:
        found = self._entries.get(key)
        if found is None:
            return None
        if now_s - found[0] > self._ttl_s:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return found[1]

    def put(self, key: Key, value: Value, now_s: float) -> None:
        self._entries[key] = (now_s, value)
        self._entries.move_to_end(key)
        while len(self._entries) > self._max_size:
            self._entries.popitem(last=False)


class DecisionStore(Protocol):
    """Where decisions are kept. `put` may raise OSError or MemoryError; the decision stands without it."""

    def __len__(self) -> int: ...

    def get(self, key: bytes, now_s: float) -> Entry | None: ...

    def put(self, key: bytes, value: Entry, now_s: float) -> None: ...


class Entry(NamedTuple):
    """A decision as it is kept, about 2 kB: what its copies share, and the JSON that they are written from.

    `shortest_ms`: the quickest answer of the chosen model; a request with less time left is judged anew.
    """

    request_id: str
    bucket: str
    model: str
    guardrails: Sequence[str]
    chain: Chain
    p_chosen: float
    token_count: int
    kept: Kept
    shortest_ms: float


def decision_cache(max_size: int = DECISION_ENTRIES, ttl_s: float = DECISION_TTL_S) -> DecisionStore:
    """The store in this process: `cache.decision.max_size` and `.ttl`."""
    return RecentMap[bytes, Entry](max_size, ttl_s)


@dataclass(slots=True)
class CacheCounts:
    """Look-ups since the start: hit ratio = hits / (hits + misses). `failed_writes`: CACHE_WRITE_FAILED."""

    hits: int = 0
    misses: int = 0
    failed_writes: int = 0


@dataclass(slots=True)
class Memory:
    """What one triage worker remembers between batches. `decisions` None: caching is off."""

    decisions: DecisionStore | None = field(default_factory=decision_cache)
    sessions: RecentMap[tuple[str | None, str], str] = field(
        default_factory=lambda: RecentMap(SESSION_ENTRIES, SESSION_TTL_S)
    )
    counts: CacheCounts = field(default_factory=CacheCounts)


def cache_key(item: DecisionInput, asking: Asking, salt: hashlib._Hash) -> bytes:
    """16 bytes over all that decides: the conversation, the caller's wishes and `salt` (bundle, catalogue, rules).

    Requests that mean the same have one key: the order of fields, `"model": "auto"` and an empty `heimdall` change nothing.
    The deadline is left out: it differs for every request and is checked when an entry is found.
    """
    parts = [*map(item.body.get, _DECIDING_FIELDS), _wishes(asking)]
    key = salt.copy()
    key.update(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS))
    return key.digest()[:16]


def find(memory: Memory, key: bytes, time_left_ms: float | None, now_s: float) -> Entry | None:
    """The entry of this key, unless the request has less time left than its model takes at best."""
    if memory.decisions is None:
        return None
    entry = memory.decisions.get(key, now_s)
    if entry is not None and (time_left_ms is None or entry.shortest_ms <= time_left_ms):
        memory.counts.hits += 1
        return entry
    memory.counts.misses += 1
    return None


def keep(memory: Memory, key: bytes, entry: Entry, now_s: float) -> None:
    """Store an entry; a store that fails is counted and otherwise ignored."""
    if memory.decisions is None:
        return
    try:
        memory.decisions.put(key, entry, now_s)
    except (OSError, MemoryError):
        memory.counts.failed_writes += 1
