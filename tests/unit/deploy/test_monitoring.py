"""Rules and dashboards use only metrics and labels that a worker declares, and targets that compose.yaml has."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from heimdall_fleet.config.running import MetricsSection
from heimdall_fleet.observe.family import Family
from heimdall_fleet.observe.histogram import BatchHistogram
from heimdall_fleet.observe.metrics import Metrics

Expressions = list[tuple[str, str]]

OF_THE_SCRAPE = {"job", "instance"}
CALCULATED = {"le", "__name__"}

H95_PANELS = {
    "Request Rate": "timeseries",
    "Request Latency": "timeseries",
    "Cache Hit Ratio": "stat",
    "Bucket Distribution": "piechart",
    "Memory Usage": "timeseries",
    "Feature Extraction Performance": "timeseries",
}


@pytest.fixture(scope="module")
def declared() -> dict[str, set[str]]:
    """Sample name → its label names, of everything that a worker declares."""
    found = {"up": set(OF_THE_SCRAPE)}
    # prometheus_client has no public way to ask a metric that has no samples yet for its labels.
    for collector in Metrics("triage", "0").registry._collector_to_names:
        assert isinstance(collector, MetricWrapperBase | BatchHistogram | Family)
        own = getattr(collector, "_labelnames" if isinstance(collector, MetricWrapperBase) else "label_names", ())
        labels = {*own, *OF_THE_SCRAPE}
        for family in collector.describe():
            suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
            found |= {family.name + suffix: labels for suffix in suffixes}
    return found


@pytest.fixture(scope="module")
def rules(root: Path) -> list[dict[str, Any]]:
    document = yaml.safe_load((root / "deploy/prometheus/rules.yml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def dashboards(root: Path) -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in (root / "deploy/grafana/dashboards").glob("*.json")}


def expressions_of(rules: list[dict[str, Any]], dashboards: Mapping[str, dict[str, Any]]) -> Expressions:
    """Every expression with where it stands."""
    recorded = [(rule.get("record") or rule["alert"], rule["expr"]) for rule in rules]
    shown = [
        (f"{name}: {panel['title']}", target["expr"])
        for name, dashboard in dashboards.items()
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]
    return recorded + shown


def nodes(expression: str) -> list[Any]:
    """All parts of an expression. Raises ValueError when it is not PromQL."""
    found: list[Any] = []
    promql.walk(promql.parse(expression), found.append)
    return found


def grouped_by(node: Any) -> set[str]:
    """The labels that a node keeps or matches on."""
    modifier = getattr(node, "modifier", None)
    if isinstance(node, promql.AggregateExpr):
        return set(modifier.labels) if modifier else set()
    matching = getattr(modifier, "matching", None)
    return set(matching.labels) if matching else set()


def selectors(expression: str) -> Iterator[promql.VectorSelector]:
    return (node for node in nodes(expression) if isinstance(node, promql.VectorSelector))


def test_every_expression_selects_metrics_and_labels_that_exist(
    rules: list[dict[str, Any]], dashboards: dict[str, dict[str, Any]], declared: dict[str, set[str]]
) -> None:
    known = declared | {rule["record"]: set(OF_THE_SCRAPE) for rule in rules if "record" in rule}
    for place, expression in expressions_of(rules, dashboards):
        for selector in selectors(expression):
            assert selector.name in known, f"{place}: no worker declares {selector.name}"
            matched = {matcher.name for matcher in selector.matchers.matchers}
            assert matched <= known[selector.name], f"{place}: {selector.name} has no label {matched}"


def test_every_grouping_is_by_labels_that_the_metrics_in_it_have(
    rules: list[dict[str, Any]], dashboards: dict[str, dict[str, Any]], declared: dict[str, set[str]]
) -> None:
    for place, expression in expressions_of(rules, dashboards):
        for node in nodes(expression):
            names = [selector.name for selector in selectors(node.prettify()) if selector.name in declared]
            for name in names:
                missing = grouped_by(node) - declared[name or ""] - CALCULATED
                assert not missing, f"{place}: {name} has no label {missing}"


def test_every_alert_says_what_happened_and_what_to_know(rules: list[dict[str, Any]]) -> None:
    for alert in (rule for rule in rules if "alert" in rule):
        assert alert["annotations"].keys() == {"summary", "description"}, alert["alert"]
        assert alert["labels"]["severity"] in {"critical", "warning", "info"}, alert["alert"]


def test_every_action_on_the_operators_page_is_one_that_the_fleet_logs(root: Path, operations: str) -> None:
    table = operations.partition("| action | says |")[2].partition("\n\n")[0]
    named = {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.partition(" | ")[0])}
    sources = "".join(file.read_text() for file in (root / "workers").rglob("*.py"))
    assert len(named) > 8
    assert {name for name in named if f'"{name}"' not in sources} == set()


def test_every_alert_is_in_the_operators_page(rules: list[dict[str, Any]], operations: str) -> None:
    assert [rule["alert"] for rule in rules if "alert" in rule and f"`{rule['alert']}`" not in operations] == []


def test_every_alert_and_recording_has_a_case_in_the_rules_test(rules: list[dict[str, Any]], root: Path) -> None:
    cases = (root / "deploy/prometheus/rules_test.yml").read_text()
    names = {rule.get("alert") or rule["record"] for rule in rules}
    # Recorded for one alert, whose cases cover it.
    assert {name for name in names if name not in cases} == {
        "instance:heimdall_feature_extraction_duration_seconds:mean5m"
    }


def test_promtool_passes_the_rules_and_their_cases(root: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; it comes with Prometheus (Debian: the package prometheus)")
    folder = root / "deploy/prometheus"
    for verb, noun, file in (("check", "config", "prometheus.yml"), ("test", "rules", "rules_test.yml")):
        done = subprocess.run([promtool, verb, noun, folder / file], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_asks_every_worker_of_the_compose_file_on_its_port(
    root: Path, services: dict[str, dict[str, Any]]
) -> None:
    jobs = yaml.safe_load((root / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    asked = {job["job_name"]: job["dns_sd_configs"][0] for job in jobs if "dns_sd_configs" in job}
    workers = {name for name in services if name in ("triage", "dispatch", "gateway", "catalog")}
    assert asked.keys() == workers
    for name, job in asked.items():
        assert (job["names"], job["port"]) == ([name], MetricsSection().port)
        assert set(services["prometheus"]["networks"]) & set(services[name]["networks"])


def test_the_plugin_dashboard_has_the_six_panels_of_the_source_design(dashboards: dict[str, dict[str, Any]]) -> None:
    dashboard = dashboards["heimdall"]
    assert dashboard["title"] == "Heimdall Plugin Metrics"
    assert dashboard["tags"] == ["heimdall", "bifrost"]
    assert (dashboard["timezone"], dashboard["refresh"]) == ("browser", "5s")
    assert dashboard["time"] == {"from": "now-1h", "to": "now"}
    assert {panel["title"]: panel["type"] for panel in dashboard["panels"]} == H95_PANELS


def test_every_panel_has_its_own_place_and_number(dashboards: dict[str, dict[str, Any]]) -> None:
    for dashboard in dashboards.values():
        panels = dashboard["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        cells = [
            (x, y)
            for grid in (panel["gridPos"] for panel in panels)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        ]
        assert len(set(cells)) == len(cells)
        assert max(x for x, _ in cells) < 24


def test_grafana_reads_the_dashboards_and_prometheus_where_compose_puts_them(
    root: Path, services: dict[str, dict[str, Any]], dashboards: dict[str, dict[str, Any]]
) -> None:
    provisioning = root / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    used = {panel["datasource"]["uid"] for dashboard in dashboards.values() for panel in dashboard["panels"]}
    assert used == {source["uid"]}
    (folder,) = yaml.safe_load((provisioning / "dashboards/heimdall.yml").read_text())["providers"]
    targets = {volume.split(":")[0]: volume.split(":")[1] for volume in services["grafana"]["volumes"]}
    assert targets["./deploy/grafana/dashboards"] == folder["options"]["path"]
    assert targets["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
