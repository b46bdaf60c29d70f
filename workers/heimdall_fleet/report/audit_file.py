"""Reading audit records from a JSON lines file: one record a line, as `heimdall tail audit` writes them, whole or as values."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

_KINDS = ("decision", "outcome", "shadow")


class AuditFileError(ValueError):
    """A line of an audit file cannot be read. Says which line, and why."""


def read_audit_file(path: Path, refused: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """The records of `path` in order. Raises AuditFileError at a line that is no audit record.

    `refused` takes the errors of the requests that `heimdall decide` refused, by their ids; they are no records.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise AuditFileError(f"{path}:{number}: not JSON: {error}") from error
            if refused is not None and isinstance(record, dict) and record.keys() == {"id", "error"}:
                refused[str(record["id"])] = record["error"]
                continue
            if isinstance(record, dict) and "kind" not in record and isinstance(record.get("value"), dict):
                record = record["value"]
            if not isinstance(record, dict) or record.get("kind") not in _KINDS:
                raise AuditFileError(f"{path}:{number}: no audit record: `kind` is none of {', '.join(_KINDS)}")
            yield record
