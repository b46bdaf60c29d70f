"""Data on stdout as JSON; everything else on stderr."""

import sys
from typing import Any

import orjson


def data(value: Any) -> None:
    """One JSON value, on one line, on stdout."""
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY))
    sys.stdout.buffer.flush()


def pretty(value: Any) -> None:
    """One JSON value for people, indented, on stdout."""
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_INDENT_2))
    sys.stdout.buffer.flush()


def note(text: str) -> None:
    """Progress, tables, hints: stderr."""
    print(text, file=sys.stderr, flush=True)
