"""Which reservations this worker holds. They are short and renewed while the work goes on, so that the orders of a
worker that died are free again within one lease."""

from typing import TypeAlias

Hold: TypeAlias = tuple[str, str]
"""What is reserved, and the name it is reserved under."""


class Leases:
    """The reservations of the orders that are in work here, by request id.

    `holder` must differ between two lives of one worker: only so is a call that the first one paid known as repeated.
    """

    def __init__(self, holder: str) -> None:
        self.holder = holder
        self._held: dict[str, tuple[Hold, ...]] = {}

    def keep(self, request_id: str, hold: Hold) -> None:
        """Renew `hold` from now on, until the order is let go."""
        self._held[request_id] = (*self._held.get(request_id, ()), hold)

    def let_go(self, request_id: str) -> tuple[Hold, ...]:
        """The order is no longer in work here; what it held."""
        return self._held.pop(request_id, ())

    def of(self, request_id: str) -> tuple[Hold, ...]:
        return self._held.get(request_id, ())

    def all(self) -> list[Hold]:
        return [hold for holds in self._held.values() for hold in holds]
