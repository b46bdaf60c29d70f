"""The closed list of failures, by the domain at fault.

The same value stands in the reply, the audit record, the metric, the span and the DLQ record. ``retryable`` tells the
*caller* whether sending the same request again can help.

    caller_*    the request is at fault
    policy_*    a rule of the fleet or of its operator refuses it
    provider_*  the providers could not answer
    heimdall_*  the fleet itself is at fault
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class FailureCode(StrEnum):
    CALLER_BAD_REQUEST = "caller_bad_request"
    CALLER_TOO_LARGE = "caller_too_large"
    CALLER_UNAUTHENTICATED = "caller_unauthenticated"
    CALLER_FORBIDDEN = "caller_forbidden"
    CALLER_UNKNOWN_MODEL = "caller_unknown_model"
    CALLER_REPLY_TOPIC = "caller_reply_topic"
    CALLER_CONTEXT_TOO_LONG = "caller_context_too_long"

    POLICY_NO_CANDIDATE = "policy_no_candidate"
    POLICY_BUDGET = "policy_budget"
    POLICY_RATE_LIMIT = "policy_rate_limit"
    POLICY_CONTENT = "policy_content"
    POLICY_EXPIRED = "policy_expired"
    POLICY_CANCELLED = "policy_cancelled"
    POLICY_OVERLOADED = "policy_overloaded"

    PROVIDER_RATE_LIMITED = "provider_rate_limited"
    PROVIDER_OVERLOADED = "provider_overloaded"
    PROVIDER_QUOTA = "provider_quota"
    PROVIDER_AUTH = "provider_auth"
    PROVIDER_NOT_FOUND = "provider_not_found"
    PROVIDER_REJECTED = "provider_rejected"
    PROVIDER_ERROR = "provider_error"
    PROVIDER_TIMEOUT = "provider_timeout"
    PROVIDER_UNREACHABLE = "provider_unreachable"
    PROVIDER_MALFORMED = "provider_malformed"
    PROVIDER_TRUNCATED = "provider_truncated"
    PROVIDER_REFUSED = "provider_refused"
    PROVIDER_TOO_LARGE = "provider_too_large"
    PROVIDER_EXHAUSTED = "provider_exhausted"

    HEIMDALL_FEATURE_EXTRACTION = "heimdall_feature_extraction"
    HEIMDALL_CLASSIFIER = "heimdall_classifier"
    HEIMDALL_BUNDLE = "heimdall_bundle"
    HEIMDALL_CONFIG = "heimdall_config"
    HEIMDALL_REPLY_TOO_LARGE = "heimdall_reply_too_large"
    HEIMDALL_UNAVAILABLE = "heimdall_unavailable"
    HEIMDALL_INTERRUPTED = "heimdall_interrupted"
    HEIMDALL_UNREADABLE = "heimdall_unreadable"
    HEIMDALL_INTERNAL = "heimdall_internal"

    @property
    def facts(self) -> "Facts":
        return FACTS[self]


class ErrorType(StrEnum):
    """The seven error families of the Heimdall API; callers of the older service branch on them."""

    CONFIG = "config"
    TIMEOUT = "timeout"
    AUTH = "auth"
    FEATURE_EXTRACTION = "feature_extraction"
    ML_MODEL = "ml_model"
    NETWORK = "network"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Facts:
    retryable: bool
    http_status: int
    family: ErrorType
    meaning: str


_E = ErrorType
_C = FailureCode

FACTS: Mapping[FailureCode, Facts] = {
    _C.CALLER_BAD_REQUEST: Facts(False, 400, _E.INTERNAL, "the request cannot be read or breaks a rule of its schema"),
    _C.CALLER_TOO_LARGE: Facts(False, 413, _E.INTERNAL, "the request is over a size, depth or count limit"),
    _C.CALLER_UNAUTHENTICATED: Facts(False, 401, _E.AUTH, "no credential, or one that is invalid or expired"),
    _C.CALLER_FORBIDDEN: Facts(False, 403, _E.AUTH, "the caller may not do this"),
    _C.CALLER_UNKNOWN_MODEL: Facts(False, 404, _E.INTERNAL, "no configured provider serves the model asked for"),
    _C.CALLER_REPLY_TOPIC: Facts(False, 400, _E.INTERNAL, "the reply topic or partition is not allowed"),
    _C.CALLER_CONTEXT_TOO_LONG: Facts(False, 400, _E.INTERNAL, "the conversation fits no model that may answer it"),
    _C.POLICY_NO_CANDIDATE: Facts(False, 422, _E.INTERNAL, "every candidate model fell out; the reasons are listed"),
    _C.POLICY_BUDGET: Facts(False, 402, _E.INTERNAL, "a budget or the request's max_cost_usd leaves no room"),
    _C.POLICY_RATE_LIMIT: Facts(True, 429, _E.INTERNAL, "a limit of the fleet on this caller is reached"),
    _C.POLICY_CONTENT: Facts(False, 400, _E.INTERNAL, "a content rule refused the request or the answer"),
    _C.POLICY_EXPIRED: Facts(True, 504, _E.TIMEOUT, "the deadline passed before an answer was there"),
    _C.POLICY_CANCELLED: Facts(False, 499, _E.INTERNAL, "the caller cancelled the request"),
    _C.POLICY_OVERLOADED: Facts(True, 503, _E.INTERNAL, "the fleet sheds load at this door"),
    _C.PROVIDER_RATE_LIMITED: Facts(True, 429, _E.NETWORK, "the provider limits this key"),
    _C.PROVIDER_OVERLOADED: Facts(True, 503, _E.NETWORK, "the provider is over its capacity"),
    _C.PROVIDER_QUOTA: Facts(False, 402, _E.AUTH, "the provider account has no credit or quota left"),
    _C.PROVIDER_AUTH: Facts(False, 401, _E.AUTH, "the provider refused the key"),
    _C.PROVIDER_NOT_FOUND: Facts(False, 404, _E.NETWORK, "the provider does not serve this model"),
    _C.PROVIDER_REJECTED: Facts(False, 400, _E.NETWORK, "the provider refused the request as invalid"),
    _C.PROVIDER_ERROR: Facts(True, 502, _E.NETWORK, "the provider failed with a server error"),
    _C.PROVIDER_TIMEOUT: Facts(True, 504, _E.TIMEOUT, "the provider did not answer in time"),
    _C.PROVIDER_UNREACHABLE: Facts(True, 502, _E.NETWORK, "no connection to the provider"),
    _C.PROVIDER_MALFORMED: Facts(True, 502, _E.NETWORK, "the provider answered something that is not its own format"),
    _C.PROVIDER_TRUNCATED: Facts(True, 502, _E.NETWORK, "the answer ended before its terminal marker"),
    _C.PROVIDER_REFUSED: Facts(False, 400, _E.NETWORK, "the provider's content policy refused the request"),
    _C.PROVIDER_TOO_LARGE: Facts(False, 502, _E.NETWORK, "the answer is over the byte limit of an answer"),
    _C.PROVIDER_EXHAUSTED: Facts(
        True, 503, _E.NETWORK, "every candidate was tried or is closed; the attempts are listed"
    ),
    _C.HEIMDALL_FEATURE_EXTRACTION: Facts(True, 500, _E.FEATURE_EXTRACTION, "features could not be extracted"),
    _C.HEIMDALL_CLASSIFIER: Facts(True, 500, _E.ML_MODEL, "the classifier is missing or failed"),
    _C.HEIMDALL_BUNDLE: Facts(True, 500, _E.ML_MODEL, "a classifier bundle was refused"),
    _C.HEIMDALL_CONFIG: Facts(False, 500, _E.CONFIG, "the configuration is missing or invalid"),
    _C.HEIMDALL_REPLY_TOO_LARGE: Facts(False, 500, _E.INTERNAL, "the answer is larger than a reply record may be"),
    _C.HEIMDALL_UNAVAILABLE: Facts(True, 503, _E.NETWORK, "broker or state cannot be reached"),
    _C.HEIMDALL_INTERRUPTED: Facts(
        True, 503, _E.INTERNAL, "the worker that made a call was lost before it could tell how the call ended"
    ),
    _C.HEIMDALL_UNREADABLE: Facts(
        False, 500, _E.INTERNAL, "a batch of records in Kafka cannot be decoded: its codec, checksum or format"
    ),
    _C.HEIMDALL_INTERNAL: Facts(True, 500, _E.INTERNAL, "a bug of the fleet"),
}


class Failure(Exception):
    """A request ends, or an attempt ends, with a code of the closed list.

    `message` is for people: what, where, why and how to fix it. `context` holds closed-vocabulary details; never prompt
    text, never a credential. `detail_code` is the finer code of the Heimdall API where one exists (``AUTH_MISSING`` …),
    `param` the field of the request that is at fault, as a path.
    """

    def __init__(
        self,
        code: FailureCode,
        message: str,
        *,
        detail_code: str | None = None,
        context: Mapping[str, Any] | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.detail_code = detail_code
        self.context = context
        self.param = param

    def __str__(self) -> str:
        return f"{self.code.facts.family} ({self.detail_code or self.code}): {self.message}"

    def as_error(self) -> dict[str, Any]:
        """The `error` object of a reply: the OpenAI keys and the fleet's own."""
        facts = self.code.facts
        error: dict[str, Any] = {
            "type": facts.family.value,
            "code": self.code.value,
            "message": self.message,
            "param": self.param,
            "retryable": facts.retryable,
            "http_status": facts.http_status,
        }
        if self.detail_code:
            error["detail_code"] = self.detail_code
        if self.__cause__ is not None:
            error["cause"] = f"{type(self.__cause__).__name__}"
        if self.context:
            error["context"] = dict(self.context)
        return error
