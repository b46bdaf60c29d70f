"""Timings that cannot work together are refused with the reason."""

import pytest

from heimdall_fleet.kafka.settings import KafkaSettings


def test_a_request_shorter_than_a_rebalance_is_refused() -> None:
    with pytest.raises(ValueError, match="joining a group takes one request"):
        KafkaSettings(rebalance_timeout_ms=30_000, request_timeout_ms=30_000)


def test_heartbeats_too_rare_for_the_session_are_refused() -> None:
    with pytest.raises(ValueError, match="one lost heartbeat expels"):
        KafkaSettings(session_timeout_ms=6_000, heartbeat_interval_ms=3_000)
