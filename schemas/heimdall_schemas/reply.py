"""A reply: an OpenAI `chat.completion`, or an error, with the object `heimdall` beside it.

The workers write plain dictionaries of these shapes; these classes read, document and check them.
"""

from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from heimdall_schemas.audit import Attempt, Decision, State
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.faults import faults_of
from heimdall_schemas.topics import Bucket


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class ReplyFacts(_Open):
    """How this answer came about."""

    request_id: str
    state: State
    bucket: Bucket | None = None
    selected_model: str | None = None
    selected_provider: str | None = None
    attempts: list[Attempt] = Field(default_factory=list)
    cost_usd_micros: int = 0
    cache: str | None = None
    answered_for: str | None = Field(None, description="the request whose answer this is, by an idempotency key")
    dropped: list[str] = Field(default_factory=list, description="parameters that the model which answered cannot take")
    claim_check: dict[str, Any] | None = Field(
        None, description="`url`, `bytes`, `sha256` of the whole reply, which no record can hold"
    )
    decision: Decision | None = None
    timings_ms: dict[str, float] = Field(default_factory=dict)


class ChunkFacts(_Open):
    request_id: str
    sequence: int = Field(ge=0)
    final: bool


class FinalFacts(ReplyFacts):
    """The last record of a stream: the whole reply, and where it stands in the sequence."""

    sequence: int | None = None
    final: bool = True


class ErrorBody(_Open):
    """Keys of OpenAI's error object and of the Heimdall API's (`type`, `code`, `message`, `cause`, `context`)."""

    type: str
    code: str
    message: str
    param: str | None = None
    retryable: bool = False
    http_status: int = 500
    detail_code: str | None = None
    cause: str | None = None
    context: dict[str, Any] | None = None


class Choice(_Open):
    index: int
    message: dict[str, Any]
    finish_reason: str | None
    logprobs: Any = None


class Usage(_Open):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class Reply(_Open):
    """The value of a reply record that holds an answer."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str = Field(description="the model that answered, author/model")
    choices: list[Choice]
    usage: Usage | None = None
    metadata: dict[str, Any] | None = Field(
        None, description="bucket, selected_model, alpha_score, cache_hit, decision_latency_ms"
    )
    heimdall: FinalFacts

    @property
    def text(self) -> str:
        """What the first choice says; empty when it only calls tools."""
        content = self.choices[0].message.get("content") if self.choices else None
        return content if isinstance(content, str) else ""


class ErrorReply(_Open):
    """The value of a reply record that says why there is no answer."""

    error: ErrorBody
    heimdall: FinalFacts


class ReplyChunk(_Open):
    """One `chat.completion.chunk` of a streaming reply. The record after the last chunk is a whole `Reply`."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[dict[str, Any]]
    heimdall: ChunkFacts

    @property
    def text(self) -> str:
        """What it adds to the first choice: nothing where it is another one's, opens a tool call or only counts tokens."""
        first = next((choice for choice in self.choices if choice.get("index", 0) == 0), {})
        content = (first.get("delta") or {}).get("content")
        return content if isinstance(content, str) else ""


def read_reply(value: bytes | None) -> Reply | ErrorReply | ReplyChunk:
    """What a reply record says. Raises Failure `heimdall_internal` when it is none of the three."""
    try:
        body = orjson.loads(value or b"")
        if body.get("error") is not None:
            return ErrorReply.model_validate(body)
        if body.get("object") == "chat.completion.chunk":
            return ReplyChunk.model_validate(body)
        return Reply.model_validate(body)
    except ValidationError as error:
        why = faults_of(error).text
    except (AttributeError, TypeError, ValueError) as error:
        why = str(error)
    raise Failure(FailureCode.HEIMDALL_INTERNAL, f"this record is no reply: {why}")
