"""JSON Schemas as the stricter providers take them: closed objects, no references, no bounds.

What a schema may not say there is said in its `description` instead, so the model still knows it.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from heimdall_fleet.providers.shapes import list_of, object_of

_WORDS = """
minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength minItems maxItems uniqueItems
minContains maxContains contains minProperties maxProperties patternProperties propertyNames unevaluatedProperties
unevaluatedItems dependentSchemas dependentRequired not if then else"""
_REFUSED = frozenset(_WORDS.split())
_NOTES = frozenset({"$schema", "$id", "$defs", "definitions", "$comment"})
ANSWER_TOOL = "answer_in_json"
"""The function that stands for a schema where a provider has no structured output of its own."""


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with closed objects, `anyOf` for `oneOf`, references put in, and bounds moved into descriptions."""
    definitions = {**object_of(schema.get("definitions")), **object_of(schema.get("$defs"))}
    value = _closed(dict(schema), definitions, ())
    return value if isinstance(value, dict) else {}


def in_words(schema: Mapping[str, Any] | None) -> str:
    """The instruction that stands in for structured output where even a function is no way."""
    text = "Answer with one JSON object and nothing else: no prose, no code fence."
    return f"{text} It obeys this JSON Schema: {orjson.dumps(schema).decode()}" if schema else text


def _closed(schema: Any, definitions: Mapping[str, Any], inside: tuple[str, ...]) -> Any:
    if not isinstance(schema, dict):
        return schema
    reference = schema.get("$ref")
    if isinstance(reference, str):
        name = reference.rsplit("/", 1)[-1]
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        if name in inside or name not in definitions:
            return {**rest, "description": f"{rest.get('description', '')} ({name})".strip()}
        return _closed({**object_of(definitions[name]), **rest}, definitions, (*inside, name))
    bounds = {key: schema[key] for key in schema if key in _REFUSED}
    kept = {key: value for key, value in schema.items() if key not in _REFUSED and key not in _NOTES}
    if bounds:
        words = ", ".join(f"{key} {orjson.dumps(value).decode()}" for key, value in bounds.items())
        kept["description"] = f"{kept.get('description', '')} ({words})".strip()
    if "oneOf" in kept:
        kept["anyOf"] = [*list_of(kept.get("anyOf")), *list_of(kept.pop("oneOf"))]
    for key in ("anyOf", "allOf", "prefixItems"):
        if key in kept:
            kept[key] = [_closed(each, definitions, inside) for each in list_of(kept[key])]
    if "items" in kept:
        kept["items"] = _closed(kept["items"], definitions, inside)
    if kept.get("type") == "object" or "properties" in kept:
        properties = object_of(kept.get("properties"))
        kept["properties"] = {name: _closed(each, definitions, inside) for name, each in properties.items()}
        kept["additionalProperties"] = False
    return kept
