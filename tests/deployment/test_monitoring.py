"""Prometheus' configuration, alert rules and Grafana's dashboard, held against the figures that the service gives."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from spikehead.settings import Settings
from spikehead.web.app import create_app

from tests.deployment.files import DEPLOY, ROOT, arguments, compose, routes, seconds

RULES = DEPLOY / "prometheus" / "alerts.yml"
CONFIGURATION: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]
BOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboards" / "spikehead.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
TARGETS = [(panel, target) for panel in PANELS for target in panel["targets"]]
QUERIES = [
    *(pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}") for panel, target in TARGETS),
    *(pytest.param(rule["expr"], id=rule["alert"]) for rule in ALERTS),
]

PROMETHEUS_OWN = {"up": {"job"}, "ALERTS": {"alertstate"}}
PROMETHEUS_ADDS = {"job", "instance"}
UNITS = {
    "bool_yes_no",
    "cps",
    "joule",
    "percentunit",
    "reqps",
    "s",
    "short",
    "string",
    "watt",
}  # Grafana's names
METRIC = re.compile(r"\b(spikehead_\w+|up|ALERTS)\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')

Samples = dict[str, list[dict[str, str]]]


@pytest.fixture(scope="module")
def samples() -> Samples:
    """Name of each sample that the service gives -> its labels, after a picture to each model."""
    picture = (ROOT / "examples" / "7.png").read_bytes()
    with TestClient(create_app(Settings(models=ROOT / "models"))) as client:
        for model in client.get("/models").json()["models"]:
            answer = client.post(
                "/classify",
                params={"model": model["name"]},
                content=picture,
                headers={"Content-Type": "image/png"},
            )
            assert answer.status_code == 200
        text = client.get("/metrics").text
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


def metrics(query: str) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """(name, matchers) of each metric in a query."""
    for name, inside in METRIC.findall(query):
        yield name, MATCHER.findall(inside)


def labels_of(name: str, samples: Samples) -> set[str]:
    if name in PROMETHEUS_OWN:
        return PROMETHEUS_OWN[name]
    assert name in samples, f"{name} is not among what the service gives"
    return set().union(*samples[name])


@pytest.mark.parametrize("query", QUERIES)
def test_query_asks_what_there_is(query: str, samples: Samples) -> None:
    asked = list(metrics(query))
    assert asked
    for name, matchers in asked:
        known = labels_of(name, samples)
        for label, operator, value in matchers:
            assert label in known, f"{name} has no label {label}"
            if operator == "=" and name in samples:
                assert value in {one[label] for one in samples[name]}, f"{name} has no {label} {value}"
    for found in re.finditer(r"\bby \(([^)]*)\)", query):  # what it is asked of comes after it
        after = METRIC.search(query, found.end())
        assert after is not None
        assert set(found[1].split(", ")) <= labels_of(after[1], samples), found[0]
    for together in re.findall(r"\bon \(([^)]*)\)", query):
        for name, _ in asked:
            assert set(together.split(", ")) <= labels_of(name, samples), name


@pytest.mark.parametrize("query", QUERIES)
def test_counters_are_asked_for_their_rate_and_gauges_are_not(query: str) -> None:
    for found in METRIC.finditer(query):
        counts = re.search(r"_(total|bucket|sum|count)$", found[1]) is not None
        before = query[: found.start()]
        assert before.endswith(("rate(", "increase(")) == counts, found[0]
        assert (query[found.end() :][:1] == "[") == counts, found[0]


def test_dashboard_shows_every_figure(samples: Samples) -> None:
    shown = {name for _, target in TARGETS for name, _ in metrics(target["expr"])}
    families = {
        re.sub(r"_(bucket|sum|count)$", "", name) for name in samples if not name.endswith("_created")
    }
    ours = {name for name in families if name.startswith("spikehead_")}
    assert ours == {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown} - set(PROMETHEUS_OWN)


def test_panels_are_complete() -> None:
    (source,) = yaml.safe_load((DEPLOY / "grafana" / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    provisioned = {"type": source["type"], "uid": source["uid"]}
    titles = [panel["title"] for panel in BOARD["panels"]]
    assert all(titles) and len(set(titles)) == len(titles)
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(titles)
    for panel in PANELS:
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert panel["datasource"] == provisioned
        assert panel["targets"]
    for _, target in TARGETS:
        assert target["datasource"] == provisioned
    for variable in BOARD["templating"]["list"]:
        assert variable["datasource"] == provisioned


def test_panels_do_not_overlap() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]


def test_legends_and_variables_have_their_labels(samples: Samples) -> None:
    for panel, target in TARGETS:
        kept = {
            label
            for labels in re.findall(r"\bby \(([^)]*)\)", target["expr"])
            for label in labels.split(", ")
        }
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept, panel["title"]
    (variable,) = BOARD["templating"]["list"]
    asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
    assert asked is not None and asked[2] in labels_of(asked[1], samples)
    used = {name for _, target in TARGETS for name in re.findall(r"\$(\w+)", target["expr"])}
    assert used - {"__rate_interval", "__range"} == {variable["name"]}


def test_grafana_asks_prometheus() -> None:
    (source,) = yaml.safe_load((DEPLOY / "grafana" / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    services = compose({})["services"]
    host, port = source["url"].removeprefix("http://").split(":")
    assert services[host]["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert set(services[host]["networks"]) & set(services["grafana"]["networks"])
    assert source["jsonData"]["timeInterval"] == CONFIGURATION["global"]["scrape_interval"]


def test_prometheus_asks_the_service() -> None:
    service, itself = CONFIGURATION["scrape_configs"]
    assert service["job_name"] == "spikehead" and service["metrics_path"] in routes()
    assert service["static_configs"] == [{"targets": [f"service:{arguments('EXPOSE')[0]}"]}]
    assert set(compose({})["services"]["service"]["networks"]) >= {"default"}
    assert itself["static_configs"] == [{"targets": ["127.0.0.1:9090"]}]
    assert CONFIGURATION["rule_files"] == [RULES.name]
    jobs = {value for query in QUERIES for value in re.findall(r'job="(\w+)"', str(query.values[0]))}
    assert jobs == {service["job_name"]}


def test_alerts_say_what_is_wrong(samples: Samples) -> None:
    names = [rule["alert"] for rule in ALERTS]
    assert len(set(names)) == len(names)
    for rule in ALERTS:
        assert rule["labels"]["severity"] in {"page", "warn"}
        assert rule["annotations"]["summary"] and rule["annotations"]["description"]
        kept = {
            label for labels in re.findall(r"\bby \(([^)]*)\)", rule["expr"]) for label in labels.split(", ")
        }
        if not kept:
            kept = PROMETHEUS_ADDS
        assert set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["description"])) <= kept
        if "for" in rule:
            assert seconds(rule["for"]) >= seconds(CONFIGURATION["global"]["evaluation_interval"])


promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus)")


@promtool
def test_promtool_finds_no_fault() -> None:
    file = DEPLOY / "prometheus" / "prometheus.yml"
    # only the syntax: the file with the key is there once the container runs
    subprocess.run(["promtool", "check", "config", "--syntax-only", file], check=True)
    subprocess.run(["promtool", "check", "rules", "--lint-fatal", RULES], check=True)


def series(name: str, values: str) -> dict[str, str]:
    return {"series": name, "values": values}


UNUSUAL = [  # 120 neurons, a rate of 0.2 where 0.1 is normal
    series('spikehead_spikes_total{model="m",layer="a"}', "0+24x60"),
    series('spikehead_neuron_steps_total{model="m",layer="a"}', "0+120x60"),
    series('spikehead_normal_firing_rate{model="m",layer="a"}', "0.1x60"),
]
CASES: list[tuple[str, list[dict[str, str]], bool]] = [
    ("SpikeheadDown", [series('up{job="spikehead"}', "0x60")], True),
    ("SpikeheadDown", [series('up{job="spikehead"}', "1x60")], False),
    ("SpikeheadOverloaded", [series('spikehead_refused_total{reason="overloaded"}', "0+60x60")], True),
    ("SpikeheadOverloaded", [series('spikehead_refused_total{reason="gone"}', "0+60x60")], False),
    ("SpikeheadRecordsDropped", [series("spikehead_records_dropped_total", "0+1x60")], True),
    ("SpikeheadRecordsDropped", [series("spikehead_records_dropped_total", "5x60")], False),
    ("SpikeheadRecordsDegraded", [series("spikehead_records_degraded", "1x60")], True),
    ("SpikeheadReloadRefused", [series("spikehead_models_refused", "0x58 1 1")], True),
    ("SpikeheadReloadRefused", [series("spikehead_models_refused", "1x58 0 0")], False),
    ("SpikeheadUnusualFiringRate", [*UNUSUAL, series('spikehead_images_total{model="m"}', "0+60x60")], True),
    ("SpikeheadUnusualFiringRate", [*UNUSUAL, series('spikehead_images_total{model="m"}', "0+1x60")], False),
    (
        "SpikeheadErrors",
        [
            series('spikehead_requests_total{status="200"}', "0+90x60"),
            series('spikehead_requests_total{status="503"}', "0+10x60"),
        ],
        True,
    ),
    ("SpikeheadErrors", [series('spikehead_requests_total{status="429"}', "0+90x60")], False),
    (
        "SpikeheadSlow",
        [
            series('spikehead_request_seconds_bucket{route="/classify",le="1"}', "0+9x60"),
            series('spikehead_request_seconds_bucket{route="/classify",le="2.5"}', "0+10x60"),
            series('spikehead_request_seconds_bucket{route="/classify",le="+Inf"}', "0+10x60"),
        ],
        True,
    ),
]


@promtool
@pytest.mark.parametrize(("alert", "input_series", "fires"), CASES)
def test_alert_fires(alert: str, input_series: list[dict[str, str]], fires: bool, tmp_path: Path) -> None:
    """An hour of figures, one a minute."""
    (tmp_path / RULES.name).write_text(RULES.read_text())
    count = {"expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})', "eval_time": "1h"}
    count["exp_samples"] = [{"labels": "{}", "value": 1}] if fires else []  # type: ignore[assignment]
    test = {"interval": "1m", "input_series": input_series, "promql_expr_test": [count]}
    (tmp_path / "test.yml").write_text(json.dumps({"rule_files": [RULES.name], "tests": [test]}))
    done = subprocess.run(
        ["promtool", "test", "rules", "test.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_case() -> None:
    assert {alert for alert, _, fires in CASES if fires} == {rule["alert"] for rule in ALERTS}
