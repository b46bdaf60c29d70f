from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.config.units import (
    format_bytes,
    format_duration,
    format_usd,
    parse_bytes,
    parse_duration,
    parse_usd,
)

spans = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3650))


@pytest.mark.parametrize(
    ("written", "span"),
    [
        ("25ms", timedelta(milliseconds=25)),
        ("15s", timedelta(seconds=15)),
        ("5m", timedelta(minutes=5)),
        ("12h", timedelta(hours=12)),
        ("30d", timedelta(days=30)),
        ("1h30m", timedelta(minutes=90)),
        ("1.5s", timedelta(milliseconds=1500)),
        ("500us", timedelta(microseconds=500)),
        (" 2s ", timedelta(seconds=2)),
    ],
)
def test_a_duration_has_a_unit(written: str, span: timedelta) -> None:
    assert parse_duration(written, "ms") == span


def test_a_bare_number_takes_the_unit_of_its_key() -> None:
    assert parse_duration(15000, "ms") == parse_duration(15, "s") == parse_duration("15", "s") == timedelta(seconds=15)


@pytest.mark.parametrize(
    "wrong", ["abc", "", "5 minutes", "-5s", "5s 3", "s5", "1e400", "nan", "inf", True, None, [], "9999999d", "0.1us"]
)
def test_what_is_no_duration_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"duration|out of range|finer|longer"):
        parse_duration(wrong, "ms")


@given(spans)
def test_a_duration_reads_back_as_it_was_written(span: timedelta) -> None:
    assert parse_duration(format_duration(span), "ms") == span


@given(st.text(max_size=30))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        span = parse_duration(text, "s")
    except ValueError:
        return
    assert timedelta(0) <= span <= timedelta(days=3650)


@pytest.mark.parametrize(("written", "micros"), [(1.25, 1_250_000), ("0.000001", 1), (30, 30_000_000), (0.1, 100_000)])
def test_money_becomes_exact_micro_dollars(written: object, micros: int) -> None:
    assert parse_usd(written) == micros


@pytest.mark.parametrize("wrong", ["-1", -1, "0.0000001", "abc", "nan", "1e30", True, None])
def test_money_that_would_be_wrong_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"amount|out of range|micro-dollar"):
        parse_usd(wrong)


@given(st.integers(min_value=0, max_value=10**13))
def test_money_reads_back_as_it_was_written(micros: int) -> None:
    assert parse_usd(format_usd(micros)) == micros


@pytest.mark.parametrize(
    ("written", "size"), [(5, 5), ("100mb", 10**8), ("8MiB", 8 * 2**20), ("64 KiB", 65536), ("1.5kb", 1500)]
)
def test_a_size_may_have_a_unit(written: object, size: int) -> None:
    assert parse_bytes(written) == size


@pytest.mark.parametrize("wrong", ["-1", "1.5", "8 apples", True, None, ""])
def test_what_is_no_size_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"size|whole number"):
        parse_bytes(wrong)


@given(st.integers(min_value=0, max_value=2**50))
def test_a_size_reads_back_as_it_was_written(size: int) -> None:
    assert parse_bytes(format_bytes(size)) == size
