"""What logs, health and commands show of an address."""

import re
from typing import Any

_USER_INFO = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def shown_address(url: str) -> str:
    """`url` without what may be secret in it: user name, password, and the query, where tokens and signatures stand."""
    address, mark, _ = _USER_INFO.sub("***", url).partition("?")
    return f"{address}?***" if mark else address


def shown_value(value: Any) -> Any:
    """A value of the configuration: an address as `shown_address` shows it, any other as it is."""
    return shown_address(value) if isinstance(value, str) and "://" in value else value
