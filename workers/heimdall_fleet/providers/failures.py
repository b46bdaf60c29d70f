"""From what a provider said, or failed to say, to one `AttemptFailure`.

failure_of_answer   a status other than 2xx with its headers and body
failure_inside      an error object inside a 200 or inside a stream
malformed, truncated   an answer that is not one
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from heimdall_fleet.providers.dialect import Action, AttemptError, AttemptFailure
from heimdall_fleet.providers.error_bodies import QUOTA_PER_DAY, ErrorFacts, read_error, read_error_body
from heimdall_fleet.providers.failure_table import (
    CODES_WITHOUT_STATUS,
    FAMILY_RULES,
    RULES,
    Verdict,
    verdict_of_status,
)
from heimdall_fleet.providers.retry_after import reset_ms, retry_after_ms
from heimdall_schemas.failure import FailureCode

MAX_MESSAGE_CHARS = 500
_KEPT, _KEPT_BYTES = 256, 2_048
"""An outage says the same words to every order; they are read once."""
_MASK = "[secret]"
_MONTHLY_SPEND_LIMIT = "enforced_spend_limit_reached"
_DAY_S = 86_400
_HOUR_MS = 3_600_000
# Daily quotas of Gemini open at midnight Pacific: 8:00 UTC, an hour late while daylight saving holds.
_PACIFIC_MIDNIGHT_S = 8 * 3_600

# The known credential prefixes (longest first where one is the head of another), bearer values and JSON web tokens.
_CREDENTIAL = re.compile(
    r"""(?ix)
    \bbearer\s+[^\s"',;]+
    | (?<![A-Za-z0-9_]) (?:
        sk-[A-Za-z0-9_*.…-]{4,}
        | gsk_[A-Za-z0-9]{6,} | xai-[A-Za-z0-9]{6,} | pplx-[A-Za-z0-9]{6,} | hf_[A-Za-z0-9]{8,}
        | nvapi-[A-Za-z0-9_-]{6,} | fw_[A-Za-z0-9]{8,} | anthropic_[A-Za-z0-9_-]{12,}
        | AIza[A-Za-z0-9_-]{16,} | AQ\.[A-Za-z0-9_-]{10,} | ya29\.[A-Za-z0-9._-]{6,}
        | ABSK[A-Za-z0-9+/=]{12,} | bedrock-api-key-[A-Za-z0-9+/=_-]{6,} | (?:AKIA|ASIA)[A-Z0-9]{12,}
        | eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*
    )
    """
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def failure_of_answer(
    family: str, status: int, headers: Mapping[str, str], body: bytes, now_s: float
) -> AttemptFailure:
    """What an answer with this status means in this family. Header names are lower-case, `now_s` is Unix time."""
    exception = headers.get("x-amzn-errortype", "")
    facts = (_kept_facts if len(body) <= _KEPT_BYTES else read_error_body)(body, exception)
    wait_ms = _wait_ms(facts, headers, status, now_s)
    verdict = _verdict(family, facts, status, wait_ms is not None)
    verdict = _obey(headers.get("x-should-retry", ""), verdict)
    return _failure(verdict, facts, status, wait_ms)


def failure_inside(family: str, error: Any, *, secret: str = "", exception: str = "") -> AttemptFailure:
    """What an error inside a 200, or inside a stream, means. `exception` is the AWS name of a frame's exception."""
    facts = read_error(error, exception)
    wait_ms = retry_after_ms({}, 0.0, facts.delay)
    failure = _failure(_verdict(family, facts, facts.status, wait_ms is not None), facts, facts.status, wait_ms)
    return replace(failure, message=scrub(failure.message, secret))


def malformed(detail: str, *, secret: str = "", status: int | None = 200) -> AttemptError:
    """The provider answered something that is not its own format; `detail` says what was found instead."""
    return AttemptError(
        AttemptFailure(
            FailureCode.PROVIDER_MALFORMED,
            Action.OTHER_PROVIDER,
            scrub(detail, secret),
            status,
            counts_for_breaker=True,
        )
    )


def truncated(detail: str, *, status: int | None = 200) -> AttemptError:
    """The answer ended before its end: a cut stream is a failed attempt, never a short answer."""
    return AttemptError(
        AttemptFailure(
            FailureCode.PROVIDER_TRUNCATED, Action.OTHER_PROVIDER, scrub(detail), status, counts_for_breaker=True
        )
    )


def scrub(text: str, secret: str = "") -> str:
    """One line of at most 500 characters, without `secret` and without whatever begins like a known kind of key."""
    if secret and len(secret) >= 4:
        text = text.replace(secret, _MASK)
    text = _CREDENTIAL.sub(_MASK, _CONTROL.sub(" ", text[: 8 * MAX_MESSAGE_CHARS])).strip()
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"


@lru_cache(maxsize=_KEPT)
def _kept_facts(body: bytes, exception: str) -> ErrorFacts:
    return read_error_body(body, exception)


@lru_cache(maxsize=_KEPT)
def _shown(message: str) -> str:
    return scrub(message)


@lru_cache(maxsize=_KEPT)
def _verdict(family: str, facts: ErrorFacts, status: int | None, has_retry_after: bool) -> Verdict:
    rules = FAMILY_RULES.get(family, ()) + RULES
    if status is None:
        rules += CODES_WITHOUT_STATUS
    for rule in rules:
        if rule.matches(facts.codes, status, facts.searched, has_retry_after):
            return rule.verdict
    return verdict_of_status(status)


def _obey(should_retry: str, verdict: Verdict) -> Verdict:
    """`x-should-retry` overrides what the status alone would mean, for the same key and for nothing else."""
    if should_retry == "false" and verdict.action is Action.SAME_KEY:
        return replace(verdict, action=Action.OTHER_PROVIDER)
    if should_retry == "true" and verdict.code is FailureCode.PROVIDER_REJECTED:
        return replace(verdict, action=Action.SAME_KEY)
    return verdict


def _failure(verdict: Verdict, facts: ErrorFacts, status: int | None, wait_ms: int | None) -> AttemptFailure:
    return AttemptFailure(
        code=verdict.code,
        action=verdict.action,
        message=_shown(facts.message) or f"status {status} without a message",
        status=status,
        retry_after_ms=wait_ms,
        disable_key=verdict.disable_key,
        context_overflow=verdict.context_overflow,
        content_policy=verdict.content_policy,
        counts_for_breaker=verdict.counts_for_breaker,
    )


def _wait_ms(facts: ErrorFacts, headers: Mapping[str, str], status: int, now_s: float) -> int | None:
    """The provider's own word. A quota with a date opens then, and not after the short pause that is told beside it."""
    told_ms = retry_after_ms(headers, now_s, facts.delay)
    if status != 429:
        return told_ms
    dated_ms = _until_the_quota_opens_ms(facts, now_s)
    if dated_ms is not None:
        return max(dated_ms, told_ms or 0)
    return reset_ms(headers, now_s) if told_ms is None else told_ms


def _until_the_quota_opens_ms(facts: ErrorFacts, now_s: float) -> int | None:
    """Until the date that providers have but do not send: midnight Pacific for Gemini's daily quotas, the first of the
    next month UTC for Anthropic's monthly spend limit, and an hour at least: a shorter pause speaks of a rate."""
    if QUOTA_PER_DAY in facts.codes:
        return int((_DAY_S - (now_s - _PACIFIC_MIDNIGHT_S) % _DAY_S) * 1000)
    if _MONTHLY_SPEND_LIMIT in facts.codes:
        now = datetime.fromtimestamp(now_s, UTC)
        first = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
        return max(_HOUR_MS, int((first.timestamp() - now_s) * 1000))
    return None
