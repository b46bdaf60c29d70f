"""Each planted change raises its own alarm, and nothing raises none."""

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.heimdall_models.learning.made import CHEAP, CODE, STRONG, features_of, rows_of

from heimdall_models.features import FEATURE_NAMES
from heimdall_models.learning.drift import drift, feature_psi, psi
from heimdall_models.learning.logged import Logged


def traffic(seed: int, rows: int = 2000) -> Logged:
    rng = np.random.default_rng(seed)
    served = rng.integers(0, 2, rows)
    made = rows_of(features_of(rows, rng), served, (rng.random(rows) < 0.8).astype(np.float64))
    return replace(made, bucket=rng.choice(["cheap", "mid", "hard"], rows))


def test_traffic_that_stays_the_same_raises_no_alarm() -> None:
    found = drift(traffic(1), traffic(2))

    assert found.alarms == {}
    assert found.buckets < 0.02
    assert max(found.features.values()) < 0.05


def test_other_requests_raise_the_alarm_of_their_feature() -> None:
    recent = traffic(2)
    features = recent.features.copy()
    features[:, CODE] += 0.5

    found = drift(traffic(1), replace(recent, features=features))

    assert list(found.alarms) == ["feature:latex_commands_log"]


def test_other_shares_of_buckets_raise_an_alarm() -> None:
    recent = traffic(2)

    found = drift(traffic(1), replace(recent, bucket=np.where(recent.bucket == "cheap", "hard", recent.bucket)))

    assert list(found.alarms) == ["buckets"]


def test_a_model_that_gets_worse_in_one_cluster_is_named() -> None:
    recent = traffic(2)
    clusters = recent.clusters.copy()
    clusters[::4] = [7, 1]
    lost = (recent.served == 0) & (clusters[:, 0] == 7)
    before = replace(traffic(1), clusters=clusters)

    found = drift(before, replace(recent, clusters=clusters, reward=np.where(lost, 0.0, recent.reward)))

    assert list(found.alarms) == [f"reward:{CHEAP}"]
    assert [(drop.model, drop.cluster, drop.now) for drop in found.drops] == [(CHEAP, 7, 0.0)]


def test_a_price_that_changes_is_named_with_its_ratio() -> None:
    recent = traffic(2)

    found = drift(traffic(1), replace(recent, cost_usd_micros=np.array([100.0, 500.0])[recent.served]))

    assert list(found.alarms) == [f"cost:{STRONG}"]
    assert found.costs[STRONG] == pytest.approx(0.25, rel=0.1)


def test_the_text_score_of_two_bundles_is_not_compared() -> None:
    recent = traffic(2)
    features = recent.features.copy()
    features[:, -1] += 9.0

    found = drift(traffic(1), replace(recent, features=features, bundle=np.full(2000, "b2")))

    assert FEATURE_NAMES[-1] not in found.features
    assert found.alarms == {}


def test_a_handful_of_rows_says_nothing() -> None:
    found = drift(traffic(1), traffic(2, rows=20))

    assert (found.rows, found.alarms) == ((2000, 20), {})


def test_psi_is_zero_for_equal_shares_and_finite_for_an_empty_bin() -> None:
    assert psi(np.array([5.0, 5.0]), np.array([50.0, 50.0])) == 0.0
    assert 1.0 < psi(np.array([5.0, 5.0]), np.array([10.0, 0.0])) < 10.0


def test_a_value_that_most_rows_share_is_one_bin() -> None:
    mostly_zero = np.where(np.arange(1000) % 10 == 0, 1.0, 0.0).astype(np.float32)

    assert feature_psi(mostly_zero, mostly_zero) == 0.0
    assert feature_psi(mostly_zero, np.ones(1000, np.float32)) > 1.0
