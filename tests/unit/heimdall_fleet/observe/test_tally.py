from prometheus_client import CollectorRegistry, Counter, generate_latest

from heimdall_fleet.observe.tally import TallyFamily


def page(registry: CollectorRegistry) -> list[str]:
    """The text for Prometheus without what only prometheus_client's own counters say: when they were made."""
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if "_created" not in line]


def test_it_shows_the_same_as_prometheus_own_counter() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tally = TallyFamily("cost_total", "Money", ("model", "type"), ours)
    counter = Counter("cost_total", "Money", ("model", "type"), registry=theirs)
    for model, amount in (("a", 1), ("b", 0.5), ("a", 2.25)):
        tally.labels(model, "x").value += amount
        counter.labels(model, "x").inc(amount)
    assert page(ours) == page(theirs)


def test_before_anything_is_counted_it_shows_the_same_too() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    TallyFamily("cost_total", "Money", ("model",), ours)
    Counter("cost_total", "Money", ("model",), registry=theirs)
    assert page(ours) == page(theirs)
