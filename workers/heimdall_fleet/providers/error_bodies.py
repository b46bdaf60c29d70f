"""What an error body says, whichever of the dozen shapes it has.

    {"error": {"message", "type", "param", "code", "innererror": {"code"}}}         OpenAI, Azure, Groq, DeepSeek
    {"error": {"code": 429, "message", "metadata": {"error_type", "raw", …}}}       OpenRouter
    {"type": "error", "error": {"type", "message", "details": {"error_code"}}}      Anthropic
    {"error": {"code": 429, "message", "status", "details": [{"@type", …}]}}        Gemini, Vertex; also inside an array
    {"message"} and the header x-amzn-errortype                                     Bedrock
    {"message"}                                                                     Cohere
    {"object": "error", "message", "type", "param", "code"}, {"detail": [{"msg"}]}  Mistral
    {"error": "text"}                                                               Ollama

Every enumeration is open: a code nobody knows is kept, and then the status decides.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from heimdall_fleet.providers.shapes import list_of, object_of

HTML = "html"
QUOTA_PER_DAY = "quota_per_day"
FLAGGED = "moderation_flagged"
_SNIPPET_BYTES = 2048


@dataclass(frozen=True, slots=True)
class ErrorFacts:
    """Codes are lower-case. `searched` is all text worth searching for phrases; only `message` may be shown."""

    codes: frozenset[str]
    message: str
    searched: str
    status: int | None = None
    delay: str | None = None


def read_error_body(body: bytes, exception: str) -> ErrorFacts:
    """The facts in the body of an error answer; `exception` is an AWS error name. Never raises."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _from_text(body, exception)
    return read_error(value, exception)


def read_error(value: Any, exception: str = "") -> ErrorFacts:
    """The facts in a parsed error, or in an object that holds one under `error`. `exception` is an AWS error name."""
    if isinstance(value, list):
        value = next((item for item in value if isinstance(item, dict)), {})
    if not isinstance(value, dict):
        value = {"message": str(value)}
    inner = value.get("error")
    if isinstance(inner, str):
        inner = {"message": value.get("message") or inner, "code": inner}
    if not isinstance(inner, dict):
        inner = value
    return _from_object(inner, exception)


def _from_object(inner: dict[str, Any], exception: str) -> ErrorFacts:
    metadata = object_of(inner.get("metadata"))
    details = [item for item in list_of(inner.get("details")) if isinstance(item, dict)]
    message = _message(inner)
    codes = {code.lower() for code in _codes(inner, metadata, details, exception)}
    raw = metadata.get("raw")
    return ErrorFacts(
        codes=frozenset(codes),
        message=message,
        searched=f"{message} {raw if isinstance(raw, str) else ''}"[: 2 * _SNIPPET_BYTES].lower(),
        status=next(filter(None, map(_status, (inner.get(name) for name in ("code", "status", "status_code")))), None),
        delay=next((item["retryDelay"] for item in details if isinstance(item.get("retryDelay"), str)), None),
    )


def _status(told: Any) -> int | None:
    """The HTTP status that a body tells as a number, or as the text of one; gateways do both."""
    if isinstance(told, str) and len(told) == 3 and told.isascii() and told.isdigit():
        told = int(told)
    return told if isinstance(told, int) and 400 <= told <= 599 else None


def _codes(
    inner: dict[str, Any], metadata: dict[str, Any], details: list[dict[str, Any]], exception: str
) -> Iterator[str]:
    """Every machine-readable word: of the error, its details, the AWS header, and two that stand for a whole shape."""
    candidates = [
        *(inner.get(name) for name in ("code", "type", "status", "__type")),
        *(metadata.get(name) for name in ("error_type", "provider_code", "limit_source")),
        object_of(inner.get("details")).get("error_code"),
        object_of(inner.get("innererror")).get("code"),
        *(item.get("reason") for item in details),
        exception.split(":", 1)[0],
    ]
    for code in candidates:
        if isinstance(code, str) and code:
            yield code.rsplit("#", 1)[-1]
    if "flagged_input" in metadata:
        yield FLAGGED
    for item in details:
        for violation in list_of(item.get("violations")):
            if isinstance(violation, dict) and "perday" in str(violation.get("quotaId", "")).lower():
                yield QUOTA_PER_DAY


def _message(inner: dict[str, Any]) -> str:
    message = inner.get("message") or inner.get("detail") or inner.get("Message")
    if isinstance(message, dict):
        message = message.get("detail") or message.get("message")
    if isinstance(message, list):
        faults = (f"{_path(item.get('loc'))}: {item.get('msg')}" for item in message if isinstance(item, dict))
        message = "; ".join(faults)
    return message if isinstance(message, str) else ""


def _path(location: Any) -> str:
    return ".".join(map(str, location)) if isinstance(location, list) else "body"


def _from_text(body: bytes, exception: str) -> ErrorFacts:
    text = body[:_SNIPPET_BYTES].decode("utf-8", "replace").strip()
    codes = {exception.split(":", 1)[0].lower()} if exception else set()
    if text[:1] == "<":
        return ErrorFacts(frozenset({*codes, HTML}), "the body is an HTML page", "")
    return ErrorFacts(frozenset(codes), text, text.lower())
