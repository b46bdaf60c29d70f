"""Laying one source of values over another: overlay files, environment variables, flags, defaults of providers."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import yaml

from heimdall_fleet.config.describe import keys_at
from heimdall_fleet.config.document import Tree
from heimdall_fleet.config.interpolate import InterpolationError
from heimdall_fleet.config.issues import Issue, Path, Place, dotted
from heimdall_fleet.config.provider_types import FACTS, canonical_type

RENAMED: Mapping[Path, Path] = {
    ("max_cache_size",): ("cache", "decision", "max_size"),
    ("cache_ttl",): ("cache", "decision", "ttl"),
    ("dispatch", "initial_pool_size"): ("dispatch", "max_in_flight"),
}
"""Keys of the systems before this one, and where their values stand today."""

VARIABLES: Mapping[str, Path] = {
    "HEIMDALL_ALPHA": ("router", "alpha"),
    "HEIMDALL_TIMEOUT": ("timeout",),
    "HEIMDALL_CACHE_SIZE": ("cache", "decision", "max_size"),
    "HEIMDALL_STATE_URL": ("state", "url"),
}
"""Environment variables with a short name."""

_PREFIX = "HEIMDALL__"


def overlay(base: Tree, over: Tree) -> None:
    """Deep merge of `over` into `base`: mappings are merged, everything else (lists too) is replaced."""
    _overlay(base, over, (), over.data)


def _overlay(base: Tree, over: Tree, path: Path, data: Mapping[str, Any]) -> None:
    for key, value in data.items():
        here = (*path, key)
        if isinstance(value, dict) and isinstance(get(base.data, here), dict):
            if here in over.keys:
                base.keys[here] = over.keys[here]
            _overlay(base, over, here, value)
        else:
            put(base, here, value, over.values.get(here))
            _copy_places(base, over, here)


def _copy_places(base: Tree, over: Tree, path: Path) -> None:
    depth = len(path)
    base.keys.update((at, place) for at, place in over.keys.items() if at[:depth] == path)
    base.values.update((at, place) for at, place in over.values.items() if at[:depth] == path)


def get(data: Any, path: Path) -> Any:
    """The value at a path, or None where there is none."""
    for step in path:
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int) and 0 <= step < len(data):
            data = data[step]
        else:
            return None
    return data


def put(tree: Tree, path: Path, value: Any, place: Place | None) -> None:
    """Set the value at a path, making mappings on the way; places of what was there are forgotten."""
    container: Any = tree.data
    for end, step in enumerate(path[:-1], start=1):
        inner = get(container, (step,))
        if not isinstance(inner, dict | list):
            inner = {}
            _assign(container, step, inner)
            if place:
                tree.values[path[:end]] = place
        container = inner
    _assign(container, path[-1], value)
    for places in (tree.keys, tree.values):
        for at in [at for at in places if at[: len(path)] == path]:
            del places[at]
    if place:
        tree.keys[path] = tree.values[path] = place


def _assign(container: Any, step: str | int, value: Any) -> None:
    if isinstance(container, list) and not (isinstance(step, int) and step < len(container)):
        raise InterpolationError(f"there is no item {step}; the list has {len(container)}")
    container[step] = value


def drop(tree: Tree, path: Path) -> Any:
    """Take the value at a path out of the tree and return it; places of it are forgotten."""
    value = get(tree.data, path[:-1]).pop(path[-1])
    for places in (tree.keys, tree.values):
        for at in [at for at in places if at[: len(path)] == path]:
            del places[at]
    return value


def rename_old_keys(tree: Tree) -> list[Issue]:
    """Move values of old keys to where they stand today; both at once is an error."""
    issues: list[Issue] = []
    for old, new in RENAMED.items():
        parent = get(tree.data, old[:-1])
        if not isinstance(parent, dict) or old[-1] not in parent:
            continue
        key, place = tree.place(old, key=True), tree.place(old)
        value = drop(tree, old)
        if get(tree.data, new) is not None:
            message = f"this is the old name of {dotted(new)}, which is set as well"
            issues.append(Issue(dotted(old), message, "keep the new one", key))
        else:
            put(tree, new, value, place)
    return issues


def apply_variables(tree: Tree, env: Mapping[str, str]) -> list[Issue]:
    """Lay `HEIMDALL__SECTION__KEY` and the short names over the tree."""
    issues: list[Issue] = []
    for name in sorted(env):
        if name in VARIABLES:
            put(tree, VARIABLES[name], env[name], Place(f"environment {name}"))
        elif name.startswith(_PREFIX):
            issues += _apply_variable(tree, name, env[name])
    return issues


def _apply_variable(tree: Tree, name: str, text: str) -> list[Issue]:
    place = Place(f"environment {name}")
    path: Path = ()
    for part in name.removeprefix(_PREFIX).split("__"):
        path = (*path, _step_named(tree, path, part))
    try:
        put(tree, path, variable_value(text), place)
    except InterpolationError as error:
        return [Issue(dotted(path), str(error), "", place)]
    return []


def _step_named(tree: Tree, path: Path, part: str) -> str | int:
    container = get(tree.data, path)
    if isinstance(container, list) and part.isdecimal():
        return int(part)
    existing: dict[str, Any] = container if isinstance(container, dict) else {}
    for key in (*existing, *keys_at(path)):
        if _as_variable(key) == part.upper():
            return key
    return part.lower()


def _as_variable(key: str) -> str:
    return "".join(character if character.isalnum() else "_" for character in key).upper()


def variable_value(text: str) -> Any:
    """A variable's text; `null`, and lists and mappings in YAML's flow form, are read as such.

    A credential is never read as anything but text unless it is itself a whole list or mapping.
    """
    if text in ("null", "~"):
        return None
    if text.strip()[:1] in ("[", "{"):
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            return text
    return text


def apply_flags(tree: Tree, flags: Mapping[str, object]) -> None:
    """Lay command-line flags over the tree; a flag that was not given is None."""
    for name, value in flags.items():
        if value is not None:
            put(tree, tuple(name.split(".")), value, Place("command line"))


def fill_providers(tree: Tree, env: Mapping[str, str]) -> None:
    """Give each provider what it does not say itself: `provider_defaults` first, then what its type brings along."""
    providers = tree.data.get("providers")
    if not isinstance(providers, dict):
        return
    for name, provider in providers.items():
        if not isinstance(provider, dict):
            continue
        path: Path = ("providers", name)
        for at, value in _leaves(tree.data.get("provider_defaults"), ()):
            _default(tree, (*path, *at), value, tree.place(("provider_defaults", *at)))
        for at, value in _type_defaults(provider.get("type"), env):
            _default(tree, (*path, *at), value, Place(f"default of type {canonical_type(provider['type'])}"))


def _type_defaults(kind: object, env: Mapping[str, str]) -> Iterator[tuple[Path, object]]:
    for name, facts in FACTS.items():
        if name == canonical_type(kind):
            address = env.get(facts.base_url_variable or "") or facts.base_url
            values: dict[Path, object] = {
                ("base_url",): address,
                ("network", "timeout"): facts.timeout,
            }
            yield from ((path, value) for path, value in values.items() if value is not None)


def _default(tree: Tree, path: Path, value: object, place: Place | None) -> None:
    parent = get(tree.data, path[:-1])
    if parent is None or (isinstance(parent, dict) and path[-1] not in parent):
        put(tree, path, value, replace(place, length=1) if place else None)


def _leaves(data: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _leaves(value, (*path, key))
    elif path:
        yield path, data
