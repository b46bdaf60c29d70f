"""The page about dispatch says what the code does."""

import re
from pathlib import Path

import pytest

from heimdall_fleet.dispatch.lanes import SHARES
from heimdall_fleet.dispatch.settings import DispatchSettings, ProviderSettings
from heimdall_fleet.providers.failure_table import verdict_of_status

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
