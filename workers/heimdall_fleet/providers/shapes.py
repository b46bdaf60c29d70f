"""Foreign JSON, taken for what it should be or for nothing."""

from typing import Any


def object_of(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def list_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def text_of(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def place_of(value: Any) -> int | str | None:
    """What may name a place: a number or a text. Lists and objects cannot be looked up anywhere."""
    return value if isinstance(value, int | str) else None
