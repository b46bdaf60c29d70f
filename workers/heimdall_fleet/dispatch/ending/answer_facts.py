"""What an answer shows of its own worth, for the audit: how it ended, whether it declined, whether it keeps its schema.

The learning loop reads these as weak rewards (docs/learning.md). Nothing of the text itself is kept.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from heimdall_fleet.providers.shapes import list_of, object_of

DECLINING = (
    "i can't help",
    "i cannot help",
    "i can't assist",
    "i cannot assist",
    "i'm sorry, but i can",
    "i am sorry, but i can",
    "i'm unable to",
    "i am unable to",
    "i won't be able to",
    "i can't comply",
    "i cannot comply",
    "i must decline",
)
"""Openings of an answer that declines, where the provider does not say so itself. English only: a weak sign."""

_OPENING_CHARS = 80
_DEEPEST = 64

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}


def answer_facts(answer: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """`finish_reason`, `refused` and `schema_valid` (null where no structured output was asked for) of a canonical
    completion, which has at least one choice."""
    choice = answer["choices"][0]
    message, reason = choice["message"], choice["finish_reason"]
    return {
        "finish_reason": reason,
        "refused": reason == "content_filter" or bool(message.get("refusal")) or _declines(message.get("content")),
        "schema_valid": _schema_valid(message, object_of(body["response_format"]))
        if "response_format" in body
        else None,
    }


def _declines(content: Any) -> bool:
    if not isinstance(content, str):
        return False
    return content[:_OPENING_CHARS].lstrip().lower().replace("’", "'").startswith(DECLINING)


def _schema_valid(message: Mapping[str, Any], asked: Mapping[str, Any]) -> bool | None:
    content = message.get("content")
    if asked.get("type") not in ("json_object", "json_schema") or not isinstance(content, str):
        return None
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return False
    schema = object_of(object_of(asked.get("json_schema")).get("schema"))
    return keeps_to(value, schema, schema) if schema else isinstance(value, dict)


def keeps_to(value: Any, schema: Any, root: Mapping[str, Any], depth: int = 0) -> bool:
    """Whether `value` has the shape of a JSON Schema: type, enum, const, required, properties, additionalProperties,
    items, anyOf, allOf and references inside it. Bounds and patterns are not looked at."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return schema is not False
    reference = schema.get("$ref")
    if isinstance(reference, str) and not keeps_to(value, _resolved(reference, root), root, depth + 1):
        return False
    if not _right_type(value, schema.get("type")) or ("enum" in schema and value not in list_of(schema["enum"])):
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if "anyOf" in schema and not any(keeps_to(value, each, root, depth + 1) for each in list_of(schema["anyOf"])):
        return False
    return (
        all(keeps_to(value, each, root, depth + 1) for each in list_of(schema.get("allOf")))
        and (not isinstance(value, dict) or _members_keep(value, schema, root, depth))
        and (not isinstance(value, list) or all(keeps_to(v, schema.get("items"), root, depth + 1) for v in value))
    )


def _right_type(value: Any, names: Any) -> bool:
    if names is None:
        return True
    wanted = [names] if isinstance(names, str) else list_of(names)
    if isinstance(value, bool):
        return "boolean" in wanted
    return any(isinstance(value, _TYPES.get(str(name), ())) for name in wanted)


def _members_keep(value: Mapping[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> bool:
    properties = object_of(schema.get("properties"))
    others = schema.get("additionalProperties", True)
    return all(name in value for name in list_of(schema.get("required"))) and all(
        keeps_to(each, properties.get(name, others), root, depth + 1) for name, each in value.items()
    )


def _resolved(reference: str, root: Mapping[str, Any]) -> Any:
    """The part of the schema that `#/$defs/Name` points at; anything else says nothing."""
    found: Any = root
    for step in reference.lstrip("#").strip("/").split("/") if reference.startswith("#") else ():
        found = object_of(found).get(step, {}) if step else found
    return found if reference.startswith("#") else {}
