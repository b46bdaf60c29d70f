"""The AsyncAPI 3.1 document of a fleet, from the table of topics and the names of headers.

It is written from the fleet's side: the fleet receives requests and sends replies.
"""

from typing import Any

from heimdall_schemas import headers as h
from heimdall_schemas.topics import Bucket, Delay, Topic, Topics

Json = dict[str, Any]

ANY_REPLY = "anyReplyTopic"
"""The channel of replies whose topic is only known from the request's headers."""


def _text(description: str, **more: Any) -> Json:
    return {"type": "string", "description": description, **more}


_CLOUD_EVENT: Json = {
    h.CE_SPECVERSION: {"const": "1.0", "type": "string"},
    h.CE_ID: _text("id of the record; of a request: the request id, if the caller has its own"),
    h.CE_TYPE: _text("heimdall.<message>.v1"),
    h.CE_SOURCE: _text("who wrote it: a service's name, or a URI"),
    h.CE_TIME: _text("when it was written, RFC 3339", format="date-time"),
    h.CONTENT_TYPE: _text("media type of the value", examples=["application/json"]),
}
_CORRELATION: Json = {
    h.CORRELATION_ID: _text("opaque bytes, echoed untouched; defaults to the request id", maxLength=1024),
}
_RETURN_ADDRESS: Json = {
    **_CORRELATION,
    h.REPLY_TO: _text("topic of the reply; must be allowed by the fleet. Default: the fleet's replies topic"),
    h.REPLY_PARTITION: _text(
        "partition of the reply: digits, or four bytes big-endian. Default: by the correlation id"
    ),
}
_EXPIRY: Json = {
    h.CE_EXPIRY: _text("when an answer is worthless, RFC 3339 with zone", format="date-time"),
    h.TTL_MS: _text("the same as milliseconds after the record's timestamp", pattern="^[0-9]{1,16}$"),
}
_TRACE: Json = {
    h.TRACEPARENT: _text("W3C trace context, carried through untouched"),
    h.TRACESTATE: _text("W3C trace state, carried through untouched"),
}
_ANSWER: Json = {
    h.REQUEST_ID: _text("id of the request"),
    h.ERROR: _text("the failure code; only on an error reply"),
    h.SEQUENCE: _text("place in a stream, from 0", pattern="^[0-9]+$"),
    h.FINAL: _text("present on the last record of a stream"),
}
_DEAD_LETTER: Json = {
    h.DLQ_REASON: _text("the failure code"),
    h.DLQ_ERROR: _text("what happened, for people; never a stack trace, never prompt text"),
    h.DLQ_ATTEMPTS: _text("provider calls made"),
    h.DLQ_FIRST_FAILURE: _text("Unix milliseconds"),
    h.DLQ_WORKER: _text("the worker that gave up"),
    h.DLQ_VERSION: _text("its version"),
    h.DLQ_TOPIC: _text("where the record stood"),
    h.DLQ_PARTITION: _text("where the record stood"),
    h.DLQ_OFFSET: _text("where the record stood"),
    h.DLQ_TIMESTAMP: _text("the record's timestamp, Unix milliseconds"),
    h.DLQ_GROUP: _text("the consumer group that read it"),
    h.DLQ_CUT: _text("bytes of the original value; only when the value here is cut"),
    h.DLQ_DAMAGE: _text(
        "offsets and fault of a batch that cannot be decoded; the value is the batch as it stands in the log"
    ),
    h.REQUEST_ID: _text("id of the request"),
}

ORDER_HEADERS: Json = {
    "type": "object",
    "description": "Headers of an order. Its value is the request's value, byte for byte.",
    "properties": {
        h.REQUEST_ID: _text("id of the request"),
        h.BUCKET: _text("the bucket decided", enum=[bucket.value for bucket in Bucket]),
        h.DECISION: _text("JSON, the fourteen decision fields: decision.json", contentMediaType="application/json"),
        h.PLAN: _text("JSON, what dispatch must know: plan.json", contentMediaType="application/json"),
        h.SHADOW: _text("JSON, only on a shadow order: shadow.json", contentMediaType="application/json"),
        **_RETURN_ADDRESS,
        **_TRACE,
    },
    "required": [h.REQUEST_ID, h.BUCKET, h.DECISION, h.PLAN, h.REPLY_TO, h.CORRELATION_ID],
}

_TRAITS: Json = {
    "cloudEvent": {"headers": {"type": "object", "properties": _CLOUD_EVENT}},
    "returnAddress": {"headers": {"type": "object", "properties": _RETURN_ADDRESS}},
    "correlated": {
        "headers": {"type": "object", "properties": _CORRELATION, "required": [h.CORRELATION_ID]},
        "correlationId": {"location": f"$message.header#/{h.CORRELATION_ID}"},
    },
    "expiring": {"headers": {"type": "object", "properties": _EXPIRY}},
    "traced": {"headers": {"type": "object", "properties": _TRACE}},
    "answer": {"headers": {"type": "object", "properties": _ANSWER}},
    "deadLetter": {"headers": {"type": "object", "properties": _DEAD_LETTER, "required": [h.DLQ_REASON, h.DLQ_ERROR]}},
}


def document(topics: Topics) -> Json:
    """The whole document, as plain JSON values in a fixed order."""
    return {
        "asyncapi": "3.1.0",
        "id": "urn:heimdall:fleet",
        "info": {
            "title": "Heimdall Fleet",
            "version": "1.0.0",
            "description": "LLM requests in, replies out, every decision on the audit topic. The value of a request is "
            "an OpenAI Chat Completions body with one optional object `heimdall`.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"local": {"host": "localhost:9092", "protocol": "kafka", "description": "`heimdall dev`"}},
        "channels": {
            **{topic.entity: _channel(topic) for topic in topics.all()},
            ANY_REPLY: {
                "address": None,
                "title": "any allowed reply topic",
                "description": f"The topic that the request's header {h.REPLY_TO} names.",
                "messages": _listed("reply", "errorReply", "replyChunk"),
            },
        },
        "operations": _operations(),
        "components": {"messages": _messages(), "messageTraits": _TRAITS},
    }


def _carried(entity: str) -> tuple[str, ...]:
    """The messages that a topic carries."""
    family = entity.partition(".")[0]
    return {
        "requests": ("request",),
        "dispatch": ("order",),
        "retry": ("order",),
        "replies": ("reply", "errorReply", "replyChunk"),
        "audit": ("decisionRecord", "outcomeRecord", "shadowRecord"),
        "feedback": ("feedback",),
        "dlq": ("deadLetter",),
        "cancel": ("cancel",),
        "control": ("pointer", "drift"),
    }[family]


def _channel(topic: Topic) -> Json:
    configuration: Json = {
        "cleanup.policy": topic.cleanup_policy.split(","),
        "max.message.bytes": topic.max_message_bytes,
    }
    if topic.retention_ms is not None:
        configuration["retention.ms"] = topic.retention_ms
    return {
        "address": topic.name,
        "title": topic.entity,
        "description": f"{topic.purpose}. Key: {topic.key}.",
        "messages": _listed(*_carried(topic.entity)),
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": configuration,
                "bindingVersion": "0.5.0",
            }
        },
    }


def _listed(*names: str) -> Json:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


def _messages() -> Json:
    return {
        "request": _message("A request", "request", ("cloudEvent", "returnAddress", "expiring", "traced")),
        "order": {
            **_message("A request with its decision, on its way to dispatch", "request", ()),
            "headers": {"$ref": "json/order-headers.json"},
            "correlationId": _TRAITS["correlated"]["correlationId"],
        },
        "reply": _message("An answer", "reply", ("correlated", "answer")),
        "errorReply": _message("Why there is no answer", "error-reply", ("correlated", "answer")),
        "replyChunk": _message("A part of a streamed answer", "reply-chunk", ("correlated", "answer")),
        "decisionRecord": _message("What triage decided", "decision-record", ()),
        "outcomeRecord": _message("How a request ended", "outcome-record", ()),
        "shadowRecord": _message("What another model made of a request that was answered", "shadow-record", ()),
        "cancel": _message("Do not start this request; stop it", "cancel", ("cloudEvent",)),
        "feedback": _message("What an answer was worth", "feedback", ("cloudEvent",)),
        "pointer": _message("Where the current bundle, catalogue or configuration lies", "pointer", ()),
        "drift": _message("What the learning loop found out about drift", "drift", ()),
        "deadLetter": {
            "title": "A record that could not be read or gave up",
            "summary": "The value is the record's own, byte for byte unless a header says that it is cut.",
            "contentType": "application/octet-stream",
            "traits": [{"$ref": "#/components/messageTraits/deadLetter"}],
        },
    }


def _message(title: str, schema: str, traits: tuple[str, ...]) -> Json:
    made: Json = {"title": title, "payload": {"$ref": f"json/{schema}.json"}}
    if traits:
        made["traits"] = [{"$ref": f"#/components/messageTraits/{trait}"} for trait in traits]
    return made


def _operations() -> Json:
    buckets = [f"dispatch.{bucket}" for bucket in Bucket]
    retries = [f"retry.{delay}" for delay in Delay]
    return {
        "answerRequest": {
            **_operation("receive", "requests", "A request comes in; its reply goes to the topic it names."),
            "reply": {
                "address": {
                    "description": f"the request's header {h.REPLY_TO}; without it, the fleet's replies topic",
                    "location": f"$message.header#/{h.REPLY_TO}",
                },
                "channel": {"$ref": f"#/channels/{ANY_REPLY}"},
                "messages": [{"$ref": f"#/channels/{ANY_REPLY}/messages/{name}"} for name in _carried("replies")],
            },
        },
        "sendReply": _operation("send", "replies", "Replies to requests that name no topic of their own."),
        "takeCancel": _operation("receive", "cancel", "Every dispatch worker reads all cancellations."),
        "takeFeedback": _operation("receive", "feedback", "Late rewards, for the next classifier."),
        "takePointer": _operation(
            "receive", "control", "Workers follow the current artifacts, and show what is known of drift."
        ),
        "writeAudit": _operation(
            "send", "audit", "One decision and one outcome for each request; of a share, a shadow."
        ),
        "buryRecord": _operation("send", "dlq", "What cannot be read or gave up."),
        **{f"send.{name}": _operation("send", name, "Triage hands an order to dispatch.") for name in buckets},
        **{f"receive.{name}": _operation("receive", name, "Dispatch takes an order.") for name in buckets},
        **{f"send.{name}": _operation("send", name, "An order rests until it may be tried again.") for name in retries},
        **{f"receive.{name}": _operation("receive", name, "A rested order is tried again.") for name in retries},
    }


def _operation(action: str, channel: str, summary: str) -> Json:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in _carried(channel)],
    }
