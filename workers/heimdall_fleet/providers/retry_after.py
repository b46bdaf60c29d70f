"""When a provider says to come back, in every spelling that is in use.

retry-after-ms: 250                               milliseconds; wins over retry-after (OpenAI, Azure)
retry-after: 2 | 0.5 | Wed, 21 Oct 2026 07:28:00 GMT
x-ratelimit-reset-requests: 12ms | 6m0s | 1h2m3s  Go durations (OpenAI, Azure, Groq)
x-ratelimit-reset: 1790000000 | 1790000000000     epoch seconds (Cohere), epoch milliseconds (OpenRouter)
anthropic-ratelimit-tokens-reset: 2026-11-21T13:00:00Z
anthropic-ratelimit-unified-reset: 1790000000
retryDelay: "12s" | "3.5s"                        in a Gemini error body
"""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:h|ms|us|µs|ns|m|s))+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|us|µs|ns|m|s)", re.ASCII)
_UNIT_MS = {"h": 3_600_000.0, "m": 60_000.0, "s": 1_000.0, "ms": 1.0, "us": 1e-3, "µs": 1e-3, "ns": 1e-6}
_EPOCH_S = 1e8
_EPOCH_MS = 1e11
_LONGEST_MS = 31 * 86_400_000
_RESET = re.compile(r"(x-ratelimit|anthropic-ratelimit)-(?:(.+)-)?reset(?:-(.+))?")


def retry_after_ms(headers: Mapping[str, str], now_s: float, delay: str | None = None) -> int | None:
    """The wait that was asked for outright, by header or by `delay` from the body. None when nothing readable is there.

    Header names are lower-case; `now_s` is Unix time.
    """
    millis = _number(headers.get("retry-after-ms", ""))
    if millis is not None:
        return _whole(millis)
    for text in (headers.get("retry-after"), delay):
        wait_ms = wait_in(text, now_s) if text else None
        if wait_ms is not None:
            return wait_ms
    return None


def reset_ms(headers: Mapping[str, str], now_s: float) -> int | None:
    """When the rate limit that was hit opens again, from the limit headers of a 429.

    The longest of the limits with nothing remaining; if none says so, the shortest of all.
    """
    spent, all_waits = [], []
    for remaining, text in _resets(headers):
        wait_ms = wait_in(text, now_s)
        if wait_ms is None:
            continue
        all_waits.append(wait_ms)
        if remaining == 0:
            spent.append(wait_ms)
    if spent:
        return max(spent)
    return min(all_waits, default=None)


def _resets(headers: Mapping[str, str]) -> Iterator[tuple[float | None, str]]:
    for name, text in headers.items():
        match = _RESET.fullmatch(name)
        if match:
            family, before, after = match.groups()
            parts = [family, before, "remaining", after]
            yield _number(headers.get("-".join(filter(None, parts)), "")), text


def wait_in(text: str, now_s: float) -> int | None:
    """Milliseconds from `now_s` in any one of the spellings above, at least 0 and at most 31 days."""
    text = text.strip()
    number = _number(text)
    if number is not None:
        if number >= _EPOCH_MS:
            return _whole(number - now_s * 1000)
        return _whole((number - now_s if number >= _EPOCH_S else number) * 1000)
    if _DURATION.fullmatch(text):
        return _whole(sum(float(count) * _UNIT_MS[unit] for count, unit in _DURATION_PART.findall(text)))
    moment = _moment(text)
    return None if moment is None else _whole((moment.timestamp() - now_s) * 1000)


def _moment(text: str) -> datetime | None:
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = parse(text)
        except ValueError:
            continue
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _whole(wait_ms: float) -> int:
    return math.ceil(round(min(max(0.0, wait_ms), _LONGEST_MS), 3))
