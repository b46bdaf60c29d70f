import pytest

from heimdall_fleet.dispatch.ending.no_answer import as_the_attempt, exhausted, nobody_to_ask, too_dear
from heimdall_fleet.providers.dialect import Action, AttemptFailure
from heimdall_schemas.failure import FailureCode

C = FailureCode
SICK = AttemptFailure(C.PROVIDER_ERROR, Action.OTHER_PROVIDER, "it broke", status=500)
FULL = AttemptFailure(C.PROVIDER_REJECTED, Action.OTHER_MODEL, "8192 tokens at most", status=400, context_overflow=True)


@pytest.mark.parametrize(
    ("last", "attempts", "alone", "code"),
    [
        (SICK, 1, True, C.PROVIDER_ERROR),
        (SICK, 1, False, C.PROVIDER_EXHAUSTED),
        (SICK, 2, True, C.PROVIDER_EXHAUSTED),
        (FULL, 3, False, C.CALLER_CONTEXT_TOO_LONG),
    ],
)
def test_a_single_attempt_speaks_for_itself_and_several_are_summed_up(
    last: AttemptFailure, attempts: int, alone: bool, code: FailureCode
) -> None:
    failure = exhausted(last, "m at p", attempts, alone=alone)
    assert failure.code is code
    assert last.message in failure.message


def test_the_failure_of_an_attempt_keeps_its_status_where_it_has_one() -> None:
    assert as_the_attempt(SICK, "m at p").context == {"status": 500}
    assert not as_the_attempt(AttemptFailure(C.PROVIDER_TIMEOUT, Action.OTHER_PROVIDER, "late"), "m at p").context


def test_a_limit_beyond_the_deadline_says_when_to_come_again() -> None:
    limited = AttemptFailure(C.PROVIDER_RATE_LIMITED, Action.OTHER_KEY, "slow down", status=429, retry_after_ms=90_000)
    assert as_the_attempt(limited, "m at p").context == {"status": 429, "retry_after_ms": 90_000}
    summed = exhausted(limited, "m at p", 3, alone=True).context
    assert summed == {"last_failure": C.PROVIDER_RATE_LIMITED, "attempts": 3, "status": 429, "retry_after_ms": 90_000}


@pytest.mark.parametrize(
    ("closed", "words"),
    [
        (True, "until after its deadline; the part `providers` of a dispatch worker's /readyz says which"),
        (False, "none lists the model (`heimdall keys list`), or all are disabled (the part `keys`"),
    ],
)
def test_an_order_that_nobody_could_be_asked_for_says_why(closed: bool, words: str) -> None:
    failure = nobody_to_ask(closed=closed)
    assert failure.code is C.PROVIDER_EXHAUSTED
    assert words in failure.message


def test_an_order_whose_money_is_spent_says_how_much() -> None:
    failure = too_dear(1_234)
    assert (failure.code, failure.context) == (C.POLICY_BUDGET, {"spent_usd_micros": 1_234})
    assert "1234" in failure.message
