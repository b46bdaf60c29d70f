"""Whatever stands in the file or in the environment: a configuration or a ConfigError."""

import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from heimdall_fleet.config import Config, ConfigError, load, render
from heimdall_fleet.config.describe import keys_at

KEYS = sorted({*keys_at(()), *(key for section in keys_at(()) for key in keys_at((section,))), "type", "keys", "value"})
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-5, 10**12)
    | st.floats()
    | st.sampled_from(["", "25ms", "openai", "*", "a/b", "${X}", "${NOPE}", "x" * 300, "localhost:1"])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=8,
)
files = st.dictionaries(st.sampled_from(KEYS), values, max_size=5)
variables = st.dictionaries(
    st.lists(st.sampled_from([*(key.upper() for key in KEYS), "0", ""]), min_size=1, max_size=4).map(
        lambda parts: "HEIMDALL__" + "__".join(parts)
    ),
    st.sampled_from(["", "1", "[", "[1]", "{a: 1}", "null"]),
    max_size=2,
)


def outcome(content: bytes, env: dict[str, str]) -> Config | ConfigError:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "heimdall.yaml"
        path.write_bytes(content)
        try:
            return load(path, env).config
        except ConfigError as error:
            return error


def is_sound(result: Config | ConfigError) -> bool:
    if isinstance(result, Config):
        return True
    errors = [issue for issue in result.issues if issue.severity == "error"]
    return bool(errors) and all(issue.message and render(issue) for issue in result.issues)


@given(files, variables, st.sampled_from(["development", "production"]))
@settings(max_examples=100, deadline=None)
def test_any_values_are_a_configuration_or_an_error_that_can_be_shown(
    data: dict[str, Any], env: dict[str, str], environment: str
) -> None:
    assert is_sound(outcome(yaml.safe_dump(data).encode(), {"X": "y", "ENVIRONMENT": environment, **env}))


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_a_configuration_or_an_error_that_can_be_shown(content: bytes) -> None:
    assert is_sound(outcome(content, {}))
