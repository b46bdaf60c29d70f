"""Makes docs/configuration.md from the models: `python -m heimdall_fleet.config.reference > docs/configuration.md`."""

import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from heimdall_fleet.config.describe import Described, key_of, models_in
from heimdall_fleet.config.issues import dotted
from heimdall_fleet.config.merge import RENAMED, VARIABLES
from heimdall_fleet.config.model import Config
from heimdall_fleet.config.provider_types import ADDRESSLESS, FACTS, PROVIDER_TYPES, ProviderType, TypeFacts
from heimdall_fleet.config.providers import Provider
from heimdall_fleet.config.units import Bytes, Millis, Seconds, UsdMicros, format_bytes, format_duration, format_usd

_INTRODUCTION = """\
# Configuration

<!-- Made by `python -m heimdall_fleet.config.reference`; do not edit by hand. -->

`heimdall.yaml` in the working directory, or the file that `--config` or `HEIMDALL_CONFIG` names. Every key is optional.
`heimdall config init` writes a file to start from, `heimdall config lint` checks one and points at each mistake,
`heimdall config show --origin` prints what is in force and where each value comes from, `heimdall config schema` prints
the JSON Schema for editors.

## Where values come from

Later ones win: defaults → `heimdall.yaml` → `heimdall.<environment>.yaml` beside it → environment variables → flags.

- The environment is `ENVIRONMENT` (or `ENV`): `development` (when unset), `staging` or `production`. In the overlay
  mappings are merged key by key, lists are replaced whole.
- `HEIMDALL__SECTION__KEY` sets any value, such as `HEIMDALL__ROUTER__TOP_P=3` or
  `HEIMDALL__PROVIDERS__OPENAI__KEYS__0__WEIGHT=2`. Characters other than letters and digits are written as `_`. A value
  that begins with `[` or `{` is read as a YAML list or mapping, `null` as nothing, all else as text.
- Anywhere in a file: `${NAME}` is an environment variable (an error when it is not set), `${NAME:-default}` has a
  default for one that is unset or empty, `${file:/run/secrets/x}` is the content of a file (relative to the
  configuration file), `$${` is a literal `${`.

Unknown keys are errors. Merge keys (`<<`) are not read. Scalars follow YAML 1.2: `on` and `12:30` are text.

## How values are written

| kind | examples |
|---|---|
| duration | `25ms`, `15s`, `5m`, `1h30m`, `30d`; a number alone is milliseconds, or seconds for times to live |
| money | US dollars, such as `1.25`; at most six decimals. Prices are per million tokens |
| size | bytes: `1500000`, `100MB` (powers of 1000), `8MiB` (powers of 1024) |

## In production

With `ENVIRONMENT=production`, `enable_observability: false` is refused, and so is `enable_exploration: true` without
`router.exploration.allow_in_production: true`. `router.alpha` below 0.6 is a warning.

## When a file changes

A running worker reads it again (also on SIGHUP), checks it and swaps it in. A bad one is refused, logged and counted,
and the last good one goes on serving. `kafka`, `state`, `limits`, `embedding`, `observe.metrics`, `observe.log`, and of
`dispatch` the keys `max_in_flight`, `max_in_flight_bytes`, `grace`, `account`, `large_replies` and `object_store`, change
at the next start; the log says so of each. What else there is of `providers`, `models`, `router` and `dispatch` serves new
requests at once, new providers too; those under way end by the old one.

## Keys
"""

_TYPES = """\
## Types of providers

The variables are read when the file has no `providers` section. Then these are read as well:

- OpenAI and Anthropic: `OPENAI_PROD_KEY`, `OPENAI_PROD_KEY_1`, `OPENAI_PROD_KEY_2`, `ANTHROPIC_PROD_KEY` in production,
  `OPENAI_STAGING_KEY`, `ANTHROPIC_STAGING_KEY` in staging, before the plain ones.
- Bedrock: `AWS_ACCESS_KEY_ID` with `AWS_SECRET_ACCESS_KEY`; `AWS_REGION`, `AWS_SESSION_TOKEN`, `BEDROCK_ARN`.
- Azure: `AZURE_OPENAI_API_KEY` with `AZURE_OPENAI_ENDPOINT`; `AZURE_OPENAI_API_VERSION`.
- Vertex: `VERTEX_PROJECT_ID` with `VERTEX_AUTH_CREDENTIALS` or `GOOGLE_APPLICATION_CREDENTIALS`.

"""

_UNITS: tuple[tuple[Any, str], ...] = (
    (get_args(Millis)[1], "duration (ms)"),
    (get_args(Seconds)[1], "duration (s)"),
    (get_args(UsdMicros)[1], "USD"),
    (get_args(Bytes)[1], "size"),
)
_KINDS: Mapping[Any, str] = {
    dict: "mapping",
    tuple: "list",
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "text",
    SecretStr: "secret",
}


def reference() -> str:
    """The whole page."""
    parts = [_INTRODUCTION, _table(Config)]
    parts += [
        f"### `{section.place}`\n\n{section.meaning}\n\n{_table(section.model)}"
        for section in _sections("", Config, set())
    ]
    parts += [_types_table(), _variables_table(), _renamed_table()]
    return "\n".join(parts)


@dataclass(frozen=True, slots=True)
class _Section:
    """A section class at the place where it stands first; `<name>` stands for a key of one's own choice."""

    place: str
    model: type[BaseModel]
    meaning: str


def _sections(place: str, model: type[BaseModel], shown: set[type[BaseModel]]) -> Iterator[_Section]:
    for name, field in model.model_fields.items():
        suffix, annotation = _inside(field.annotation)
        for inner in models_in(annotation):
            here = f"{place}.{key_of(name, field)}{suffix}".lstrip(".")
            variant = inner.__name__.removesuffix("Provider")
            if issubclass(inner, Provider) and inner is not Provider:
                here += f" (type {variant.lower()})"
            if inner not in shown:
                shown.add(inner)
                yield _Section(here, inner, _text(inner.__dict__.get("__doc__") or field.description))
                yield from _sections(here, inner, shown)


def _inside(annotation: Any) -> tuple[str, Any]:
    """What a mapping or list holds, and how that is written in a place."""
    origin = get_origin(annotation)
    if origin is dict:
        return ".<name>", get_args(annotation)[1]
    return ("[]", get_args(annotation)[0]) if origin is tuple else ("", annotation)


def _table(model: type[BaseModel]) -> str:
    inherited = {name for parent in model.__mro__[1:] for name in getattr(parent, "model_fields", {})}
    rows = [_row(name, field) for name, field in model.model_fields.items() if name not in inherited]
    return "| key | value | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _row(name: str, field: FieldInfo) -> str:
    described = Described(field.annotation, field)
    kind = _marked(field.metadata) or _kind(field.annotation)
    allowed = described.allowed if kind != "section" else ""
    value = f"{kind}: {allowed}" if allowed and kind else allowed or kind
    return (
        f"| `{key_of(name, field)}` | {_cell(value)} | {_cell(_default(field))} | {_cell(_text(field.description))} |"
    )


def _marked(metadata: Iterable[Any]) -> str:
    """The name of a type with units, from what its annotation carries."""
    return next((name for marker, name in _UNITS if marker in metadata), "")


def _kind(annotation: Any) -> str:
    origin = get_origin(annotation)
    if any(models_in(annotation)):
        return "section"
    if origin is Annotated:
        return _marked(annotation.__metadata__) or _kind(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return next(kind for part in get_args(annotation) if part is not type(None) for kind in [_kind(part)])
    return _KINDS.get(origin or annotation, "")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        return ""
    return "unset" if value is None else f"`{_written(value, field)}`"


def _written(value: Any, field: FieldInfo) -> str:
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if get_args(UsdMicros)[1] in field.metadata:
        return str(format_usd(value))
    if get_args(Bytes)[1] in field.metadata:
        return str(format_bytes(value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)


def _types_table() -> str:
    rows = [_type_row(name, FACTS[name]) for name in PROVIDER_TYPES]
    return _TYPES + "| type | other spellings | address | key |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _type_row(name: ProviderType, facts: TypeFacts) -> str:
    address = facts.base_url or ("required" if name in ADDRESSLESS else "by `meta`")
    return f"| `{name}` | {_names(facts.aliases)} | {address} | {_names(facts.key_variables)} |"


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _variables_table() -> str:
    rows = [f"| `{name}` | `{dotted(path)}` |" for name, path in VARIABLES.items()]
    rows.append("| `OPENROUTER_BASE_URL` | `base_url` of providers of type `openrouter` that do not set it |")
    return "## Short environment variables\n\n| variable | sets |\n|---|---|\n" + "\n".join(rows) + "\n"


def _renamed_table() -> str:
    rows = [f"| `{dotted(old)}` | `{dotted(new)}` |" for old, new in RENAMED.items()]
    return "## Former names\n\nStill read.\n\n| former | now |\n|---|---|\n" + "\n".join(rows) + "\n"


def _text(text: str | None) -> str:
    return " ".join((text or "").split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference())
