"""What the models say about a key: its neighbours, its range, its choices. For messages and for the reference page."""

import types
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from heimdall_fleet.config.issues import Path
from heimdall_fleet.config.model import Config
from heimdall_fleet.config.provider_types import ALIASES, PROVIDER_TYPES
from heimdall_fleet.config.units import UsdMicros, format_duration, format_usd

_USD = get_args(UsdMicros)[1]


@dataclass(frozen=True, slots=True)
class Described:
    """One key. `kind` names its type for people, `allowed` its range or choices ("" where everything goes)."""

    annotation: Any
    field: FieldInfo | None

    @property
    def choices(self) -> tuple[str, ...]:
        return tuple(str(choice) for choice in _choices(self.annotation))

    @property
    def allowed(self) -> str:
        choices = PROVIDER_TYPES if set(PROVIDER_TYPES) <= set(self.choices) else self.choices
        return ", ".join(choices) if choices else _range(_metadata(self.annotation, self.field))


def key_of(name: str, field: FieldInfo) -> str:
    """The key as it stands in the file."""
    return field.alias or name


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every section class an annotation may hold directly (not inside a list or mapping)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Annotated, Union, types.UnionType):
        for part in get_args(annotation):
            yield from models_in(part)


def keys_at(path: Path) -> tuple[str, ...]:
    """The keys that may stand in the mapping at `path`; empty where any key may."""
    found = at(path) if path else Described(Config, None)
    if found is None:
        return ()
    names = (key_of(name, field) for model in models_in(found.annotation) for name, field in model.model_fields.items())
    return tuple(dict.fromkeys(names))


def at(path: Path) -> Described | None:
    """What the models say about the value at `path`, or None where no key of that name exists."""
    found = Described(Config, None)
    for step in path:
        inner = _step(found.annotation, step)
        if inner is None:
            return None
        found = inner
    return found


def suggestion(wrong: str, among: tuple[str, ...]) -> str:
    """`did you mean …?`, or the list where it is short, or nothing."""
    close = get_close_matches(wrong.lower().replace("-", "_"), among, 1, 0.6) or get_close_matches(wrong, among, 1, 0.6)
    if close:
        return f"did you mean {close[0]}?"
    return f"known here: {', '.join(among)}" if 0 < len(among) <= 12 else ""


def elsewhere(key: str) -> str:
    """Where a key of that name does exist, to tell someone who put it into the wrong section."""
    for section, field in Config.model_fields.items():
        for model in models_in(field.annotation):
            if key in (key_of(name, inner) for name, inner in model.model_fields.items()):
                return f"{key} belongs under {section}"
    return f"{key} belongs at the top level" if key in Config.model_fields else ""


def _step(annotation: Any, step: str | int) -> Described | None:
    fields = [
        field
        for model in models_in(annotation)
        for name, field in model.model_fields.items()
        if key_of(name, field) == step
    ]
    if fields:
        # Members of a union may each have the key, as the `meta` of providers.
        return Described(Union[tuple(field.annotation for field in fields)], fields[0])  # noqa: UP007
    container = _container(annotation)
    if container is None:
        return None
    # What it holds: the values of a mapping, the items of a list.
    return Described(get_args(container)[1 if get_origin(container) is dict else 0], None)


def _container(annotation: Any) -> Any:
    """The tuple or dict type inside Annotated and unions, or None."""
    if get_origin(annotation) in (tuple, dict):
        return annotation
    if get_origin(annotation) in (Annotated, Union, types.UnionType):
        for part in get_args(annotation):
            found = _container(part)
            if found is not None:
                return found
    return None


def _choices(annotation: Any) -> Iterator[object]:
    if get_origin(annotation) is Literal:
        choices = get_args(annotation)
        yield from (sorted(ALIASES) if choices == PROVIDER_TYPES else choices)
    elif get_origin(annotation) in (Annotated, Union, types.UnionType):
        for part in get_args(annotation):
            yield from _choices(part)


def _metadata(annotation: Any, field: FieldInfo | None) -> list[Any]:
    own = list(field.metadata) if field else []
    inner = [item for part in _annotated_parts(annotation) for item in part]
    return [item for entry in (*own, *inner) for item in (entry.metadata if isinstance(entry, FieldInfo) else (entry,))]


def _annotated_parts(annotation: Any) -> Iterator[tuple[Any, ...]]:
    if get_origin(annotation) is Annotated:
        yield annotation.__metadata__
    if get_origin(annotation) in (Annotated, Union, types.UnionType):
        for part in get_args(annotation):
            yield from _annotated_parts(part)


def _range(metadata: list[Any]) -> str:
    money = _USD in metadata
    low = high = ""
    for item in metadata:
        if isinstance(item, annotated_types.Ge):
            low = f"{_bound(item.ge, money)} …"
        elif isinstance(item, annotated_types.Gt):
            low = f"above {_bound(item.gt, money)} …"
        elif isinstance(item, annotated_types.Le):
            high = f" {_bound(item.le, money)}"
    if high and not low:
        return f"at most{high}"
    if low and not high:
        return (
            low.replace("above ", "> ").removesuffix(" …") if low.startswith("above") else f"≥ {low.removesuffix(' …')}"
        )
    return low + high


def _bound(value: object, money: bool) -> str:
    if isinstance(value, timedelta):
        return format_duration(value)
    if money and isinstance(value, int):
        return f"{format_usd(value)} USD"
    return f"{value:,}" if isinstance(value, int) else str(value)
