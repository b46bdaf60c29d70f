"""What differs between two configurations, and the fingerprint of what decides."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson
from pydantic import BaseModel, SecretStr

from heimdall_fleet.config.issues import Path, dotted
from heimdall_fleet.config.model import Config
from heimdall_fleet.shown import shown_value

NEEDS_RESTART: tuple[str, ...] = (
    "kafka",
    "state",
    "observe.metrics",
    "observe.log",
    "limits",
    "embedding",
    "dispatch.max_in_flight",
    "dispatch.max_in_flight_bytes",
    "dispatch.grace",
    "dispatch.account",
    "dispatch.large_replies",
    "dispatch.object_store",
)
"""Parts that a running worker cannot change: connections, the port it listens on, what its readers were built with."""

_DECIDING = (
    "router",
    "models",
    "limits",
    "embedding",
    "timeout",
    "feature_timeout",
    "enable_caching",
    "enable_fallbacks",
    "enable_exploration",
)
_MASK = "**********"


@dataclass(frozen=True, slots=True)
class Change:
    """One value that differs. Credentials are masked; `restart`: a running worker keeps the old one."""

    key: str
    old: Any
    new: Any
    restart: bool

    def __str__(self) -> str:
        later = " (after a restart)" if self.restart else ""
        return f"{self.key}: {_shown(self.old)} → {_shown(self.new)}{later}"


def config_hash(config: Config) -> str:
    """A fingerprint (16 hex digits) of all that a decision depends on; equal in every process, without credentials."""
    data = config.model_dump(mode="json", by_alias=True)
    deciding: dict[str, Any] = {name: data[name] for name in _DECIDING}
    deciding["providers"] = {
        name: {"type": provider["type"], "models": provider["models"]} for name, provider in data["providers"].items()
    }
    return hashlib.sha256(orjson.dumps(deciding, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def diff(old: Config, new: Config) -> tuple[Change, ...]:
    """Every value that differs, in the order of the file. A changed credential counts, though both sides look alike."""
    before, after = dict(_leaves(old, ())), dict(_leaves(new, ()))
    changes: list[Change] = []
    for path in dict.fromkeys((*before, *after)):
        left, right = before.get(path), after.get(path)
        if left != right:
            key = dotted(path)
            changes.append(Change(key, _masked(left), _masked(right), key.startswith(NEEDS_RESTART)))
    return tuple(changes)


def secrets_of(config: Config) -> tuple[str, ...]:
    """Every credential of eight characters or more, for whoever has to keep them out of text.

    Of an address only the password counts.
    """
    values = [leaf.get_secret_value() for _, leaf in _leaves(config, ()) if isinstance(leaf, SecretStr)]
    passwords = [urlsplit(value).password or "" if "://" in value else value for value in values]
    return tuple(dict.fromkeys(value for value in passwords if len(value) >= 8))


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            yield from _leaves(getattr(value, name), (*path, field.alias or name))
    elif isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*path, index))
    else:
        yield path, value


def _masked(value: Any) -> Any:
    return _MASK if isinstance(value, SecretStr) else shown_value(value)


def _shown(value: Any) -> str:
    return "unset" if value is None else str(value)
