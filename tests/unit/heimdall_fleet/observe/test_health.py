from datetime import UTC, datetime

import pytest

from heimdall_fleet.observe.health import Check, Health, HealthState, assess

NOW = datetime(2026, 11, 21, 12, 0, 0, 5000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("states", "worst", "ready"),
    [
        (["healthy", "healthy"], "healthy", True),
        (["healthy", "degraded"], "degraded", True),
        (["unhealthy", "degraded", "healthy"], "unhealthy", False),
        ([], "unhealthy", False),
    ],
)
def test_the_worst_part_decides_and_degraded_still_serves(states: list[HealthState], worst: str, ready: bool) -> None:
    report = assess({f"part{index}": Check(state) for index, state in enumerate(states)}, NOW, "1")
    assert (report.status, report.ready) == (worst, ready)


def test_the_body_has_its_four_keys() -> None:
    report = assess({"bundle": Check("degraded", {"hash": "abc", "reason": "bad file"})}, NOW, "1.2.3")
    assert report.as_json() == {
        "status": "degraded",
        "last_updated": "2026-11-21T12:00:00.005Z",
        "details": {"bundle": {"status": "degraded", "hash": "abc", "reason": "bad file"}},
        "version": "1.2.3",
    }


def test_a_change_shows_in_the_next_report() -> None:
    states: list[HealthState] = ["unhealthy", "healthy"]
    health = Health("1", lambda: NOW)
    health.add("broker", lambda: Check(states.pop(0)))
    assert [health.report().status, health.report().status] == ["unhealthy", "healthy"]
