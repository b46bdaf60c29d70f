"""Scripted providers: servers that answer by a plan, for tests, the demo and benchmarks."""

from heimdall_fleet.providers.scripted.calls import CallRecord, fingerprint
from heimdall_fleet.providers.scripted.plan import Behaviour, Outage, Plan, Spread
from heimdall_fleet.providers.scripted.server import ScriptedProviders

__all__ = ["Behaviour", "CallRecord", "Outage", "Plan", "ScriptedProviders", "Spread", "fingerprint"]
