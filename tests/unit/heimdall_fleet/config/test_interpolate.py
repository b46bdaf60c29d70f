from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.config.interpolate import InterpolationError, Interpolator

HERE = Path()
names = st.from_regex(r"[A-Z_][A-Z0-9_]{0,10}", fullmatch=True)
plain = st.text(max_size=40).filter(lambda text: "${" not in text)


def replaced(text: str, folder: Path = HERE, **env: str) -> str:
    return Interpolator(env, folder).replace(text)


def test_a_reference_becomes_its_variable() -> None:
    assert replaced("a ${X} b ${Y}", X="1", Y="2") == "a 1 b 2"


def test_a_default_stands_in_for_an_unset_or_empty_variable() -> None:
    assert replaced("${X:-one}") == replaced("${X:-one}", X="") == "one"
    assert replaced("${X:-one}", X="two") == "two"
    assert replaced("${X:-}") == ""


def test_an_unset_variable_without_a_default_is_named() -> None:
    with pytest.raises(InterpolationError, match="OPENAI_API_KEY is not set"):
        replaced("${OPENAI_API_KEY}")


def test_a_file_is_read_without_its_last_newline(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    interpolator = Interpolator({}, tmp_path)
    assert interpolator.replace("${file:secret}") == "s3cret"
    assert interpolator.replace(f"${{file:{tmp_path}/secret}}") == "s3cret"
    assert interpolator.files == {tmp_path / "secret"}


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"x" * 70_000])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    with pytest.raises(InterpolationError, match="secret"):
        replaced("${file:secret}", tmp_path)


@pytest.mark.parametrize("wrong", ["${", "${A", "${A:-${B}}", "${}", "${1A}", "${A B}", "${a-b}"])
def test_a_malformed_reference_is_an_error_and_not_silence(wrong: str) -> None:
    with pytest.raises(InterpolationError):
        replaced(wrong, A="1", B="2")


def test_a_doubled_dollar_is_a_literal_one() -> None:
    assert replaced("$${HOME} costs $5") == "${HOME} costs $5"


@given(plain)
def test_text_without_a_reference_stays_as_it_is(text: str) -> None:
    assert replaced(text) == text


@given(plain.filter(lambda text: not text.endswith("$")), names, st.text(max_size=40))
def test_a_value_is_put_in_as_it_is_and_never_read_again(before: str, name: str, value: str) -> None:
    assert Interpolator({name: value}, HERE).replace(f"{before}${{{name}}}") == before + value
