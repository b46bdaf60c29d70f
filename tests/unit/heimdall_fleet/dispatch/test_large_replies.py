"""A reply that no record can hold: an error, or a claim check for the whole reply."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import orjson
import pytest

from heimdall_fleet.objects.base import ObjectStoreError
from heimdall_fleet.objects.files import FileStore
from heimdall_schemas.codec import Limits
from heimdall_schemas.reply import Reply

if TYPE_CHECKING:
    from tests.unit.heimdall_fleet.dispatch.conftest import Bench


def large(text: str) -> Any:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    usage = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    return lambda request: httpx.Response(200, json=body)


@pytest.fixture
def small_records(bench: "Bench") -> "Bench":
    bench.settings = replace(bench.settings, max_reply_bytes=4_000)
    return bench


def keep_in(bench: "Bench", store: Any) -> None:
    bench.worker.room = replace(bench.worker.room, objects=store)


async def test_a_large_reply_is_claimed_whole_by_its_url_and_digest(small_records: "Bench", tmp_path: Path) -> None:
    bench = small_records
    keep_in(bench, FileStore(tmp_path / "replies"))
    bench.upstream.on("openai", large("long " * 2_000))
    reply = await bench.run()
    Reply.model_validate(reply)
    claim = reply["heimdall"]["claim_check"]
    kept = Path(urlsplit(claim["url"]).path).read_bytes()
    assert (len(kept), hashlib.sha256(kept).hexdigest()) == (claim["bytes"], claim["sha256"])
    whole = Reply.model_validate(orjson.loads(kept))
    assert whole.text == "long " * 2_000
    assert reply["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": None}, "finish_reason": "stop", "logprobs": None}
    ]
    assert (reply["usage"], reply["heimdall"]["state"]) == (orjson.loads(kept)["usage"], "answered")
    assert bench.outcomes()[0]["cost_usd_micros"] == 200


async def test_a_reply_that_fits_needs_no_store(small_records: "Bench") -> None:
    class Untouched:
        async def put(self, name: str, value: bytes) -> str:
            raise AssertionError

    keep_in(small_records, Untouched())
    assert (await small_records.run())["choices"]


async def test_a_store_that_fails_makes_it_an_error_that_says_so(small_records: "Bench") -> None:
    class Broken:
        async def put(self, name: str, value: bytes) -> str:
            raise ObjectStoreError("the disk is full")

    keep_in(small_records, Broken())
    small_records.upstream.on("openai", large("x" * 5_000))
    reply = await small_records.run()
    assert reply["error"]["code"] == "heimdall_reply_too_large"
    assert "the disk is full" in reply["error"]["message"]


async def test_without_a_store_the_error_names_the_limit(small_records: "Bench") -> None:
    small_records.upstream.on("openai", large("x" * 5_000))
    reply = await small_records.run()
    assert reply["error"]["code"] == "heimdall_reply_too_large"
    assert "4,000" in reply["error"]["message"]


@pytest.mark.parametrize("raised", [True, False])
async def test_a_million_tokens_are_taken_where_the_limit_is_raised_and_else_refused_by_its_name(
    bench: "Bench", raised: bool
) -> None:
    text = "word " * 1_000_000
    bench.worker.limits = Limits(max_body_bytes=8_000_000) if raised else Limits()
    reply = await bench.run(body={"messages": [{"role": "user", "content": text}]})
    if raised:
        assert reply["heimdall"]["state"] == "answered"
        assert len(bench.upstream.requests[0].read()) > 5_000_000
    else:
        assert reply["error"]["code"] == "caller_too_large"
        assert "limits.max_body_bytes" in reply["error"]["message"]
