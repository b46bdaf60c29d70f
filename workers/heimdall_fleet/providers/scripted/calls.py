"""The log of every call that reached a scripted provider."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

import orjson

Outcome = Literal["open", "ok", "error", "hang", "cut", "truncated", "error_in_200", "gone"]


@dataclass(slots=True)
class CallRecord:
    """One call. Times are Unix seconds; `key` is a fingerprint. `gone`: the client left before the end.

    Tokens are those that a real provider would have billed: none for an error status.
    """

    request_id: str | None
    provider: str
    model: str
    key: str | None
    stream: bool
    start: float
    end: float | None = None
    status: int | None = None
    outcome: Outcome = "open"
    prompt_tokens: int = 0
    completion_tokens: int = 0


def fingerprint(secret: str) -> str:
    """Twelve hex digits that stand for a key; the key itself is never kept."""
    return hashlib.sha256(secret.encode()).hexdigest()[:12]


class CallLog:
    """All calls in memory, and one JSON line for each ended call where a file is given."""

    def __init__(self, path: Path | None = None) -> None:
        self.calls: list[CallRecord] = []
        self._path = path
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            self._file = self._path.open("ab", buffering=0)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def begin(self, record: CallRecord) -> CallRecord:
        self.calls.append(record)
        return record

    def end(self, record: CallRecord, now_s: float) -> None:
        record.end = now_s
        if self._file is not None:
            self._file.write(orjson.dumps(asdict(record)) + b"\n")

    def to_json(self, since: int) -> bytes:
        """Every call from number `since` on, open ones included."""
        return orjson.dumps({"calls": self.calls[since:]})
