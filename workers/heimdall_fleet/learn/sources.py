"""Where records come from, as chunks with the position after each. JSON lines here; Kafka in kafka_source.py."""

import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import orjson

CHUNK_BYTES = 1024 * 1024
HEAD_BYTES = 4096

BUFFER_BYTES = 256 * 1024
"""Of a file that is read: with what Python takes by itself, reading lines costs more than twice the time."""


class SourceError(Exception):
    """A source cannot be read as asked. Says which, and what to do."""

    exit_code = 2


class Chunk(NamedTuple):
    """Values in order. `place(n)` names the n-th for people; `done` is the share of the whole range, 0 to 1."""

    values: Sequence[bytes | None]
    place: Callable[[int], str]
    done: float


class Source(Protocol):
    """Something to replay from. What `position` and `ranges` give counts every chunk that was handed out so far."""

    def chunks(self) -> AsyncIterator[Chunk]: ...

    def position(self) -> dict[str, Any]:
        """By name of the part; goes into position.json and comes back when a run resumes."""
        ...

    def ranges(self) -> list[dict[str, Any]]:
        """What was read, for the manifest: source, from, to, records, and `missing` with what that means."""
        ...


@dataclass(slots=True)
class FileSource:
    """JSON lines of `heimdall tail audit --values`, of the demo, or of feedback; also whole `tail -o json` lines.

    A last line without its line end that is no JSON is still being written: it is left for the next run. Raises
    SourceError when a file to go on with is not the one it was.
    """

    paths: Sequence[Path]
    resume_at: Mapping[str, Any] = field(default_factory=dict)
    _at: dict[str, dict[str, Any]] = field(default_factory=dict)
    _ranges: list[dict[str, Any]] = field(default_factory=list)

    async def chunks(self) -> AsyncIterator[Chunk]:
        total = sum(path.stat().st_size for path in self.paths) or 1
        before = 0
        for path in self.paths:
            for chunk, read in self._read(path):
                yield chunk._replace(done=(before + read) / total)
            before += path.stat().st_size

    def position(self) -> dict[str, Any]:
        return dict(self._at)

    def ranges(self) -> list[dict[str, Any]]:
        return self._ranges

    def _read(self, path: Path) -> Iterator[tuple[Chunk, int]]:
        start, line = self._start(path)
        told: dict[str, Any] = {"source": str(path), "from": start, "to": start, "records": 0}
        self._ranges.append(told)
        with path.open("rb", BUFFER_BYTES) as stream:
            stream.seek(start)
            at = start
            while lines := stream.readlines(CHUNK_BYTES):
                if not lines[-1].endswith(b"\n") and not _is_json(lines[-1]):
                    told["unfinished_line"] = line + len(lines) - 1
                    lines = lines[:-1]
                at += sum(map(len, lines))
                first, line = line, line + len(lines)
                self._at[str(path)] = {"bytes": at, "lines": line - 1, **_head(path)}
                told.update(to=at, records=told["records"] + len(lines))
                yield Chunk(lines, _line_of(path, first), 0.0), at

    def _start(self, path: Path) -> tuple[int, int]:
        """Where to begin: bytes and line number."""
        known = self.resume_at.get(str(path))
        if known is None:
            return 0, 1
        head = _head(path, known["head_bytes"])
        if head != {"head": known["head"], "head_bytes": known["head_bytes"]} or path.stat().st_size < known["bytes"]:
            raise SourceError(
                f"{path} is not the file that was read before: it begins otherwise or is shorter; leave out --resume"
            )
        return known["bytes"], known["lines"] + 1


def _line_of(path: Path, first: int) -> Callable[[int], str]:
    return lambda number: f"{path}:{first + number}"


def _head(path: Path, size: int | None = None) -> dict[str, Any]:
    """The beginning of a file, to know it again."""
    with path.open("rb") as stream:
        read = stream.read(HEAD_BYTES if size is None else size)
    return {"head": hashlib.sha256(read).hexdigest(), "head_bytes": len(read)}


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True
