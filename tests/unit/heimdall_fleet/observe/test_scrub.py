import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.observe.scrub import Scrubber, printable


@pytest.mark.parametrize(
    "credential",
    [
        "sk-proj-abcdefgh12345678",
        "sk-ant-api03-abcdefgh",
        "gsk_abcdefgh12345678",
        "AIzaSyA1234567890",
        "ya29.a0AfH6SMB1234567",
        "AKIAIOSFODNN7EXAMPLE",
        "xai-abcdefgh12345678",
        "Bearer abcdef.ghijk-1234",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0",
    ],
)
def test_what_looks_like_a_credential_is_taken_out(credential: str) -> None:
    safe = Scrubber().scrub(f"provider said: invalid key {credential}.")
    assert credential.rsplit(maxsplit=1)[-1][4:] not in safe
    assert safe.startswith("provider said: invalid key ")


def test_a_password_in_an_address_is_taken_out() -> None:
    assert Scrubber().scrub("redis://user:pw@host:6379 is down") == "redis://***@host:6379 is down"


def test_a_credential_it_was_told_is_taken_out_whole() -> None:
    assert Scrubber(["abc", "abcdef", ""]).scrub("key=abcdef;abc") == "key=***;***"


@given(st.text(min_size=8, max_size=50), st.integers(min_value=0, max_value=300))
def test_a_credential_at_the_cut_never_leaks_a_part(secret: str, before: int) -> None:
    shown = Scrubber([secret]).safe("-" * before + secret + "-" * 300, 256)
    assert shown.startswith(("-" * before + "***")[:256])


@given(st.text(), st.integers(min_value=1, max_value=50))
def test_shown_text_is_one_printable_line_of_bounded_length(text: str, longest: int) -> None:
    shown = printable(text, longest)
    assert len(shown.splitlines()) <= 1
    assert len(shown) <= longest * 6 + 20
    shown.encode()


def test_ordinary_text_stays_as_it_is() -> None:
    for text in ("provider answered 500", "größer als 5 € – 漢字 🎉", "task-force skips asking"):
        assert Scrubber().safe(text, 256) == text
