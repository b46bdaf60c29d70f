"""What a call of the client can end with instead of a reply.

HeimdallError
├── CallerError          the request is at fault: mend it, then send again
├── PolicyError          a rule of the fleet or of its operator refuses it
│   ├── Expired          the deadline passed, here or in the fleet
│   ├── Cancelled        the caller cancelled it
│   ├── BudgetExceeded   a budget or `max_cost_usd` leaves no room
│   └── RateLimited      a limit of the fleet on this caller is reached
├── ProviderError        the providers could not answer
└── FleetError           the fleet, or the way to it, is at fault
    ├── Unreachable      the broker cannot be reached
    ├── Closed           the client was closed before the reply came
    └── StreamBroken     a chunk of a stream is missing
"""

from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.reply import ErrorReply, FinalFacts, Reply


class HeimdallError(Exception):
    """A call that ended without an answer.

    `code` is a value of the closed list in `heimdall_schemas.failure`, as text: a newer fleet may send one that this
    client does not know. `retryable` says whether sending the same request again can help. `heimdall` holds the
    fleet's facts (attempts, cost, timings) when the fleet itself ended the call.
    """

    def __init__(
        self, code: str, message: str, *, retryable: bool | None = None, heimdall: FinalFacts | None = None
    ) -> None:
        super().__init__(message)
        self.code = str(code)
        self.message = message
        self.retryable = self.code in _RETRYABLE if retryable is None else retryable
        self.heimdall = heimdall

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class CallerError(HeimdallError):
    """The request is at fault; the message names the field."""


class PolicyError(HeimdallError):
    """A rule of the fleet or of its operator refuses the request."""


class Expired(PolicyError):
    """The deadline passed before an answer was there."""


class Cancelled(PolicyError):
    """The caller cancelled the request."""


class BudgetExceeded(PolicyError):
    """A budget, or the request's own `max_cost_usd`, leaves no room."""


class RateLimited(PolicyError):
    """A limit of the fleet on this caller is reached."""


class ProviderError(HeimdallError):
    """Every provider that may answer failed; `heimdall.attempts` lists the calls."""


class FleetError(HeimdallError):
    """The fleet, or the way to it, is at fault."""


class Unreachable(FleetError):
    """The broker did not answer in time. A request that was being sent may still be in the log."""

    def __init__(self, message: str) -> None:
        super().__init__(FailureCode.HEIMDALL_UNAVAILABLE, message)


class Closed(FleetError):
    """The client was closed before the reply came; the fleet works on."""

    def __init__(self, message: str) -> None:
        super().__init__(FailureCode.HEIMDALL_UNAVAILABLE, message)


class StreamBroken(FleetError):
    """A chunk of a stream is missing. `reply` is the whole reply, when that came nevertheless."""

    def __init__(self, message: str, reply: Reply | None = None) -> None:
        super().__init__(FailureCode.HEIMDALL_INTERNAL, message)
        self.reply = reply


_EXACT: dict[str, type[HeimdallError]] = {
    FailureCode.POLICY_EXPIRED: Expired,
    FailureCode.POLICY_CANCELLED: Cancelled,
    FailureCode.POLICY_BUDGET: BudgetExceeded,
    FailureCode.POLICY_RATE_LIMIT: RateLimited,
}
_DOMAIN: dict[str, type[HeimdallError]] = {
    "caller": CallerError,
    "policy": PolicyError,
    "provider": ProviderError,
    "heimdall": FleetError,
}


def from_reply(reply: ErrorReply) -> HeimdallError:
    """The typed error that an error reply stands for."""
    error = reply.error
    return _class_of(error.code)(error.code, error.message, retryable=error.retryable, heimdall=reply.heimdall)


def from_failure(failure: Failure) -> HeimdallError:
    """The typed error for a request that this process refused before sending it."""
    return _class_of(failure.code)(failure.code, failure.message)


def _class_of(code: str) -> type[HeimdallError]:
    return _EXACT.get(code) or _DOMAIN.get(code.partition("_")[0], FleetError)


_RETRYABLE = frozenset(code.value for code in FailureCode if code.facts.retryable)
