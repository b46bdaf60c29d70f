"""Reading the configuration: defaults → file → overlay of the environment → variables → flags → every check at once."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import get_args

from heimdall_fleet.config.detect import NOTHING_FOUND, detect_providers
from heimdall_fleet.config.document import Tree, read_document
from heimdall_fleet.config.interpolate import Interpolator
from heimdall_fleet.config.issues import ConfigError, Issue, Place, dotted
from heimdall_fleet.config.merge import apply_flags, apply_variables, fill_providers, overlay, put, rename_old_keys
from heimdall_fleet.config.model import Config, Environment
from heimdall_fleet.config.providers import Provider
from heimdall_fleet.config.rules import check
from heimdall_fleet.config.validate import Validated, empty_sections, validate

DEFAULT_FILE = Path("heimdall.yaml")
ENVIRONMENTS: tuple[Environment, ...] = get_args(Environment)
_NO_FLAGS: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that passed every check. `origin` says for each written key where its value comes from.

    `files` are all files it was made from, those of `${file:…}` and an overlay that may still appear included.
    """

    config: Config
    environment: Environment
    warnings: tuple[Issue, ...]
    origin: Mapping[str, str]
    files: tuple[Path, ...]


def find_file(given: Path | None, env: Mapping[str, str]) -> Path | None:
    """The file to read: the one given, else `HEIMDALL_CONFIG`, else `heimdall.yaml` where it exists, else none."""
    if given is not None:
        return given
    if env.get("HEIMDALL_CONFIG"):
        return Path(env["HEIMDALL_CONFIG"])
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def load(path: Path | None, env: Mapping[str, str], flags: Mapping[str, object] = _NO_FLAGS) -> Loaded:
    """Read and check the configuration.

    `path` None takes the defaults. `flags` are dotted keys with the values of command-line options; None: not given.
    Raises ConfigError with all issues: `MISSING_CONFIG` when the file is not there, else `INVALID_CONFIG`.
    """
    environment, issues = _environment(env)
    interpolator = Interpolator(env, path.parent if path else Path())
    tree, files = Tree(), []
    for file in _layers(path, environment):
        files.append(file)
        if file == path or file.exists():
            layer, found = _read(file, interpolator)
            issues += found
            overlay(tree, layer)
    if any(not issue.key for issue in issues):
        raise ConfigError(tuple(issues))
    issues += apply_variables(tree, env)
    apply_flags(tree, flags)
    issues += _providers(tree, env, environment)
    for section in empty_sections(tree.data):
        put(tree, section, {}, tree.place(section))
    fill_providers(tree, env)
    validated = validate(tree)
    issues += [issue for issue in _once(validated.issues) if not _hidden_by(issue, issues)]
    issues += _across_sections(validated, tree, environment)
    ordered = tuple(sorted(issues, key=partial(_position, files)))
    config = validated.config
    if config is None or any(issue.severity == "error" for issue in ordered):
        raise ConfigError(ordered)
    origin = {dotted(at): str(place) for at, place in tree.values.items() if at}
    return Loaded(config, environment, ordered, origin, (*files, *sorted(interpolator.files)))


def require_providers(config: Config) -> Mapping[str, Provider]:
    """The configured or detected providers. Raises ConfigError when there is none: dispatch could do nothing."""
    if not config.providers:
        raise ConfigError((Issue("providers", NOTHING_FOUND),), "MISSING_CONFIG")
    return config.providers


def _environment(env: Mapping[str, str]) -> tuple[Environment, list[Issue]]:
    variable = "ENVIRONMENT" if env.get("ENVIRONMENT") else "ENV"
    name = env.get(variable) or "development"
    if name in ENVIRONMENTS:
        return name, []
    message = f"unknown environment {name[:40]!r}"
    issue = Issue(variable, message, f"set {variable} to {', '.join(ENVIRONMENTS)}", Place(f"environment {variable}"))
    return "development", [issue]


def _layers(path: Path | None, environment: Environment) -> list[Path]:
    return [path, path.with_name(f"{path.stem}.{environment}{path.suffix}")] if path else []


def _read(file: Path, interpolator: Interpolator) -> tuple[Tree, list[Issue]]:
    try:
        reading = read_document(file, interpolator)
    except OSError as error:
        message = f"{file} cannot be read: {error.strerror}"
        hint = "heimdall config init writes one to start from"
        raise ConfigError((Issue("", message, hint),), "MISSING_CONFIG") from error
    return reading.tree, reading.issues + rename_old_keys(reading.tree)


def _providers(tree: Tree, env: Mapping[str, str], environment: str) -> list[Issue]:
    """Without a `providers` section, those that the environment has credentials for."""
    if "providers" in tree.data:
        return []
    found, warnings = detect_providers(env, environment)
    for name, entry in found.items():
        put(tree, ("providers", name), entry, Place("credentials in the environment"))
    return warnings


def _across_sections(validated: Validated, tree: Tree, environment: Environment) -> list[Issue]:
    """What the rules find, but for what they only find because a wrong value counts as not set."""
    if validated.sound is None:
        return []
    return [
        Issue(
            dotted(finding.path),
            finding.message,
            finding.hint,
            tree.place(finding.path) if finding.severity == "error" else tree.values.get(finding.path),
            finding.severity,
        )
        for finding in check(validated.sound, environment)
        if not any(path[: len(finding.path)] == finding.path for path in validated.wrong)
    ]


def _once(issues: Iterable[Issue]) -> Iterator[Issue]:
    """What is wrong in `provider_defaults` is wrong in every provider that takes it from there; it is told once."""
    told: list[tuple[str, Issue]] = []
    for issue in issues:
        section, _, rest = issue.key.partition(".")
        if section == "provider_defaults":
            told.append((f".{rest}", issue))
        elif section == "providers" and any(issue.key.endswith(key) and _alike(issue, other) for key, other in told):
            continue
        yield issue


def _alike(one: Issue, other: Issue) -> bool:
    """The same words about the same line."""
    places = [(issue.place.source, issue.place.line) if issue.place else None for issue in (one, other)]
    return one.message == other.message and places[0] == places[1]


def _hidden_by(issue: Issue, known: list[Issue]) -> bool:
    """A reference that could not be replaced leaves an empty value; complaining about that too helps nobody."""
    return any(other.place is not None and other.place == issue.place for other in known)


def _position(files: list[Path], issue: Issue) -> tuple[int, int, int]:
    names = [str(file) for file in files]
    place = issue.place
    if place is None or place.source not in names:
        return (len(names), 0, 0)
    return (names.index(place.source), place.line, place.column)
