"""The protocol of object stores, and the one error of all of them."""

from typing import Protocol


class ObjectStoreError(Exception):
    """The object was not stored: what, where, why."""


class ObjectStore(Protocol):
    """Keeps objects under names. A name that is put again is replaced, so putting twice is safe."""

    async def put(self, name: str, value: bytes) -> str:
        """Store `value`; returns the URL it is found at. Raises ObjectStoreError."""
        ...
