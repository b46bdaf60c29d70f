"""What an OpenAI-compatible server answered, in the canonical shape. The parsed JSON is changed in place."""

from collections.abc import Mapping
from typing import Any

import orjson

from heimdall_fleet.providers.dialect import AttemptError, Call
from heimdall_fleet.providers.failures import failure_inside, malformed, truncated
from heimdall_fleet.providers.shapes import list_of, object_of, text_of
from heimdall_fleet.providers.usage import usage_of_openai

FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
_OTHER_NAMES: Mapping[str, str] = {"model_length": "length", "eos": "stop", "end_turn": "stop", "max_tokens": "length"}


def completion_of(body: bytes, call: Call, now_s: float) -> dict[str, Any]:
    """The canonical `chat.completion` in `body`. Raises AttemptError for anything else."""
    answer = parsed(body, call)
    raise_error_inside(answer, call)
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        raise malformed("the answer has no choices", secret=call.secret)
    for index, choice in enumerate(choices):
        _whole_choice(index, choice, call)
    usage = usage_of_openai(answer.get("usage") or object_of(answer.get("x_groq")).get("usage"))
    answer.pop("usage", None)
    answer.pop("x_groq", None)
    set_head(answer, "chat.completion", call, now_s)
    if usage is not None:
        answer["usage"] = usage
    return answer


def parsed(body: bytes, call: Call) -> dict[str, Any]:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        start = body.lstrip()[:1]
        if start in (b"{", b"[") and error.pos >= len(error.doc) - 1:
            raise truncated("the JSON of the answer ends in the middle") from error
        kind = "an HTML page" if start == b"<" else "not JSON" if body.strip() else "empty"
        raise malformed(f"the answer is {kind}", secret=call.secret) from error
    if isinstance(answer, list) and answer:  # how Gemini and Vertex send an error to who asked for a stream
        raise_error_inside(object_of(answer[0]), call)
    if not isinstance(answer, dict):
        raise malformed(f"the answer is a JSON {type(answer).__name__}, not an object", secret=call.secret)
    return answer


def raise_error_inside(answer: dict[str, Any], call: Call) -> None:
    """Raise AttemptError when this object of a 200 is an error, or carries one."""
    if answer.get("error") or answer.get("object") == "error":
        raise AttemptError(failure_inside(call.target.type, answer, secret=call.secret))


def set_head(answer: dict[str, Any], kind: str, call: Call, now_s: float) -> None:
    """Identity of a completion or chunk: the model is the canonical `author/model`, whatever its name there."""
    answer["object"] = kind
    answer["model"] = call.target.model_id
    if not isinstance(answer.get("id"), str):
        answer["id"] = f"chatcmpl-{int(now_s * 1000):x}"
    if not isinstance(answer.get("created"), int):
        answer["created"] = int(now_s)


def _whole_choice(index: int, choice: Any, call: Call) -> None:
    if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
        raise malformed(f"choice {index} of the answer has no message", secret=call.secret)
    message = choice["message"]
    normalise_texts(message, call)
    message["role"] = "assistant"
    message.setdefault("content", None)
    message.setdefault("refusal", None)
    tools = list_of(message.pop("tool_calls", None))
    if tools:
        message["tool_calls"] = [_tool_call(n, tool, call) for n, tool in enumerate(tools)]
    set_index(choice, index)
    choice.setdefault("logprobs", None)
    set_finish_reason(choice, call)
    if choice["finish_reason"] is None:
        raise malformed(f"choice {index} of the answer has no finish_reason", secret=call.secret)
    if choice["finish_reason"] == "stop" and message.get("tool_calls"):
        choice["finish_reason"] = "tool_calls"


def set_finish_reason(choice: dict[str, Any], call: Call) -> None:
    """The canonical reason; an unknown one becomes `stop` and stands in `native_finish_reason`. `error` raises."""
    reason = choice.get("finish_reason")
    if reason is None or reason == "":
        choice["finish_reason"] = None
        return
    if not isinstance(reason, str):
        raise malformed(f"the finish_reason is a JSON {type(reason).__name__}", secret=call.secret)
    if reason in FINISH_REASONS:
        return
    if reason == "error":
        error = choice.get("error") or {"message": "the provider ended the answer with finish_reason error"}
        raise AttemptError(failure_inside(call.target.type, {"error": error}, secret=call.secret))
    choice.setdefault("native_finish_reason", reason)
    choice["finish_reason"] = _OTHER_NAMES.get(reason, "stop")


def set_index(item: dict[str, Any], index: int) -> None:
    """The place in its list, where the server left it out."""
    if not isinstance(item.get("index"), int):
        item["index"] = index


def normalise_texts(message: dict[str, Any], call: Call) -> None:
    """Content as one string, reasoning under `reasoning_content`, in a message or a delta."""
    content = message.get("content")
    if isinstance(content, list):
        thoughts = "".join(_texts(part.get("thinking")) for part in content if _kind(part) == "thinking")
        message["content"] = "".join(_texts([part]) for part in content if _kind(part) == "text")
        if thoughts:
            message["reasoning_content"] = thoughts
    elif content is not None and not isinstance(content, str):
        raise malformed(f"the content of the answer is a {type(content).__name__}", secret=call.secret)
    reasoning = message.pop("reasoning", None)
    if isinstance(reasoning, str) and not message.get("reasoning_content"):
        message["reasoning_content"] = reasoning


def _kind(part: Any) -> str:
    return str(part.get("type")) if isinstance(part, dict) else ""


def _texts(parts: Any) -> str:
    if isinstance(parts, str):
        return parts
    found = (part.get("text") for part in list_of(parts) if isinstance(part, dict))
    return "".join(text for text in found if isinstance(text, str))


def _tool_call(index: int, tool: Any, call: Call) -> dict[str, Any]:
    function = object_of(object_of(tool).get("function"))
    if not isinstance(function.get("name"), str):
        raise malformed(f"tool call {index} of the answer has no function name", secret=call.secret)
    return {
        "id": text_of(tool.get("id")) or f"call_{index}",
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments_text(function.get("arguments")) or "{}"},
    }


def arguments_text(arguments: Any) -> str:
    """Tool arguments as JSON text; some servers send the object itself."""
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
