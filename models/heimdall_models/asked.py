"""What a batch asks for: the numbers of its conversations and what their callers said, a row for each request."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heimdall_models.conversation import Conversation, output_limit, read_conversation
from heimdall_models.embed import CLUSTER_TEMPERATURE, DIMENSIONS, EmbeddingCache, embed, nearest_clusters
from heimdall_models.features import Features, extract
from heimdall_models.pools import FAR, Flags, Floats, Indices
from heimdall_models.text_model import TextModel
from heimdall_schemas.request import AUTO, Options

_log = logging.getLogger(__name__)

Clock = Callable[[], float]
"""Seconds that only go forward, such as `time.perf_counter`."""

_EFFORT_FIELDS = frozenset(("reasoning_effort", "reasoning", "thinking", "thinking_budget"))
_CHARS_PER_TOKEN = 4


class DecisionInput(NamedTuple):
    """One request as triage has it. `body` is the JSON object it came as, in `size_bytes`; 0: nobody has counted.

    `time_left_ms` None: no deadline.
    """

    request_id: str
    options: Options
    body: Mapping[str, Any]
    time_left_ms: float | None = None
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Asking:
    """What one caller said beyond the conversation. `previous`: the model that served the session before."""

    tenant: str | None = None
    session: str | None = None
    previous: str | None = None
    pinned: str | None = None
    candidates: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    alpha: float | None = None
    max_cost_usd_micros: int | None = None
    own_effort: bool = False

    @property
    def named(self) -> tuple[str, ...] | None:
        """The models that the caller names, instead of the bucket's."""
        return (self.pinned,) if self.pinned is not None else self.candidates


NOTHING = Asking()

_ASKING_FIELDS = tuple((field.name, field.default) for field in fields(Asking) if field.name != "session")


def read_asking(
    item: DecisionInput,
    served: Callable[[str], str],
    previous: Callable[[tuple[str | None, str]], str | None],
) -> Asking:
    """The caller's wishes; `previous` knows the model of a tenant's session.

    Raises what `served` raises when the request pins a name that nobody serves.
    """
    body = item.body
    name = body.get("model", AUTO)
    own_effort = not _EFFORT_FIELDS.isdisjoint(body) and any(body.get(name) is not None for name in _EFFORT_FIELDS)
    if name == AUTO and "heimdall" not in body and not own_effort:
        return NOTHING
    options = item.options
    return Asking(
        tenant=options.tenant,
        session=options.session,
        previous=None if options.session is None else previous((options.tenant, options.session)),
        pinned=None if name == AUTO else served(name),
        candidates=None if options.candidates is None else tuple(options.candidates),
        exclude=tuple(options.exclude or ()),
        alpha=options.alpha,
        max_cost_usd_micros=None if options.max_cost_usd is None else round(options.max_cost_usd * 1_000_000),
        own_effort=own_effort,
    )


def asking_fields(asking: Asking) -> dict[str, Any]:
    """What was said, and nothing of what was not: the form that is recorded. The session stands beside it, since requests
    of several sessions share a decision from the cache."""
    said = {name: value for name, default in _ASKING_FIELDS if (value := getattr(asking, name)) != default}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}


def asking_of(recorded: Mapping[str, Any], session: str | None) -> Asking:
    """The reverse of `asking_fields`, from JSON."""
    lists = {name: tuple(recorded[name]) for name in ("candidates", "exclude") if name in recorded}
    return Asking(**{**recorded, **lists, "session": session})


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of each conversation: (n, …) arrays. Of `truncated` rows some text was not scanned. `late` rows are
    not classified, and no row is when the whole batch has `spent` its time; `embedding_late`: they are late by the
    embedder's own budget. `extraction_ms` holds `embedding_ms`."""

    numeric: NDArray[np.float32]
    token_count: NDArray[np.int64]
    has_code: Flags
    has_math: Flags
    entropy: NDArray[np.float32]
    images: Flags
    tools: Flags
    structured: Flags
    schema: Flags
    max_output: Floats
    clusters: Indices
    similarities: NDArray[np.float32]
    embedding_cached: Flags
    truncated: Flags
    late: Flags
    extraction_ms: float
    embedding_ms: float = 0.0
    spent: bool = False
    embedding_late: bool = False

    @property
    def weights(self) -> Floats:
        """(n, top_p) softmax of the similarities; even for a row without a cluster."""
        return cluster_weights(self.similarities)


def cluster_weights(similarities: NDArray[np.float32]) -> Floats:
    """Softmax over the nearest clusters, in double precision so that a record gives the same again."""
    near = similarities.astype(np.float64)
    raised = np.exp((near - near[:, :1]) / CLUSTER_TEMPERATURE)
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


@dataclass(frozen=True, slots=True)
class Reader:
    """What reading needs of a bundle and of the rules; `embedder` None: the hashed embedding."""

    text_model: TextModel
    centres: NDArray[np.int16]
    top_p: int
    timeout_ms: float
    embedding_timeout_ms: float
    embedder: EmbeddingCache | None = None


def read(bodies: Sequence[Mapping[str, Any]], reader: Reader, clock: Clock) -> Reading:
    """Conversations, features and nearest clusters of at most `MAX_BATCH` bodies.

    A batch of n has n times each time-out. What is not begun within that of the features is not read but gets safe
    defaults; when a plugged-in embedder takes longer than that or than its own, the whole batch is `late`. One that fails
    leaves its rows without a cluster.
    """
    started = clock()
    budget_ms = reader.timeout_ms * len(bodies)
    conversations: list[Conversation] = []
    late_from = len(bodies)
    for row, body in enumerate(bodies):
        if (clock() - started) * 1000.0 > budget_ms:
            late_from = row
            break
        conversations.append(read_conversation(body))
    conversations += [_unread(body) for body in bodies[late_from:]]
    features = extract(conversations, reader.text_model)
    extracted = clock()
    vectors, cached, embedded = _vectors(features, conversations, reader.embedder)
    nearest = nearest_clusters(vectors, reader.centres, reader.top_p)
    finished = clock()
    late = np.arange(len(bodies)) >= late_from
    embedding_ms = round((finished - extracted) * 1000.0, 3)
    embedding_late = reader.embedder is not None and embedding_ms > reader.embedding_timeout_ms * len(bodies)
    if reader.embedder is not None and (embedding_late or (finished - started) * 1000.0 > budget_ms):
        late[:] = True
    clusters, similarities, shapes = nearest.ids, nearest.similarities, features.shapes
    if (nowhere := late | ~embedded).any():
        clusters[nowhere], similarities[nowhere] = len(reader.centres), 0
    return Reading(
        numeric=features.numeric,
        token_count=features.token_count,
        has_code=features.has_code,
        has_math=features.has_math,
        entropy=features.entropy,
        images=shapes["image_count"] > 0,
        tools=shapes["tool_definition_count"] > 0,
        structured=shapes["structured_output"] > 0,
        schema=shapes["json_schema"] > 0,
        max_output=shapes["max_tokens"],
        clusters=clusters,
        similarities=similarities,
        embedding_cached=cached,
        truncated=shapes["truncated"] > 0,
        late=late,
        extraction_ms=round((finished - started) * 1000.0, 3),
        embedding_ms=embedding_ms,
        embedding_late=embedding_late,
    )


def _unread(body: Mapping[str, Any]) -> Conversation:
    """What guardrails need of a body that there was no time to read: sizes, and the benefit of no doubt."""
    messages = [message for message in body.get("messages", ()) if isinstance(message, Mapping)]
    contents = [message.get("content") for message in messages]
    chars = sum(len(content) if isinstance(content, str) else _part_chars(content) for content in contents)
    tools = body.get("tools") or body.get("functions") or ()
    return Conversation(
        text="",
        ask_chars=0,
        user_chars=chars,
        system_chars=0,
        assistant_chars=0,
        tool_chars=0,
        message_count=len(messages),
        user_turns=0,
        assistant_turns=0,
        tool_turns=0,
        tool_definition_count=len(tools),
        tool_definition_chars=0,
        tool_call_count=0,
        image_count=int(any(isinstance(content, list) for content in contents)),
        attachment_count=0,
        structured_output=body.get("response_format") is not None,
        json_schema=False,
        max_tokens=output_limit(body),
        truncated=True,
    )


def _part_chars(content: Any) -> int:
    """Characters of text in a list of parts; 0 for what is none."""
    texts = [part.get("text") for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []
    return sum(len(text) for text in texts if isinstance(text, str))


def _vectors(
    features: Features, conversations: Sequence[Conversation], embedder: EmbeddingCache | None
) -> tuple[NDArray[np.float32], Flags, Flags]:
    """(n, 384) vectors, which of them came from the cache, and which are there at all."""
    count = len(conversations)
    if embedder is None:
        return embed(features.scan, features.on_list), np.zeros(count, np.bool_), np.ones(count, np.bool_)
    try:
        vectors, cached = embedder([conversation.text for conversation in conversations])
    except (ValueError, RuntimeError, OSError) as error:
        _log.warning("the embedder failed, its rows count as far from every cluster: %s", error)
        return np.zeros((count, DIMENSIONS), np.float32), np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    return vectors, cached, np.ones(count, np.bool_)


class Wishes(NamedTuple):
    """Who asks, what for, and the time left (None: no deadline): a place for each row."""

    ids: Sequence[str]
    asking: Sequence[Asking]
    time_left_ms: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Asked:
    """A batch ready to be judged: (n,) arrays, lists of n. No limit is infinity; `max_output` 0: not said."""

    ids: Sequence[str]
    asking: Sequence[Asking]
    reading: Reading
    tokens: Floats
    alpha: Floats
    time_left_ms: Floats
    max_cost: Floats
    weights: Floats
    free: Flags
    plain: bool

    def __len__(self) -> int:
        return len(self.ids)


def ask(wishes: Wishes, reading: Reading, alpha: float) -> Asked:
    """The batch's wishes as arrays. `free` rows name no models: they follow their bucket.

    `plain`: nobody in the batch wishes anything, as in most batches, so that guardrails need not look.
    """
    asking = wishes.asking
    plain = all(one is NOTHING for one in asking)
    count = len(asking)
    return Asked(
        ids=wishes.ids,
        asking=asking,
        reading=reading,
        tokens=reading.token_count.astype(np.float64),
        alpha=np.full(count, alpha) if plain else _column([one.alpha for one in asking], alpha),
        time_left_ms=_column(wishes.time_left_ms, FAR),
        max_cost=np.full(count, FAR) if plain else _column([one.max_cost_usd_micros for one in asking], FAR),
        weights=reading.weights,
        free=np.full(count, True) if plain else np.array([one.named is None for one in asking], np.bool_),
        plain=plain,
    )


def _column(values: Sequence[float | None], default: float) -> Floats:
    column = np.array(values, np.float64)  # None becomes NaN
    column[np.isnan(column)] = default
    return column
