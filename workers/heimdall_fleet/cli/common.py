"""What several commands need: the configuration with its warnings shown, input lines, the training packages."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, ParamSpec, TypeVar

import orjson

from heimdall_fleet.cli.exits import CommandError, Exit
from heimdall_fleet.cli.globals import Globals
from heimdall_fleet.cli.output import note
from heimdall_fleet.config import ConfigError, Loaded, find_file, load, render
from heimdall_schemas.codec import loads

P = ParamSpec("P")
T = TypeVar("T")


def flags_of(options: Globals, more: Mapping[str, object] | None = None) -> dict[str, object]:
    """Command-line options as configuration keys; None is "not given"."""
    return {
        "kafka.bootstrap_servers": options.bootstrap,
        "observe.log.format": options.log_format,
        **(more or {}),
    }


def read_configuration(options: Globals, more: Mapping[str, object] | None = None) -> Loaded:
    """The configuration of this command. Raises ConfigError."""
    return load(find_file(options.config, os.environ), os.environ, flags_of(options, more))


def configuration(options: Globals, more: Mapping[str, object] | None = None) -> Loaded:
    """The configuration of this command, its warnings shown. Raises CommandError (2) with every issue rendered."""
    loaded = valid_configuration(options, more)
    for warning in loaded.warnings:
        note(render(warning))
    return loaded


def valid_configuration(options: Globals, more: Mapping[str, object] | None = None) -> Loaded:
    """As `configuration`, for a worker, which has a log for the warnings."""
    try:
        return read_configuration(options, more)
    except ConfigError as error:
        raise CommandError(Exit.USAGE, "\n".join(render(issue) for issue in error.issues)) from None


def input_lines(file: Path | None) -> Iterator[tuple[int, bytes]]:
    """Numbered lines of FILE, or of standard input for None and `-`; empty lines are passed over."""
    if file is None or str(file) == "-":
        yield from _numbered(sys.stdin.buffer)
        return
    if not file.exists():
        raise CommandError(Exit.NOT_FOUND, f"{file} does not exist")
    try:
        stream = file.open("rb")
    except OSError as error:
        raise CommandError(Exit.USAGE, f"{file} cannot be read: {error.strerror}; name a file of JSON lines") from error
    with stream:
        yield from _numbered(stream)


def _numbered(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    return ((number, line) for number, line in enumerate(stream, 1) if line.strip())


def json_object(number: int, line: bytes) -> dict[str, Any]:
    """The JSON object on a line. Raises CommandError (2) that names the line."""
    try:
        value = loads(line)
    except orjson.JSONDecodeError as error:
        raise CommandError(Exit.USAGE, f"line {number}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CommandError(Exit.USAGE, f"line {number}: a JSON object is needed, one request a line")
    return value


def needs_training_extra(work: Callable[P, T]) -> Callable[P, T]:
    """A missing package becomes a message that says which extra brings it."""

    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return work(*args, **kwargs)
        except ModuleNotFoundError as missing:
            raise CommandError(
                Exit.USAGE, f"this command needs the package {missing.name!r}: pip install 'heimdall-fleet[train]'"
            ) from missing

    return run
