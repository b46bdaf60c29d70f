"""Which signal of a provider means what: the one table of failed attempts, read from top to bottom, first match wins.

Rules match on machine-readable codes, on the HTTP status and on phrases in the message, in that order of trust. What no
rule knows is decided by its status alone (`STATUSES`), so an unknown code never breaks an attempt. `FAMILY_RULES` go
first for their family, where the same signal means something else there.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from heimdall_fleet.providers.dialect import Action
from heimdall_schemas.failure import FailureCode


@dataclass(frozen=True, slots=True)
class Verdict:
    code: FailureCode
    action: Action
    counts_for_breaker: bool = False
    disable_key: bool = False
    context_overflow: bool = False
    content_policy: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """Matches when every condition that is given holds. Codes and phrases are lower-case."""

    verdict: Verdict
    codes: frozenset[str] = frozenset()
    statuses: frozenset[int | None] = frozenset()
    phrases: tuple[str, ...] = ()
    needs_retry_after: bool = False

    def matches(self, codes: frozenset[str], status: int | None, searched: str, has_retry_after: bool) -> bool:
        return (
            (not self.codes or not self.codes.isdisjoint(codes))
            and (not self.statuses or status in self.statuses)
            and (not self.phrases or any(phrase in searched for phrase in self.phrases))
            and (has_retry_after or not self.needs_retry_after)
        )


_C = FailureCode
_A = Action

OVERFLOW = Verdict(_C.CALLER_CONTEXT_TOO_LONG, _A.OTHER_MODEL, context_overflow=True)
TOO_LARGE = Verdict(_C.CALLER_TOO_LARGE, _A.OTHER_PROVIDER)
REFUSED = Verdict(_C.PROVIDER_REFUSED, _A.FINAL, content_policy=True)
REJECTED = Verdict(_C.PROVIDER_REJECTED, _A.FINAL)
OUT_OF_QUOTA = Verdict(_C.PROVIDER_QUOTA, _A.OTHER_KEY, disable_key=True)
UNPAID = Verdict(_C.PROVIDER_QUOTA, _A.OTHER_PROVIDER, disable_key=True)
LIMITED = Verdict(_C.PROVIDER_RATE_LIMITED, _A.OTHER_KEY)
LIMITED_WAIT = Verdict(_C.PROVIDER_RATE_LIMITED, _A.SAME_KEY)
BAD_KEY = Verdict(_C.PROVIDER_AUTH, _A.OTHER_KEY, disable_key=True)
NOT_ALLOWED = Verdict(_C.PROVIDER_AUTH, _A.OTHER_PROVIDER)
NOT_FOUND = Verdict(_C.PROVIDER_NOT_FOUND, _A.OTHER_PROVIDER)
OVERLOADED = Verdict(_C.PROVIDER_OVERLOADED, _A.OTHER_PROVIDER, counts_for_breaker=True)
BUSY = Verdict(_C.PROVIDER_OVERLOADED, _A.SAME_KEY, counts_for_breaker=True)
SERVER_ERROR = Verdict(_C.PROVIDER_ERROR, _A.SAME_KEY, counts_for_breaker=True)
GONE_WRONG = Verdict(_C.PROVIDER_ERROR, _A.OTHER_PROVIDER, counts_for_breaker=True)
SLOW = Verdict(_C.PROVIDER_TIMEOUT, _A.SAME_KEY, counts_for_breaker=True)
CONFLICT = Verdict(_C.PROVIDER_ERROR, _A.SAME_KEY)


def _codes(words: str) -> frozenset[str]:
    return frozenset(words.split())


def _statuses(*statuses: int | None) -> frozenset[int | None]:
    return frozenset(statuses)


_INVALID = _statuses(400, 413, 422, None)

RULES: tuple[Rule, ...] = (
    # A string over the field's length limit reads like an overflow and is none.
    Rule(REJECTED, _codes("string_above_max_length string_too_long")),
    Rule(OVERFLOW, _codes("context_length_exceeded exceed_context_size_error model_context_window_exceeded")),
    Rule(OVERFLOW, _codes("max_tokens_exceeded token_limit_exceeded")),
    Rule(REFUSED, _codes("content_policy_violation content_filter responsibleaipolicyviolation moderation_flagged")),
    Rule(REFUSED, _codes("refusal safety")),
    Rule(OUT_OF_QUOTA, _codes("insufficient_quota credit_balance_exhausted organization_spend_limit_exceeded")),
    Rule(OUT_OF_QUOTA, _codes("project_spend_limit_exceeded organization_usage_limit_exceeded")),
    Rule(OUT_OF_QUOTA, _codes("billing_hard_limit_reached billing_not_active enforced_spend_limit_reached")),
    Rule(OUT_OF_QUOTA, _codes("contract_spend_limit_reached linked_organization_spend_limit_reached")),
    Rule(UNPAID, _codes("billing_error payment_required")),
    Rule(OVERLOADED, _codes("overloaded_error server_is_overloaded engine_overloaded provider_overloaded")),
    Rule(OVERLOADED, _codes("provider_unavailable serviceunavailableexception modelnotreadyexception unavailable")),
    Rule(OVERLOADED, phrases=("service tier capacity exceeded",)),
    Rule(BUSY, _codes("capacity_exceeded")),
    Rule(LIMITED, _codes("rate_limit_exceeded rate_limit_error slow_down ramp_limit_exceeded resource_exhausted")),
    Rule(LIMITED, _codes("quota_per_day throttlingexception servicequotaexceededexception too_many_requests")),
    Rule(BAD_KEY, _codes("invalid_api_key authentication_error authentication unauthenticated api_key_invalid")),
    Rule(BAD_KEY, _codes("unrecognizedclientexception invalidsignatureexception expiredtokenexception")),
    Rule(BAD_KEY, _codes("account_deactivated api_key_service_blocked consumer_suspended")),
    Rule(BAD_KEY, statuses=_statuses(400, 403), phrases=("api key not valid", "api key expired", "reported as leaked")),
    Rule(NOT_ALLOWED, _codes("unsupported_country_region_territory permission_error permission_denied")),
    Rule(NOT_ALLOWED, _codes("accessdeniedexception")),
    Rule(NOT_FOUND, _codes("model_not_found not_found_error not_found resourcenotfoundexception deploymentnotfound")),
    Rule(NOT_FOUND, _codes("model_decommissioned model_deprecated")),
    Rule(OUT_OF_QUOTA, statuses=_statuses(400, 403, 429), phrases=("credit balance", "usage limit")),
    Rule(
        OVERFLOW,
        statuses=_INVALID,
        phrases=(
            "prompt is too long",
            "exceeds the maximum number of tokens",
            "input is too long",
            "too many input tokens",
            "too many tokens",
            "maximum context length",
            "context length exceeded",
        ),
    ),
    Rule(REFUSED, statuses=_statuses(400, 403), phrases=("content management policy", "safety system", "flagged")),
    Rule(
        NOT_ALLOWED,
        statuses=_statuses(403),
        phrases=("region", "country", "territory", "access to the model", "access to model"),
    ),
    Rule(NOT_ALLOWED, statuses=_statuses(400), phrases=("location is not supported",)),
    # An HTML page with 403 comes from a proxy in front of the provider and says nothing about the key.
    Rule(NOT_ALLOWED, _codes("html"), _statuses(403)),
)

# Generic words that stand beside a status; they decide only where there is none, inside a 200.
CODES_WITHOUT_STATUS: tuple[Rule, ...] = (
    Rule(SLOW, _codes("timeout timeout_error modeltimeoutexception deadline_exceeded")),
    Rule(TOO_LARGE, _codes("payload_too_large request_too_large")),
    Rule(REJECTED, _codes("invalid_request_error invalid_request invalid_prompt invalid_argument unprocessable")),
    Rule(REJECTED, _codes("validationexception precondition_failed failed_precondition")),
)

STATUSES: Mapping[int, Verdict] = {
    401: BAD_KEY,
    402: UNPAID,
    403: BAD_KEY,
    404: NOT_FOUND,
    405: NOT_FOUND,
    408: SLOW,
    409: CONFLICT,
    410: NOT_FOUND,
    413: TOO_LARGE,
    424: SERVER_ERROR,
    425: CONFLICT,
    429: LIMITED,
    498: BUSY,
    499: CONFLICT,
    501: GONE_WRONG,
    503: OVERLOADED,
    504: SLOW,
    524: SLOW,
    529: OVERLOADED,
}

FAMILY_RULES: Mapping[str, tuple[Rule, ...]] = {
    # 498 there: a deny-listed token in the request or the answer.
    "cohere": (Rule(REFUSED, statuses=_statuses(498)),),
    "openrouter": (
        Rule(LIMITED_WAIT, _codes("openrouter_in_flight_budget"), _statuses(402)),
        Rule(LIMITED_WAIT, statuses=_statuses(402), needs_retry_after=True),
    ),
}


def verdict_of_status(status: int | None) -> Verdict:
    """The meaning of a bare status; None is an error inside a 200 that nothing more is known of."""
    if status is None:
        return GONE_WRONG
    if status in STATUSES:
        return STATUSES[status]
    if status >= 500:
        return SERVER_ERROR
    return REJECTED if status >= 400 else GONE_WRONG
