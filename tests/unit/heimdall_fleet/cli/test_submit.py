"""`heimdall submit`, with a fleet inside the test."""

import asyncio
from typing import Any

import orjson
import pytest

from heimdall_fleet.cli.exits import Exit
from heimdall_fleet.cli.submit import send_all
from heimdall_fleet.client import HeimdallClient
from heimdall_fleet.client.testing import MemoryTransport, answered
from heimdall_schemas.codec import DEFAULT_LIMITS


def question(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


@pytest.mark.parametrize("want", ["replies", "ids"])
def test_a_body_that_cannot_be_sent_costs_the_others_nothing(want: str, capsys: pytest.CaptureFixture[str]) -> None:
    transport = MemoryTransport(lambda request: [answered(request, "Good morning!")])
    bodies = [question("hi"), question("x" * DEFAULT_LIMITS.max_body_bytes), question("ho")]
    worst = asyncio.run(send_all(HeimdallClient(transport=transport), bodies, None, want))
    first, second, third = map(orjson.loads, capsys.readouterr().out.splitlines())
    assert worst is Exit.CHECK_FAILED
    assert "error" not in first
    assert second["error"]["code"] == "caller_too_large"
    assert "error" not in third
