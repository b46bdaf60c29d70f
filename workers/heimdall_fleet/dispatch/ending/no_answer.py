"""Why an order ends without an answer: the Failure of each such end, made of plain values."""

from heimdall_fleet.providers.dialect import AttemptFailure
from heimdall_schemas.failure import Failure, FailureCode


def too_late() -> Failure:
    return Failure(FailureCode.POLICY_EXPIRED, "the deadline passed before an answer was there")


def as_the_attempt(failure: AttemptFailure, where: str) -> Failure:
    """The failure of an attempt, at the model and provider `where`, as the failure of the whole order."""
    code = FailureCode.CALLER_CONTEXT_TOO_LONG if failure.context_overflow else failure.code
    return Failure(code, f"{where}: {failure.message}", context=_told(failure))


def _told(failure: AttemptFailure) -> dict[str, int]:
    """What a program can use: the HTTP status, and how long the provider asked to be left alone."""
    told = {"status": failure.status, "retry_after_ms": failure.retry_after_ms}
    return {name: value for name, value in told.items() if value}


def exhausted(last: AttemptFailure, where: str, attempts: int, *, alone: bool, for_good: bool = False) -> Failure:
    """All `attempts` failed, the last one at `where`. `alone`: there was one model at one provider to ask, whose own
    words say most. `for_good`: whoever is left would say the same again, so that nobody shall retry."""
    if last.context_overflow or (attempts == 1 and (alone or for_good)):
        return as_the_attempt(last, where)
    useless = for_good and not last.code.facts.retryable
    return Failure(
        last.code if useless else FailureCode.PROVIDER_EXHAUSTED,
        f"{attempts} attempts failed; the last one, {where}: {last.code}: {last.message}"[:500],
        context={"last_failure": last.code.value, "attempts": attempts, **_told(last)},
    )


def nobody_to_ask(*, closed: bool) -> Failure:
    """Nothing was asked. `closed`: some key could serve the order, but not before its deadline."""
    reason = (
        "every key that could serve this order is closed until after its deadline; the part `providers` of a dispatch "
        "worker's /readyz says which, and for how long"
        if closed
        else "no key can serve any model of this order: none lists the model (`heimdall keys list`), or all are disabled "
        "(the part `keys` of a dispatch worker's /readyz)"
    )
    return Failure(FailureCode.PROVIDER_EXHAUSTED, reason)


def too_dear(spent_usd_micros: int) -> Failure:
    return Failure(
        FailureCode.POLICY_BUDGET,
        f"{spent_usd_micros} micro-dollars are spent and no model that is left fits into the rest of "
        "heimdall.max_cost_usd; raise it, or name lower max_tokens: without any, a usual length is reckoned with",
        context={"spent_usd_micros": spent_usd_micros},
    )
