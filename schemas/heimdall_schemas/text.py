"""Values as they stand in records: times and opaque bytes as text."""

import base64
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def rfc3339(unix_ms: int) -> str:
    """Unix milliseconds as RFC 3339 in UTC.

    >>> rfc3339(0)
    '1970-01-01T00:00:00.000Z'
    """
    return f"{_second(unix_ms // 1000)}.{unix_ms % 1000:03d}Z"


@lru_cache(maxsize=64)
def _second(unix_s: int) -> str:
    """Records of one second share all but their milliseconds."""
    return (_EPOCH + timedelta(seconds=unix_s)).replace(tzinfo=None).isoformat(timespec="seconds")


def unix_ms_of(moment: datetime) -> int:
    """A moment with a zone as whole Unix milliseconds; exact, which floating point is not in the year 6000."""
    return (moment - _EPOCH) // _MILLISECOND


def readable(value: bytes) -> str:
    """Opaque bytes, such as a correlation id: printable text stays text, anything else is base64 after `base64:`."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = ""
    return text if text and text.isprintable() else "base64:" + base64.b64encode(value).decode()
