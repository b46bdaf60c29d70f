"""Log lines: JSON for machines, text for people. One event, one line, only fields of a known list.

    log = logging.getLogger(__name__)
    log.info("%s answered 500", provider, extra={"action": "attempt_failed", "request_id": request_id})

`action` is the event's name for machines and never changes with its wording. What libraries log goes through the same
formatter, as action "library", the same message once in 10 s.
"""

import gzip
import logging
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import orjson

from heimdall_fleet.observe.scrub import Scrubber, printable
from heimdall_fleet.observe.seldom import Seldom

if TYPE_CHECKING:
    from heimdall_fleet.config.running import Log as LogSettings
    from heimdall_fleet.config.running import LogFile

FIELDS: tuple[str, ...] = (
    "request_id",
    "correlation_id",
    "model",
    "provider",
    "latency_ms",
    "tokens",
    "cost",
    "cost_usd_micros",
    "tenant",
    "service",
    "bucket",
    "key",
    "state",
    "status",
    "failure",
    "detail_code",
    "attempt",
    "attempts",
    "reason",
    "bundle",
    "catalogue",
    "config",
    "topic",
    "partition",
    "partitions",
    "offset",
    "group",
    "member",
    "lag",
    "count",
    "size_bytes",
    "in_flight",
    "delay",
    "deadline",
    "reply_topic",
    "adapter",
    "signal",
    "exit_code",
    "port",
    "path",
    "version",
    "worker",
    "error_type",
    "error",
    "trace",
    "dropped",
)
"""Every field a line may have. No text of a request, no header, no credential."""

LogValue = str | int | float | bool | Sequence[str] | None

_NAMES = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warn", logging.ERROR: "error"}
_LEVELS = {name: level for level, name in _NAMES.items()}
_KNOWN_FIELDS = frozenset(FIELDS)
_LONGEST_VALUE = 256
_LONGEST_MESSAGE = 1_000
_MOST_ITEMS = 20
_MOST_FRAMES = 8
_OWN = ("heimdall_fleet", "heimdall_models")
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"action", "message", "asctime", "taskName"}
"""What every log record has of its own; whatever else stands in it came by `extra`."""


def configure(settings: "LogSettings", *, secrets: Iterable[str] = (), stream: TextIO | None = None) -> None:
    """Send all logging of the process to one place; calling it again replaces what was set.

    `stream` is for tests and for the CLI's own choice; without it `settings.output` decides.
    Raises OSError when the log file cannot be opened.
    """
    handler = _handler(settings, stream)
    scrubber = Scrubber(secrets)
    handler.setFormatter(JsonFormatter(scrubber) if settings.format == "json" else TextFormatter(scrubber))
    handler.addFilter(Seldom(_OWN))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    level = _LEVELS[settings.level]
    for own in _OWN:
        logging.getLogger(own).setLevel(level)
    # Libraries tell much at info that is of no use to an operator.
    root.setLevel(max(level, logging.WARNING))
    logging.captureWarnings(True)


def keep_out(secrets: Iterable[str]) -> None:
    """Credentials that came after `configure`, from a changed configuration."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, JsonFormatter | TextFormatter):
            handler.formatter.scrubber.learn(secrets)


def _handler(settings: "LogSettings", stream: TextIO | None) -> logging.Handler:
    if stream is None and settings.output == "file":
        return _FileHandler(settings.file)
    return logging.StreamHandler(stream or (sys.stdout if settings.output == "stdout" else sys.stderr))


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, scrubber: Scrubber) -> None:
        super().__init__()
        self.scrubber = scrubber

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "timestamp": _time(record.created),
            "level": _level(record.levelno),
            "action": getattr(record, "action", "library"),
            "message": _message(record, self.scrubber),
            "logger": printable(record.name, _LONGEST_VALUE),
            **_fields(record, self.scrubber),
        }
        return orjson.dumps(line, default=str).decode()


class TextFormatter(logging.Formatter):
    """Time, level in brackets, message, request id, then key=value."""

    def __init__(self, scrubber: Scrubber) -> None:
        super().__init__()
        self.scrubber = scrubber

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(record, self.scrubber)
        request_id = fields.pop("request_id", None)
        parts = [
            _time(record.created),
            f"[{_level(record.levelno).upper()}]",
            _message(record, self.scrubber),
            *([str(request_id)] if request_id else []),
            *(f"{name}={_word(value)}" for name, value in fields.items()),
        ]
        return " ".join(parts)


class _FileHandler(RotatingFileHandler):
    """A file that is put aside when it is large; those put aside are compressed and deleted when they are old."""

    def __init__(self, settings: "LogFile") -> None:
        path = Path(settings.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # The number is only an upper bound; age is what deletes.
        super().__init__(path, maxBytes=settings.max_size_bytes, backupCount=100, encoding="utf-8")
        self._max_age_seconds = settings.max_age.total_seconds()
        self._compress = settings.compress

    def rotation_filename(self, default_name: str) -> str:
        return default_name + ".gz" if self._compress else default_name

    def rotate(self, source: str, dest: str) -> None:
        if self._compress and not source.endswith(".gz"):
            with Path(source).open("rb") as plain, gzip.open(dest, "wb") as packed:
                shutil.copyfileobj(plain, packed)
            Path(source).unlink()
        else:
            Path(source).replace(dest)

    def doRollover(self) -> None:  # noqa: N802 - the name is logging's
        super().doRollover()
        delete_old_logs(Path(self.baseFilename), time.time() - self._max_age_seconds)


def delete_old_logs(log: Path, before: float) -> None:
    """Delete what was put aside from `log` and last written before that time (seconds since 1970)."""
    for old in log.parent.glob(f"{log.name}.*"):
        if old.stat().st_mtime < before:
            old.unlink()


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _level(number: int) -> str:
    return _NAMES[min(max(number // 10 * 10, logging.DEBUG), logging.ERROR)]


def _message(record: logging.LogRecord, scrubber: Scrubber) -> str:
    return scrubber.safe(record.getMessage(), _LONGEST_MESSAGE)


def _fields(record: logging.LogRecord, scrubber: Scrubber) -> dict[str, Any]:
    given = {name: value for name, value in vars(record).items() if name not in _PLAIN}
    known = {name: _value(given[name], scrubber) for name in given if name in _KNOWN_FIELDS}
    if len(known) < len(given):
        known["dropped"] = sorted(printable(name, 40) for name in given if name not in _KNOWN_FIELDS)[:_MOST_ITEMS]
    micros = given.get("cost_usd_micros")
    if isinstance(micros, int):
        known["cost"] = micros / 1e6
    if record.exc_info and record.exc_info[1] is not None:
        known |= _error(record.exc_info[1], scrubber)
    return known


def _value(value: LogValue, scrubber: Scrubber) -> Any:
    if isinstance(value, str):
        return scrubber.safe(value, _LONGEST_VALUE)
    if value is None or isinstance(value, bool | int | float):
        return value if not isinstance(value, int) or abs(value) < 2**63 else str(value)[:_LONGEST_VALUE]
    return [scrubber.safe(str(item), _LONGEST_VALUE) for item in list(value)[:_MOST_ITEMS]]


def _error(error: BaseException, scrubber: Scrubber) -> dict[str, Any]:
    frames: list[str] = []
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append(f"{Path(code.co_filename).name}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return {
        "error_type": type(error).__name__,
        "error": scrubber.safe(str(error), _LONGEST_VALUE),
        "trace": frames[-_MOST_FRAMES:],
    }


def _word(value: object) -> str:
    text = ",".join(value) if isinstance(value, list) else str(value)
    return orjson.dumps(text).decode() if not text or set(text) & set(' "=') else text
