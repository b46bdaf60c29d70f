"""Triage written the obvious way, for `bench/triage.py` to compare with: one message at a time, nothing batched.

`async for` over the consumer, pydantic models in and out, a regular expression or a word set for every number,
`Counter` for the entropy, the same ONNX model with one row, the α-score in loops, `send_and_wait` twice and a commit
for each message. It reaches the same kind of decision from the same bundle and catalogue and writes the same two
records. Where there is no obvious way (hashed n-gram score, embedding) it calls the fleet's own functions on one text.
"""

import asyncio
import json
import math
import os
import re
import sys
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from measured import Stopwatch, commands, rss_mib, say

from heimdall_fleet.bootstrap.triage import tuning_for
from heimdall_fleet.config import load
from heimdall_models.embed import embed, nearest_clusters
from heimdall_models.features import FEATURE_NAMES
from heimdall_models.judge import Judge
from heimdall_models.lexicon import BYTE_CLASSES, WORD_LISTS
from heimdall_models.pools import BUCKETS
from heimdall_models.scan import scan
from heimdall_schemas.audit import DecisionRecord
from heimdall_schemas.order import Plan, Step, plan_fields
from heimdall_schemas.request import Request

ALPHA, TOP_P, TTL_MS, TEMPERATURE = 0.7, 5, 300_000, 0.1
CHARS_PER_TOKEN = 4

WORD = re.compile(r"[A-Za-z0-9]+|[^\x00-\x7f]+")
NUMBER = re.compile(r"\b\d+\w*\b")
OPTION = re.compile(r"^[A-Z][.):]", re.MULTILINE)
LISTS = {name: frozenset(words.split()) for name, words in WORD_LISTS.items()}
PAIRS = {
    "latex_commands": re.compile(r"\\[A-Za-z()\[\]]"),
    "code_operators": re.compile(r"[=!<>+\-*/:|&]=|[-=]>|::|\+\+|&&|\|\||</"),
    "calls": re.compile(r"\(\)|\[\]|\)[:;{]|[A-Za-z]\("),
    "line_ends_code": re.compile(r"[;{}]\n"),
    "comments": re.compile(r"/[/*]|^#", re.MULTILINE),
    "fences": re.compile(r"``"),
    "indents": re.compile(r"\n[ \t]"),
    "bullets": re.compile(r"^[-*\u2022]", re.MULTILINE),
    "numbered_lines": re.compile(r"^\d", re.MULTILINE),
    "capital_lines": re.compile(r"^[A-Z]", re.MULTILINE),
    "blank_lines": re.compile(r"\n\n"),
    "sentence_ends": re.compile(r"[.?!](?:[ \n]|$)"),
    "number_operators": re.compile(r"\d[+\-*/%<>=!&|^~]|[+\-*/%<>=!&|^~]\d"),
    "powers": re.compile(r"[\^_][{(0-9A-Za-z]"),
    "decimals": re.compile(r"\d[.,]"),
    "camel_case": re.compile(r"[a-z][A-Z]"),
    "snake_case": re.compile(r"[A-Za-z]_"),
    "dollar_math": re.compile(r"\$[A-Za-z\\$]"),
    "math_symbols": re.compile(r"[\u2200-\u22ff\u00b1\u00b2\u00b3\u00b7\u00d7\u00f7\u03c0]"),
    "spaced_operators": re.compile(r" [+*=<>^]"),
    "money": re.compile(r"\$\d"),
    "blanks_to_fill": re.compile(r"__"),
}


def main() -> None:
    asyncio.run(work(Path(sys.argv[1])))


async def work(config_file: Path) -> None:
    """The child: read as many messages as it is told, one after the other, and say what they cost."""
    config = load(config_file, os.environ, {}).config
    judge = tuning_for(config).judge
    topics = config.kafka.topics
    consumer = AIOKafkaConsumer(
        topics.requests,
        bootstrap_servers=config.kafka.bootstrap_servers,
        group_id=f"{config.kafka.topic_prefix}.triage",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=10,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=config.kafka.bootstrap_servers, acks="all", enable_idempotence=True, compression_type="zstd"
    )
    await consumer.start()
    await producer.start()
    say({"ready": True})
    async for command in commands():
        watch = Stopwatch()
        left = command["count"]
        async for message in consumer:
            request_id, bucket, headers, record = decide(message, judge)
            key = request_id.encode()
            await producer.send_and_wait(topics.dispatch(bucket), value=message.value, key=key, headers=headers)
            await producer.send_and_wait(topics.audit, value=record, key=key)
            await consumer.commit()
            left -= 1
            if left == 0:
                break
        say({**watch.read(), "rss_mib": rss_mib()})
    await consumer.stop()
    await producer.stop()


def decide(message: Any, judge: Judge) -> tuple[str, Any, list[tuple[str, bytes]], bytes]:
    """Request id, bucket, the order's headers and the decision record of one message."""
    now = datetime.now(UTC)
    found = dict(message.headers)
    request_id = found["ce_id"].decode()
    request = Request.model_validate_json(message.value)
    text = "\n".join(str(turn.content) for turn in request.messages)
    numbers = features(text, request, judge)
    row = np.array([[numbers[name] for name in FEATURE_NAMES]], np.float32)
    verdict = judge.bundle.classifier.predict(row)
    percentile = float(verdict.percentile[0])
    level = 0 if percentile < judge.rules.cheap_below else 2 if percentile > judge.rules.hard_above else 1
    tokens = len(text) // CHARS_PER_TOKEN
    clusters, similarities = nearest(text, judge)
    candidates = score(level, tokens, (clusters, similarities), judge)
    record = written(message, request_id, now, level, percentile, candidates)
    record["features"] = {
        "token_count": tokens,
        "clusters": clusters,
        "cluster_similarities": similarities,
        "numeric": {name: value for name, value in numbers.items() if value},
    }
    record["difficulty"] = float(verdict.difficulty[0])
    record["difficulty_raw"] = float(verdict.raw[0])
    record |= {"bundle": judge.bundle.hash, "catalogue": judge.book.catalogue.hash, "config": judge.rules.config_hash}
    audit = DecisionRecord.model_validate(record).model_dump_json(exclude_none=True).encode()
    return request_id, BUCKETS[level], headers_of(record, message, now), audit


def features(text: str, request: Request, judge: Judge) -> dict[str, float]:
    """Every column of the classifier by its name."""
    data = text.encode()
    symbols = Counter(data)
    words = WORD.findall(text.lower())
    lines = text.count("\n") + 1
    some = max(len(words), 1)
    numbers: dict[str, float] = dict.fromkeys(FEATURE_NAMES, 0.0)
    numbers["ask_chars_log"] = numbers["user_chars_log"] = math.log1p(len(text))
    numbers["messages_log"] = numbers["user_turns_log"] = math.log1p(len(request.messages))
    numbers["max_tokens_log"] = math.log1p(request.max_output_tokens or 0)
    for name, members in BYTE_CLASSES.items():
        numbers[f"{name}_share"] = sum(symbols[member] for member in members) / max(len(data), 1)
    counts = {name: len(pattern.findall(text)) for name, pattern in PAIRS.items()}
    for name, count in counts.items():
        numbers[f"{name}_per_line_log"] = math.log1p(count / lines)
    for name, members_of in LISTS.items():
        numbers[f"{name}_word_share"] = sum(word in members_of for word in words) / some
    numbers["token_count_log"] = math.log1p(len(text) / CHARS_PER_TOKEN)
    numbers["bytes_log"] = math.log1p(len(data))
    numbers["words_log"] = math.log1p(len(words))
    numbers["mean_word_bytes"] = sum(map(len, words)) / some
    numbers["long_word_share"] = sum(len(word) >= 9 for word in words) / some
    numbers["distinct_word_share"] = len(set(words)) / some
    numbers["number_word_share"] = len(NUMBER.findall(text)) / some
    numbers["words_per_sentence_log"] = math.log1p(len(words) / (counts["sentence_ends"] + 1))
    numbers["bytes_per_line_log"] = math.log1p(len(data) / lines)
    numbers["options"] = len(OPTION.findall(text))
    numbers["ends_with_question"] = text.endswith("?")
    numbers["entropy"] = entropy(symbols)
    numbers["pair_entropy"] = entropy(Counter(pairwise(data)))
    numbers["has_code"] = counts["fences"] >= 2 or 2 * counts["line_ends_code"] + counts["code_operators"] >= 4
    numbers["has_math"] = counts["dollar_math"] + counts["math_symbols"] >= 1 and not numbers["has_code"]
    numbers["text_score"] = float(judge.bundle.text_model.score(scan([text]))[0])
    return numbers


def entropy(counts: Counter[Any]) -> float:
    total = sum(counts.values())
    return -sum(count / total * math.log2(count / total) for count in counts.values())


def nearest(text: str, judge: Judge) -> tuple[list[int], list[float]]:
    found = nearest_clusters(embed(scan([text])), judge.bundle.clusters.centres, TOP_P)
    return found.ids[0].tolist(), found.similarities[0].tolist()


def score(level: int, tokens: int, near: tuple[list[int], list[float]], judge: Judge) -> list[dict[str, Any]]:
    """The candidates of a bucket with their terms, best first."""
    pool, stack = judge.book.pools[level], judge.book.stack
    slots = range(len(pool.names))
    raised = [math.exp((similarity - near[1][0]) / TEMPERATURE) for similarity in near[1]]
    weights = [value / sum(raised) for value in raised]
    quality, cost, dollars = [0.0] * len(slots), [0.0] * len(slots), [0.0] * len(slots)
    for cluster, weight in zip(near[0], weights, strict=True):
        answer = float(judge.book.output_tokens[cluster])
        usd = [float(stack.rate_in[level, at]) * tokens + float(stack.rate_out[level, at]) * answer for at in slots]
        low, high = min(usd), max(usd)
        for at in slots:
            quality[at] += weight * float(stack.quality[at, level, cluster])
            cost[at] += weight * (usd[at] - low) / ((high - low) or 1.0)
            dollars[at] += weight * usd[at]
    scored = []
    for at in slots:
        penalty = float(stack.latency_penalty[level, at])
        total = ALPHA * quality[at] - (1 - ALPHA) * cost[at] - penalty
        scored.append(
            {
                "model": pool.names[at],
                "bucket": BUCKETS[level].value,
                "score": total,
                "quality": quality[at],
                "cost": cost[at],
                "penalties": {"latency_sd": penalty},
                "cost_usd_micros": math.ceil(dollars[at]),
            }
        )
    return sorted(scored, key=lambda one: (-one["score"], one["cost_usd_micros"], one["model"]))


def written(
    message: Any, request_id: str, now: datetime, level: int, percentile: float, candidates: list[dict[str, Any]]
) -> dict[str, Any]:
    """The decision record but for its features."""
    best = candidates[0]
    edges = [(0.3 - percentile) / TEMPERATURE, 0.0, (percentile - 0.7) / TEMPERATURE]
    raised = [math.exp(edge) for edge in edges]
    shares = {bucket.value: value / sum(raised) for bucket, value in zip(BUCKETS, raised, strict=True)}
    return {
        "kind": "decision",
        "request_id": request_id,
        "correlation_id": dict(message.headers)["correlation-id"].decode(),
        "time": now.isoformat(),
        "selected_model": best["model"],
        "selected_provider": best["model"].split("/")[0],
        "bucket": BUCKETS[level].value,
        "bucket_probabilities": shares,
        "alpha_scores": {one["model"]: one["score"] for one in candidates},
        "quality_score": best["quality"],
        "cost_score": best["cost"],
        "final_score": best["score"],
        "decision_latency_ms": (datetime.now(UTC) - now).total_seconds() * 1000,
        "cache_hit": False,
        "fallback_used": False,
        "fallback_reason": None,
        "guardrail_triggered": False,
        "decision_version": "1",
        "decision_type": "scored",
        "difficulty_percentile": percentile,
        "guardrails": [],
        "candidates": candidates,
        "chain": [one["model"] for one in candidates],
        "alpha": ALPHA,
        "p_chosen": 1.0,
        "explored": False,
        "worker": "naive",
    }


DECISION = (
    "selected_model", "selected_provider", "bucket", "bucket_probabilities", "alpha_scores", "quality_score",
    "cost_score", "final_score", "decision_latency_ms", "cache_hit", "fallback_used", "fallback_reason",
    "guardrail_triggered", "decision_version",
)  # fmt: skip


def headers_of(record: dict[str, Any], message: Any, now: datetime) -> list[tuple[str, bytes]]:
    now_ms = int(now.timestamp() * 1000)
    steps = tuple(Step(model, record["bucket"]) for model in record["chain"])
    plan = Plan(steps=steps, deadline_ms=message.timestamp + TTL_MS, received_ms=now_ms, p_chosen=1.0)
    return [
        ("heimdall-request-id", record["request_id"].encode()),
        ("heimdall-bucket", record["bucket"].encode()),
        ("heimdall-decision", json.dumps({name: record[name] for name in DECISION}).encode()),
        ("heimdall-plan", json.dumps(plan_fields(plan)).encode()),
        ("correlation-id", record["correlation_id"].encode()),
        ("reply-to", b"naive.replies.v1"),
    ]


if __name__ == "__main__":
    main()
