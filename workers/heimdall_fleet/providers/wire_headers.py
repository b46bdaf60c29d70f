"""The headers of a call, with the operator's own last, and the credentials among them."""

from collections.abc import Mapping

from heimdall_fleet.providers.dialect import Call, WireRequest

_CREDENTIAL_HEADERS = frozenset({"authorization", "x-api-key", "api-key", "x-goog-api-key", "x-amz-security-token"})


def wire_headers(call: Call, own: Mapping[str, str], stream_type: str = "text/event-stream") -> dict[str, str]:
    """Lower-case names; `extra_headers` of the configuration replace any of ours."""
    extra = {name.lower(): value for name, value in call.target.extra_headers.items()}
    accept = stream_type if call.stream else "application/json"
    return {"content-type": "application/json", "accept": accept, **own, **extra}


def masked(body: bytes, request: WireRequest) -> bytes:
    """The body of an answer without the credentials that were sent."""
    for name, value in request.headers.items():
        if name.lower() in _CREDENTIAL_HEADERS and value:
            body = body.replace(value.rsplit(" ", 1)[-1].encode(), b"[secret]")
    return body
