from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.config.document import Reading, parse_document, plain_scalar, read_document
from heimdall_fleet.config.interpolate import Interpolator

# PyYAML writes 1e3 as text without quotes, after YAML 1.1; here it is a number, after 1.2.
texts = st.text().filter(lambda text: "${" not in text and plain_scalar(text) == text)
floats = st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | texts,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abcdef", min_size=1, max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


def read(tmp_path: Path, text: str | bytes, **env: str) -> Reading:
    file = tmp_path / "heimdall.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_document(file, Interpolator(env, tmp_path))


def test_every_key_and_value_has_its_place(tmp_path: Path) -> None:
    tree = read(tmp_path, "router:\n  alpha: 0.7\n  list: [a, bc]\n").tree
    key, value, item = tree.keys["router", "alpha"], tree.values["router", "alpha"], tree.values["router", "list", 1]
    assert (key.line, key.column, key.length) == (2, 3, 5)
    assert (value.line, value.column, value.length) == (2, 10, 3)
    assert (item.line, item.column, item.length) == (3, 13, 2)


def test_scalars_are_those_of_yaml_1_2() -> None:
    text = {"yes": "yes", "on": "on", "12:30": "12:30", "2024-02-15": "2024-02-15", "0123": "0123"}
    assert {written: plain_scalar(written) for written in text} == text
    assert [plain_scalar(written) for written in ("true", "~", "12", "1_000", "0x10", "1e3", "-.5")] == [
        True, None, 12, 1000, 16, 1000.0, -0.5,
    ]  # fmt: skip


def test_a_secret_with_yaml_in_it_cannot_change_the_document(tmp_path: Path) -> None:
    reading = read(tmp_path, "a: ${X}\nb: {c: ${X}}\n".replace("{c: ${X}}", '{c: "${X}"}'), X="1}\nd: [2")
    assert reading.tree.data == {"a": "1}\nd: [2", "b": {"c": "1}\nd: [2"}}


def test_keys_are_interpolated_too(tmp_path: Path) -> None:
    assert read(tmp_path, '"${M}": {price: 1}', M="openai/gpt-5").tree.data == {"openai/gpt-5": {"price": 1}}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", 3, "not YAML"),
        ("a: 1\n\tb: 2\n", 2, "not YAML"),
        ("a: 1\na: 2\n", 2, "twice, first in line 1"),
        ("- a\n- b\n", 1, "not a mapping"),
        ("a: 1\nb: ${NOPE}\n", 2, "NOPE is not set"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", 3, "merge keys"),
        ("a: 1\n[b]: 2\n", 2, "key must be text"),
        (b"a: 1\nb: \xff\n", 2, "not UTF-8"),
        (b"a: 1\nb: \x0b\n", 2, "U+000B is not allowed"),
        ("a: *nowhere\n", 1, "not YAML"),
        ("a: 1\n---\nb: 2\n", 2, "not YAML"),
    ],
)
def test_a_broken_file_is_an_issue_at_its_line(tmp_path: Path, text: str | bytes, line: int, message: str) -> None:
    (issue,) = read(tmp_path, text).issues
    assert message in issue.message
    assert issue.place is not None
    assert issue.place.line == line


@pytest.mark.parametrize(
    "bomb",
    [
        "a: &a [*a]",
        "a: &a {b: *a}",
        "a: " + "[" * 600,
        "a0: &a0 [1,1]\n" + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)),
        "a: " + "x" * 1_100_000,
    ],
)
def test_a_bomb_is_an_issue_in_bounded_time(tmp_path: Path, bomb: str) -> None:
    assert read(tmp_path, bomb).issues


def test_an_empty_file_is_an_empty_configuration(tmp_path: Path) -> None:
    for text in ("", "# nothing\n", "---\n", "\ufeff"):
        assert read(tmp_path, text) == Reading(read(tmp_path, text).tree, [])
        assert read(tmp_path, text).tree.data == {}


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=5), values, max_size=4))
def test_what_yaml_writes_is_read_back(data: dict[str, Any]) -> None:
    reading = parse_document("x.yaml", yaml.safe_dump(data), Interpolator({}, Path()))
    assert not reading.issues
    assert reading.tree.data == data
