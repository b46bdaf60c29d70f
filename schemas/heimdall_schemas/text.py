"""Values as they stand in records: times and opaque bytes as text."""

import base64
from datetime import UTC, datetime


def rfc3339(unix_ms: int) -> str:
    """Unix milliseconds as RFC 3339 in UTC.

    >>> rfc3339(0)
    '1970-01-01T00:00:00.000Z'
    """
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def readable(value: bytes) -> str:
    """Opaque bytes, such as a correlation id: printable text stays text, anything else is base64 after `base64:`."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = ""
    return text if text and text.isprintable() else "base64:" + base64.b64encode(value).decode()
