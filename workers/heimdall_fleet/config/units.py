"""Values with units as people write them: durations, money, byte sizes.

Every type reads the written form, keeps an exact one (timedelta, integer micro-dollars, integer bytes) and writes the
written form back, so that `heimdall config show` prints what `heimdall.yaml` may contain.
"""

import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainSerializer, SecretStr, WithJsonSchema

from heimdall_fleet.shown import shown_address

DurationUnit = Literal["ms", "s"]

_MICROSECONDS = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d)")
_DURATION_TEXT = r"^\d+(\.\d+)?$|^(\d+(\.\d+)?(us|ms|s|m|h|d))+$"
_LONGEST = timedelta(days=3650)

_BYTES = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


def parse_duration(value: object, bare: DurationUnit) -> timedelta:
    """Read `25ms`, `5m`, `1h30m`, `30d`; a number without a unit is in `bare`.

    Exact to the microsecond. Raises ValueError for anything else, for negative values and for more than ten years.
    """
    if isinstance(value, timedelta):
        return _checked(value)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("is not a duration; write a number with a unit: 25ms, 15s, 5m, 12h, 30d")
    text = str(value).strip()
    number = _decimal(text)
    if number is not None:
        return _checked(_span(number * _MICROSECONDS[bare]))
    parts = _DURATION.findall(text)
    if not parts or "".join(amount + unit for amount, unit in parts) != text:
        raise ValueError(f"{_shown(text)} is not a duration; write a number with a unit: 25ms, 15s, 5m, 12h, 30d")
    return _checked(_span(sum((Decimal(amount) * _MICROSECONDS[unit] for amount, unit in parts), Decimal(0))))


def format_duration(span: timedelta) -> str:
    """The shortest written form that reads back to the same span: the largest unit that divides it."""
    microseconds = span // timedelta(microseconds=1)
    if microseconds == 0:
        return "0s"
    for unit in ("d", "h", "m", "s", "ms"):
        if microseconds % _MICROSECONDS[unit] == 0:
            return f"{microseconds // _MICROSECONDS[unit]}{unit}"
    return f"{microseconds}us"


def parse_usd(value: object) -> int:
    """US dollars as written, in integer micro-dollars.

    Raises ValueError for what is no number, is negative, or is finer than a micro-dollar (it would be lost silently).
    """
    number = None if isinstance(value, bool) else _decimal(str(value).strip())
    if number is None:
        raise ValueError("is not an amount; write US dollars as a number, such as 1.25")
    micros = number * 1_000_000
    if number < 0 or number > 1_000_000_000:
        raise ValueError(f"{value} USD is out of range; 0 … 1,000,000,000 is allowed")
    if micros != int(micros):
        raise ValueError(f"{value} USD is finer than a micro-dollar; write at most six decimals")
    return int(micros)


def format_usd(micros: int) -> int | float:
    """Micro-dollars as a number of dollars, whole where it is whole."""
    return micros // 1_000_000 if micros % 1_000_000 == 0 else micros / 1_000_000


def parse_bytes(value: object) -> int:
    """Read `1500000`, `100mb` (powers of 1000) or `8MiB` (powers of 1024). Raises ValueError for anything else."""
    match = None if isinstance(value, bool) else _SIZE.fullmatch(str(value).strip().lower())
    if match is None or match[2] not in _BYTES:
        raise ValueError("is not a size; write bytes as a number, or with a unit: 64KiB, 8MiB, 100MB")
    size = Decimal(match[1]) * _BYTES[match[2]]
    if size != int(size):
        raise ValueError(f"{value} is not a whole number of bytes")
    return int(size)


def format_bytes(size: int) -> int | str:
    """The size in the largest binary unit that divides it, else as a number."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return size


def _decimal(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number.adjusted()) < 30 else None


def _span(microseconds: Decimal) -> timedelta:
    if microseconds != int(microseconds):
        raise ValueError("is finer than a microsecond")
    if abs(microseconds) > _MICROSECONDS["d"] * 36_500:
        raise ValueError("is longer than ten years")
    return timedelta(microseconds=int(microseconds))


def _checked(span: timedelta) -> timedelta:
    if not timedelta(0) <= span <= _LONGEST:
        raise ValueError(f"{span} is out of range; 0 … ten years is allowed")
    return span


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")


def _duration(bare: DurationUnit) -> tuple[BeforeValidator, PlainSerializer, WithJsonSchema]:
    def parse(value: Any) -> timedelta:
        return parse_duration(value, bare)

    return _written(parse, format_duration, {"type": ["string", "number"], "pattern": _DURATION_TEXT})


def _written(
    parse: Callable[[Any], Any], write: Callable[[Any], Any], schema: dict[str, Any]
) -> tuple[BeforeValidator, PlainSerializer, WithJsonSchema]:
    return (BeforeValidator(parse), PlainSerializer(write, when_used="json"), WithJsonSchema(schema))


Millis = Annotated[timedelta, *_duration("ms")]
"""A duration; a number without a unit is milliseconds (time-outs and intervals)."""

Seconds = Annotated[timedelta, *_duration("s")]
"""A duration; a number without a unit is seconds (times to live)."""

UsdMicros = Annotated[int, *_written(parse_usd, format_usd, {"type": "number", "minimum": 0})]
"""US dollars in the file, integer micro-dollars in the program."""

Bytes = Annotated[int, *_written(parse_bytes, format_bytes, {"type": ["integer", "string"]})]
"""A size in bytes, with or without a unit."""

SecretUrl = Annotated[SecretStr, PlainSerializer(lambda url: shown_address(url.get_secret_value()), when_used="json")]
"""An address that may carry a password; that part and the query are masked when it is shown."""
