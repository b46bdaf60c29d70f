"""The Python door to a fleet: `async with HeimdallClient(...) as client: await client.complete(...)`.

Works in the bare install: aiokafka, pydantic and orjson.
"""

from heimdall_fleet.client.client import HeimdallClient, Timing
from heimdall_fleet.client.errors import (
    BudgetExceeded,
    CallerError,
    Cancelled,
    Closed,
    Expired,
    FleetError,
    HeimdallError,
    PolicyError,
    ProviderError,
    RateLimited,
    StreamBroken,
    Unreachable,
)
from heimdall_fleet.client.handle import Handle, Stream
from heimdall_fleet.client.outgoing import CallOptions

__all__ = [
    "BudgetExceeded",
    "CallOptions",
    "CallerError",
    "Cancelled",
    "Closed",
    "Expired",
    "FleetError",
    "Handle",
    "HeimdallClient",
    "HeimdallError",
    "PolicyError",
    "ProviderError",
    "RateLimited",
    "Stream",
    "StreamBroken",
    "Timing",
    "Unreachable",
]
