"""The pages about dispatch and messages say what the code does."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

from heimdall_fleet.dispatch.lanes import SHARES
from heimdall_fleet.dispatch.settings import DispatchSettings, ProviderSettings
from heimdall_fleet.providers.failure_table import verdict_of_status

if TYPE_CHECKING:
    from tests.unit.heimdall_fleet.dispatch.conftest import Bench

PAGE = (Path(__file__).parents[4] / "docs" / "dispatch.md").read_text()
ROWS = re.findall(r"^\| `(\d+)` \| `(\w+)` \| `(\w+)`(.*?) \| (yes|no) \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("status", "code", "action", "more", "breaker"), ROWS)
def test_a_row_of_the_failure_table_is_what_the_code_decides(
    status: str, code: str, action: str, more: str, breaker: str
) -> None:
    verdict = verdict_of_status(int(status))
    assert (verdict.code.value, verdict.action.value) == (code, action)
    assert verdict.disable_key is ("out of use" in more)
    assert verdict.counts_for_breaker is (breaker == "yes")


def test_the_figures_on_the_page_are_the_codes() -> None:
    settings, provider = DispatchSettings(worker="w"), ProviderSettings("p", "custom", "", ())
    assert len(ROWS) >= 15
    assert f"Reservations last {settings.lease_ms // 1_000} s" in PAGE
    assert f"one answer within {settings.keep_key_ms // 3_600_000} h" in PAGE
    assert f"in process up to {settings.wait_in_process_ms // 1_000} s" in PAGE
    assert f"or for {settings.expected_output_tokens} tokens" in PAGE
    assert f"starts at {provider.start_concurrency} calls" in PAGE
    assert f"at least {provider.floor_share:.0%}".replace("%", " %") in PAGE
    assert " : ".join(map(str, SHARES.values())) in PAGE


async def test_the_reply_on_the_page_of_messages_and_the_example_have_the_fields_of_a_real_one(bench: "Bench") -> None:
    root = Path(__file__).parents[4]
    (block,) = re.findall(
        r"```json\n(\{\"request_id\".*?)\n```", (root / "docs" / "messages.md").read_text(), re.DOTALL
    )
    shown, real = orjson.loads(block), (await bench.run())["heimdall"]
    example = orjson.loads((root / "schemas" / "examples" / "reply.json").read_bytes())["value"]["heimdall"]
    assert shown.keys() == real.keys()
    assert example.keys() <= real.keys()
    assert shown["timings_ms"].keys() == example["timings_ms"].keys() == real["timings_ms"].keys()
