"""Alerts, dashboard and log examples name what a real registry tells, and alerts fire when they should."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from auth.audit import What
from tests.deploy.queries import TARGET, exposed, named
from tests.deploy.told import Told
from tests.support.engines import program

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "deploy" / "observability"
DASHBOARD = json.loads((SHIPPED / "dashboard.json").read_text())
RULES = [
    rule
    for group in yaml.safe_load((SHIPPED / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
UNIT_TESTS = Path(__file__).parent / "alerts_test.yml"

pytestmark = pytest.mark.engine("prometheus")


def _panels() -> Iterator[dict[str, Any]]:
    yield from (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def _asked(panel: Mapping[str, Any]) -> list[str]:
    return [target["expr"] for target in panel["targets"]]


QUERIES = [*(query for panel in _panels() for query in _asked(panel)), *(r["expr"] for r in RULES)]


def _promtool(*arguments: object) -> None:
    command = [program("promtool"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_the_rules_and_the_configuration() -> None:
    _promtool("check", "rules", SHIPPED / "alerts.yml")
    _promtool("check", "config", SHIPPED / "prometheus.yml")


def test_alerts_fire_when_they_should_and_only_then() -> None:
    _promtool("test", "rules", UNIT_TESTS)


def test_every_alert_is_tried_both_ways() -> None:
    tried = [
        (each["alertname"], bool(each["exp_alerts"]))
        for test in yaml.safe_load(UNIT_TESTS.read_text())["tests"]
        for each in test["alert_rule_test"]
    ]
    assert set(tried) == {(rule["alert"], fires) for rule in RULES for fires in (True, False)}


def test_every_alert_says_what_to_do() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names) >= 10
    for rule in RULES:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        annotations = rule["annotations"]
        assert annotations.keys() == {"summary", "description", "runbook_url"}
        for sentence in (annotations["summary"], annotations["description"]):
            assert sentence.endswith("."), rule["alert"]
        runbook = ROOT / annotations["runbook_url"]
        assert runbook.suffix == ".md"
        assert runbook.is_file(), f"{rule['alert']}: {runbook} is missing"
        for other in re.findall(r"[a-z-]+\.md", annotations["description"]):
            assert (runbook.parent / other).is_file(), other


def test_what_is_queried_is_told(told: Told) -> None:
    series = exposed(told.registry, told.exporter)
    asked = named(QUERIES)
    assert len(asked.metrics) > 20
    assert asked.metrics - {"up"} <= series.keys()
    for metric, labels in asked.labels.items():
        assert labels <= series.get(metric, frozenset()) | TARGET, metric
    for metrics, grouped in asked.grouped:
        known = frozenset().union(*(series.get(metric, frozenset()) for metric in metrics))
        assert grouped <= known | TARGET, (metrics, grouped)


def test_labels_are_compared_to_values_that_there_are() -> None:
    document = (ROOT / "docs" / "observability.md").read_text()
    asked = named(QUERIES).values
    assert asked["event"] <= {what.value for what in What}
    assert asked["result"] <= {"ok", "not_found", "error", "hit", "miss"}
    operations = (ROOT / "storage" / "drivers" / "observed.py").read_text()
    for operation in asked["operation"]:
        assert f'"{operation}"' in operations
    for route in asked["route"]:
        assert f"`{route}`" in document  # whose list of routes another test compares to the code
    for status in asked["status"]:
        assert re.fullmatch(r"[45](\d\d|\.\.)", status), status


def test_the_collectors_metrics_come_by_way_of_node_exporter(told: Told) -> None:
    written, seen = exposed(told.textfile), exposed(told.exporter)
    assert len(written) > 10
    assert written.keys() <= seen.keys()


def test_the_dashboard_can_be_imported() -> None:
    assert DASHBOARD["title"]
    identities = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identities)) == len(identities)
    source = {"type": "prometheus", "uid": "${datasource}"}
    covered: set[tuple[int, int]] = set()
    for panel in _panels():
        assert panel["description"].endswith("."), panel["title"]
        assert panel["datasource"] == source
        assert all(target["datasource"] == source for target in panel["targets"])
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not covered & own, panel["title"]
        covered |= own
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(list(_panels()))))
    assert used - {"__rate_interval"} <= variables


def test_promtool_takes_every_query_of_the_dashboard(tmp_path: Path) -> None:
    queries = [query for panel in _panels() for query in _asked(panel)]
    plain = [
        query.replace("$__rate_interval", "5m")
        .replace("$instance", ".*")
        .replace("$job", "holdfast")
        for query in queries
    ]
    rules = [
        {"record": f"holdfast:panel{number}", "expr": query} for number, query in enumerate(plain)
    ]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    _promtool("check", "rules", path)


NAMES = {
    "vector.yaml": re.compile(r"(?<![\w.])\.(?!timestamp|message|labels)([a-z]\w*)"),
    "fluentd.conf": re.compile(r"^\s+(?:key|time_key) (\w+)$", re.MULTILINE),
    "loki.alloy": re.compile(r'^      \w+ += "(\w+)",$', re.MULTILINE),
}


@pytest.mark.parametrize("example", NAMES)
def test_log_examples_name_fields_and_loggers_of_real_lines(told: Told, example: str) -> None:
    text = (SHIPPED / example).read_text()
    fields = set(NAMES[example].findall(text))
    assert "logger" in fields
    assert fields <= {field for line in told.lines for field in line}
    loggers = set(re.findall(r"holdfast\.(?:access|audit|storage)\b", text))
    assert loggers <= {line["logger"] for line in told.lines}


def test_times_in_the_log_are_as_the_examples_read_them(told: Told) -> None:
    for line in told.lines:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
