"""Write the published form of the messages: `python -m heimdall_schemas.generate [--check] [FOLDER]`.

FOLDER, by default `schemas`, receives `json/<message>.json`, one JSON Schema (draft 07, which AsyncAPI reads without
being told) for each message, and `asyncapi.json`. The same sources give the same bytes. `--check` writes nothing and
exits with 1 when a file is missing, stale or left over.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from heimdall_schemas.asyncapi import ORDER_HEADERS, document
from heimdall_schemas.audit import Decision, DecisionRecord, OutcomeRecord, ShadowRecord
from heimdall_schemas.control import Cancel, Drift, Feedback, Pointer
from heimdall_schemas.order import Plan
from heimdall_schemas.reply import ErrorReply, Reply, ReplyChunk
from heimdall_schemas.request import Request
from heimdall_schemas.shadow import Shadow
from heimdall_schemas.topics import Topics

DRAFT = "http://json-schema.org/draft-07/schema#"

MESSAGES: Mapping[str, type] = {
    "request": Request,
    "plan": Plan,
    "shadow": Shadow,
    "decision": Decision,
    "reply": Reply,
    "error-reply": ErrorReply,
    "reply-chunk": ReplyChunk,
    "decision-record": DecisionRecord,
    "outcome-record": OutcomeRecord,
    "shadow-record": ShadowRecord,
    "cancel": Cancel,
    "feedback": Feedback,
    "pointer": Pointer,
    "drift": Drift,
}


class _Generator(GenerateJsonSchema):
    schema_dialect = DRAFT


def json_schema(name: str) -> dict[str, Any]:
    """The JSON Schema of one message of `MESSAGES`."""
    made = TypeAdapter(MESSAGES[name]).json_schema(ref_template="#/definitions/{model}", schema_generator=_Generator)
    definitions = made.pop("$defs", {})
    head = {"$schema": DRAFT, "$id": f"urn:heimdall:schema:{name}:v1"}
    return {**head, **made, **({"definitions": definitions} if definitions else {})}


def files(topics: Topics) -> dict[str, str]:
    """Path below the folder to content, for every generated file."""
    schemas: dict[str, Any] = {f"json/{name}.json": json_schema(name) for name in MESSAGES}
    schemas["json/order-headers.json"] = {
        "$schema": DRAFT,
        "$id": "urn:heimdall:schema:order-headers:v1",
        "title": "OrderHeaders",
        **ORDER_HEADERS,
    }
    schemas["asyncapi.json"] = document(topics)
    return {path: json.dumps(schema, indent=2, ensure_ascii=False) + "\n" for path, schema in schemas.items()}


def differences(folder: Path, wanted: Mapping[str, str]) -> list[str]:
    """What stands in `folder` otherwise than it would be generated, one line each."""
    found = [f"{path} is missing" for path in wanted if not (folder / path).exists()]
    found += [
        f"{path} is stale"
        for path, text in wanted.items()
        if (folder / path).exists() and (folder / path).read_text(encoding="utf-8") != text
    ]
    extra = sorted(path.relative_to(folder).as_posix() for path in (folder / "json").glob("*.json"))
    return found + [f"{path} belongs to no message" for path in extra if path not in wanted]


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m heimdall_schemas.generate", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("schemas"))
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is not fresh")
    chosen = parser.parse_args(arguments)
    wanted = files(Topics())
    if chosen.check:
        found = differences(chosen.folder, wanted)
        for line in found:
            print(f"{chosen.folder}: {line}; run python -m heimdall_schemas.generate", file=sys.stderr)
        return 1 if found else 0
    (chosen.folder / "json").mkdir(parents=True, exist_ok=True)
    for path, text in wanted.items():
        (chosen.folder / path).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
