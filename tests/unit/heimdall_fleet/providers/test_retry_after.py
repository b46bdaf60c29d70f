"""Every spelling of "come back later"."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.providers.retry_after import reset_ms, retry_after_ms, wait_in

NOW_S = 1_795_266_000.0  # Sat, 21 Nov 2026 13:00:00 GMT


@pytest.mark.parametrize(
    ("text", "wait_ms"),
    [
        ("2", 2000),
        ("0.5", 500),
        ("0", 0),
        ("-3", 0),
        ("1e308", 31 * 86_400_000),
        ("9" * 400 + "h", 31 * 86_400_000),
        (" 7 ", 7000),
        ("Sat, 21 Nov 2026 13:00:30 GMT", 30_000),
        ("Sat, 21 Nov 2026 12:59:00 GMT", 0),
        ("12ms", 12),
        ("6m0s", 360_000),
        ("1h2m3s", 3_723_000),
        ("1.5s", 1500),
        ("800us", 1),
        ("12s", 12_000),
        ("3.5s", 3500),
        ("2026-11-21T13:00:10Z", 10_000),
        ("2026-11-21T14:00:10.5+01:00", 10_500),
        ("2026-11-21T13:00:10", 10_000),
        ("1795266005", 5000),
        ("1795266005000", 5000),
        ("9999999", 31 * 86_400_000),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
        ("5 s", None),
    ],
)
def test_a_wait_is_read_in_each_spelling(text: str, wait_ms: int | None) -> None:
    assert wait_in(text, NOW_S) == wait_ms


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    wait_ms = wait_in(text, NOW_S)
    assert wait_ms is None or 0 <= wait_ms <= 31 * 86_400_000


@pytest.mark.parametrize(
    ("headers", "delay", "wait_ms"),
    [
        ({"retry-after": "2"}, None, 2000),
        ({"retry-after-ms": "250", "retry-after": "2"}, None, 250),
        ({"retry-after-ms": "what", "retry-after": "2"}, None, 2000),
        ({"retry-after": "2"}, "12s", 2000),
        ({}, "12s", 12_000),
        ({"x-ratelimit-reset-requests": "1s"}, None, None),
        ({}, None, None),
    ],
)
def test_the_outright_word_of_the_provider_is_found(
    headers: dict[str, str], delay: str | None, wait_ms: int | None
) -> None:
    assert retry_after_ms(headers, NOW_S, delay) == wait_ms


@pytest.mark.parametrize(
    ("headers", "wait_ms"),
    [
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-remaining-requests": "0"}, 1000),
        (
            {
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-requests": "5",
                "x-ratelimit-reset-tokens": "6m0s",
                "x-ratelimit-remaining-tokens": "0",
            },
            360_000,
        ),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, 1000),
        ({"x-ratelimit-reset": "1795266005"}, 5000),
        ({"anthropic-ratelimit-unified-reset": "1795266005", "anthropic-ratelimit-unified-remaining": "0"}, 5000),
        ({"anthropic-ratelimit-tokens-reset": "2026-11-21T13:00:10Z"}, 10_000),
        (
            {
                "anthropic-ratelimit-tokens-reset": "2026-11-21T13:00:10Z",
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2026-11-21T13:00:02Z",
                "anthropic-ratelimit-requests-remaining": "9",
            },
            10_000,
        ),
        ({"x-ratelimit-reset": "?"}, None),
        ({"date": "Sat, 21 Nov 2026 13:00:00 GMT"}, None),
    ],
)
def test_the_limit_that_is_spent_says_when_it_opens(headers: dict[str, str], wait_ms: int | None) -> None:
    assert reset_ms(headers, NOW_S) == wait_ms
