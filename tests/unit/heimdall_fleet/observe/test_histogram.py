import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from heimdall_fleet.observe.histogram import BatchHistogram, HistogramFamily, doubling

BOUNDS = (0.1, 1.0, 10.0)
observations = st.lists(st.floats(min_value=0, max_value=100), max_size=30)


def text(registry: CollectorRegistry) -> set[str]:
    lines = generate_latest(registry).decode().splitlines()
    return {
        line for line in lines if line and not line.startswith("#") and "_created" not in line and "_sum" not in line
    }


@given(observations)
def test_it_shows_the_same_as_prometheus_own_histogram(values: list[float]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    batch, single = BatchHistogram("h", "", BOUNDS, ours), Histogram("h", "", buckets=BOUNDS, registry=theirs)
    batch.observe_each(values)
    for value in values:
        single.observe(value)
    assert text(ours) == text(theirs)
    assert ours.get_sample_value("h_sum") == pytest.approx(theirs.get_sample_value("h_sum"))


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(min_value=0, max_value=100)), max_size=30))
def test_one_with_labels_shows_the_same_as_prometheus_own(values: list[tuple[str, float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    family = HistogramFamily("h", "", ("model",), BOUNDS, ours)
    single = Histogram("h", "", ("model",), buckets=BOUNDS, registry=theirs)
    for model, value in values:
        family.labels(model).observe(value)
        single.labels(model).observe(value)
    assert text(ours) == text(theirs)


@given(st.floats(min_value=0, max_value=100), st.integers(min_value=1, max_value=64))
def test_a_batch_counts_as_its_requests_one_by_one(value: float, count: int) -> None:
    at_once, each = (BatchHistogram("h", "", BOUNDS, CollectorRegistry()) for _ in range(2))
    at_once.observe(value, count)
    each.observe_each([value] * count)
    assert at_once.count == each.count
    assert at_once.mean == pytest.approx(each.mean)


@given(observations.filter(bool), st.floats(min_value=0.01, max_value=1))
def test_a_quantile_lies_within_the_bounds_and_grows_with_its_share(values: list[float], share: float) -> None:
    histogram = BatchHistogram("h", "", BOUNDS, CollectorRegistry())
    histogram.observe_each(values)
    assert 0 <= histogram.quantile(share / 2) <= histogram.quantile(share) <= BOUNDS[-1]


def test_before_the_first_observation_everything_is_zero() -> None:
    histogram = BatchHistogram("h", "", BOUNDS, CollectorRegistry())
    assert (histogram.count, histogram.mean, histogram.quantile(0.99)) == (0, 0.0, 0.0)


def test_a_garbage_collection_inside_an_observation_does_not_wait_for_itself() -> None:
    histogram = BatchHistogram("h", "", BOUNDS, CollectorRegistry())

    class Collecting(float):
        def __gt__(self, other: float) -> bool:
            gc.collect(0)
            return float(self) > other

    gc.callbacks.append(lambda phase, info: histogram.observe(0.5))
    try:
        histogram.observe(Collecting(0.5))
    finally:
        gc.callbacks.pop()
    assert histogram.count >= 3


def test_the_bounds_double() -> None:
    assert doubling(0.001)[0] == 0.001
    assert doubling(0.001)[-1] == 16.384
    assert doubling(0.0001)[-1] == 1.6384
    assert doubling(0.00001)[-1] == pytest.approx(0.16384)
    assert len(doubling(0.001)) == 15
