"""The JSON Schema of `heimdall.yaml`, for editors and for checks in other languages."""

from typing import Any

from heimdall_fleet.config.merge import RENAMED
from heimdall_fleet.config.model import Config
from heimdall_fleet.config.provider_types import ALIASES

_DESCRIBING: tuple[str, ...] = ("description", "default", "title", "deprecated")
_REFERENCE = {"type": "string", "pattern": r"\$\{"}


def json_schema() -> dict[str, Any]:
    """Draft 2020-12. Says nothing about rules across keys; `heimdall config lint` does."""
    schema = Config.model_json_schema(by_alias=True, mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "heimdall.yaml"
    _accept_aliases(schema)
    for old, new in RENAMED.items():
        properties = _properties(schema, old[:-1])
        properties[str(old[-1])] = {**_properties(schema, new[:-1])[str(new[-1])], "deprecated": True}
    _accept_references(schema)
    return schema


def _properties(schema: dict[str, Any], path: tuple[str | int, ...]) -> dict[str, Any]:
    node = schema
    for step in path:
        node = schema["$defs"][node["properties"][str(step)]["$ref"].rpartition("/")[2]]
    found: dict[str, Any] = node["properties"]
    return found


def _accept_aliases(schema: dict[str, Any]) -> None:
    """Every spelling of a provider's type, each at the class that reads it; and hyphens in the key strategy."""
    special = {"AzureProvider": "azure", "BedrockProvider": "bedrock", "VertexProvider": "vertex"}
    for name, definition in schema["$defs"].items():
        properties = definition.get("properties", {})
        if name == "Provider" or name in special:
            own = special.get(name)
            properties["type"]["enum"] = sorted(
                alias
                for alias, kind in ALIASES.items()
                if kind == own or (own is None and kind not in special.values())
            )
        if "key_strategy" in properties:
            names = properties["key_strategy"]["enum"]
            names += [strategy.replace("_", "-") for strategy in names if "_" in strategy]


def _accept_references(node: Any) -> None:
    """A number, boolean or choice may also be a `${…}` reference, which is replaced before anything is checked."""
    if isinstance(node, list):
        for item in node:
            _accept_references(item)
    elif isinstance(node, dict):
        for key, inner in list(node.items()):
            _accept_references(inner)
            if key == "properties":
                node[key] = {name: _or_reference(value) for name, value in inner.items()}


def _or_reference(value: dict[str, Any]) -> dict[str, Any]:
    kinds = value.get("type")
    if "$ref" in value or (kinds in ("object", "array", "string") and "enum" not in value and "pattern" not in value):
        return value
    described: dict[str, Any] = {key: value[key] for key in _DESCRIBING if key in value}
    rest = {key: inner for key, inner in value.items() if key not in described}
    options = rest.pop("anyOf") if set(rest) == {"anyOf"} else [rest]
    return {**described, "anyOf": [*options, _REFERENCE]}
