"""docs/messages.md has tables that stand in the code too: they agree."""

import re
from pathlib import Path

from heimdall_schemas import headers as h
from heimdall_schemas.codec import DEFAULT_LIMITS
from heimdall_schemas.failure import FACTS
from heimdall_schemas.request import Options
from heimdall_schemas.topics import Topics

PAGE = (Path(__file__).parents[3] / "docs" / "messages.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """Cells of the first table below a heading, without its head."""
    below = PAGE.split(f"{heading}\n", 1)[1]
    table = re.search(r"(?:^\|.*\|\n)+", below, flags=re.MULTILINE)
    assert table is not None
    return [
        [cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in table.group().splitlines()[2:]
    ]


def test_the_page_has_every_failure_code_with_its_status() -> None:
    assert rows("## Failure codes") == [
        [code.value, str(facts.http_status), "yes" if facts.retryable else "no", facts.meaning]
        for code, facts in FACTS.items()
    ]


def test_the_page_has_every_option_of_a_request() -> None:
    described = {name: field.description for name, field in Options.model_fields.items()}
    assert dict(rows("### The object `heimdall` of a request")) == described


def test_the_page_has_every_topic() -> None:
    listed = [(row[0], row[1], row[2], row[3], row[5]) for row in rows("## Topics")]
    assert listed == [
        (topic.name, topic.key, str(topic.partitions), topic.cleanup_policy, topic.purpose) for topic in Topics().all()
    ]


def test_the_page_has_the_limits_that_hold_by_default() -> None:
    limits = DEFAULT_LIMITS
    assert (
        f"{limits.max_body_bytes:,} bytes, {limits.max_depth} levels of nesting, {limits.max_messages:,} messages"
        in PAGE
    )
    assert f"{limits.max_headers} headers with {limits.max_header_bytes // 1024} KiB" in PAGE


def test_the_page_names_the_headers_of_a_request() -> None:
    named = {name.strip("`") for row in rows("### Headers of a request") for name in row[0].split(", ")}
    assert {h.CORRELATION_ID, h.REPLY_TO, h.REPLY_PARTITION, h.CE_ID, h.CE_EXPIRY, h.TTL_MS, h.TRACEPARENT} <= named
