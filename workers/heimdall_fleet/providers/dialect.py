"""The types between dispatch and the providers.

A dialect words a canonical call (the OpenAI Chat Completions shape) for one provider family and reads the answer back.
It is pure: no I/O, no waiting. What goes wrong in one attempt is an `AttemptFailure`, whoever notices it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from heimdall_schemas.failure import FailureCode


class Action(StrEnum):
    """What can still help after a failed attempt."""

    SAME_KEY = "same_key"
    OTHER_KEY = "other_key"
    OTHER_PROVIDER = "other_provider"
    OTHER_MODEL = "other_model"
    FINAL = "final"


@dataclass(frozen=True, slots=True)
class AttemptFailure:
    """Why one provider call gave no answer, and what to do next.

    `message` is free of credentials and at most 500 characters. `retry_after_ms` is the provider's own word on when to
    come back; 0 with SAME_KEY means at once, on a fresh connection. `disable_key`: the key is useless until an operator
    acts. `connection_only`: the provider cannot have processed, and so not billed, the call.
    """

    code: FailureCode
    action: Action
    message: str
    status: int | None = None
    retry_after_ms: int | None = None
    disable_key: bool = False
    context_overflow: bool = False
    content_policy: bool = False
    counts_for_breaker: bool = False
    connection_only: bool = False


class AttemptError(Exception):
    """One attempt failed; `failure` says how."""

    def __init__(self, failure: AttemptFailure) -> None:
        super().__init__(f"{failure.code}: {failure.message}")
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Target:
    """Where a call goes: a model as one provider serves it. `max_output`: the most that it can write; `usual_output`: what
    is asked for where the caller names no limit.

    `meta` has the family's own settings (Azure `api_version` and `deployments`, Bedrock `region`, OpenRouter `provider`
    …). `facts` are the catalogue's flags of the model; an absent flag means unknown:

        reasoning  bool          takes a reasoning effort or budget
        efforts    list of str   the efforts it takes
        sampling   bool          takes temperature, top_p, penalties and log probabilities
        stop       bool          takes stop sequences

    `spellings` are other names that the provider has for the model, such as that of a dated snapshot.
    """

    provider: str
    type: str
    base_url: str
    model: str
    model_id: str
    extra_headers: Mapping[str, str]
    meta: Mapping[str, Any]
    max_output: int | None
    facts: Mapping[str, Any]
    usual_output: int | None = None
    spellings: frozenset[str] = frozenset()

    def as_asked(self, name: object) -> "Target":
        """By the name that the caller gave the model, where the provider has it too: who asks for a snapshot gets it."""
        if self.spellings and isinstance(name, str):
            for there in (name, name.rpartition("/")[2]):
                if there in self.spellings:
                    return replace(self, model=there)
        return self


class Call(NamedTuple):
    """One attempt at one target.

    `body` is what the caller sent; its `heimdall` object never reaches the wire. `settings` are the bucket's defaults
    (`reasoning_effort`, `thinking_budget`); an explicit value of the caller wins. `request_id` goes out with the call.
    """

    body: Mapping[str, Any]
    target: Target
    secret: str
    settings: Mapping[str, Any]
    stream: bool
    request_id: str = ""


class WireRequest(NamedTuple):
    """One HTTP request. `dropped` names the parameters of the caller that this target cannot take. `request_id` goes
    out as `x-request-id`; apart from the headers, which are the same for many requests."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    dropped: tuple[str, ...] = ()
    request_id: str = ""


class StreamReader(Protocol):
    """Reads one streamed answer."""

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The canonical `chat.completion.chunk`s that these bytes complete. Raises AttemptError."""
        ...

    def finish(self) -> dict[str, Any]:
        """The whole `chat.completion`. Raises AttemptError, `provider_truncated` without the terminal marker."""
        ...


class Dialect(Protocol):
    """One wire family."""

    def to_wire(self, call: Call) -> WireRequest:
        """The HTTP request of this call."""
        ...

    def from_wire(self, body: bytes, call: Call) -> dict[str, Any]:
        """The canonical `chat.completion` in the body of a 200.

        Raises AttemptError for an error inside it, for what is not this family's format, and for half an answer.
        """
        ...

    def reader(self, call: Call) -> StreamReader:
        """A reader for one streamed answer."""
        ...

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> AttemptFailure:
        """What a status other than 200 means; header names are lower-case."""
        ...
