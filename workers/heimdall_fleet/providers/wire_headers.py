"""The headers of a call, with the operator's own last."""

from collections.abc import Mapping

from heimdall_fleet.providers.dialect import Call


def wire_headers(call: Call, own: Mapping[str, str], stream_type: str = "text/event-stream") -> dict[str, str]:
    """Lower-case names; `extra_headers` of the configuration replace any of ours."""
    extra = {name.lower(): value for name, value in call.target.extra_headers.items()}
    accept = stream_type if call.stream else "application/json"
    return {"content-type": "application/json", "accept": accept, **own, **extra}
