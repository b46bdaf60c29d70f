"""The effective configuration as text: with where each value comes from, as YAML, as JSON. Credentials are masked."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from heimdall_fleet.config.issues import Path, dotted
from heimdall_fleet.config.load import Loaded
from heimdall_fleet.config.model import Config
from heimdall_fleet.shown import shown_value


def as_data(config: Config) -> dict[str, Any]:
    """The whole configuration as plain values in their written form, every credential masked."""
    data: dict[str, Any] = _without_secrets(config.model_dump(mode="json", by_alias=True))
    return data


def as_yaml(config: Config) -> str:
    """The whole configuration as a `heimdall.yaml` (with masked credentials, which would have to be filled in)."""
    return yaml.safe_dump(as_data(config), sort_keys=False, allow_unicode=True, width=110)


def with_origin(loaded: Loaded) -> Iterator[tuple[str, Any, str]]:
    """Each value as (key, value, where it comes from), in the order of the reference."""
    for path, value in _leaves(as_data(loaded.config), ()):
        yield dotted(path), value, _origin(loaded.origin, path)


def _origin(origin: Mapping[str, str], path: Path) -> str:
    for end in range(len(path), 0, -1):
        found = origin.get(dotted(path[:end]))
        # A section written in a file says nothing about a key that it leaves out.
        if found is not None:
            return found if end == len(path) or isinstance(path[end], int) else "default"
    return "default"


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*path, index))
    else:
        yield path, value


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_secrets(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_secrets(inner) for inner in value]
    return shown_value(value)
