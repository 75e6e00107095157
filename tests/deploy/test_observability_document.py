"""docs/observability.md names every metric, route and field of the log, and none that is not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from auth.audit import What
from registry.parsing import Kind
from registry.telemetry.metrics import Metrics
from registry.tracing import spans
from tests.deploy.queries import exposed, family
from tests.deploy.told import Told

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
METRIC = re.compile(r"^\| `(holdfast_\w+)` \| (\w+) \|([^|]*)\| (.*\.) \|$", re.MULTILINE)
EVERYWHERE = "## The log"
ACCESS, AUDIT, OTHERS = "### Access lines", "### The audit", "### Others"


def _section(heading: str) -> str:
    """From a heading to the next one of any level."""
    begin = DOCUMENT.index(f"\n{heading}\n") + len(heading) + 2
    following = re.compile(r"^#", re.MULTILINE).search(DOCUMENT, begin)
    return DOCUMENT[begin : following.start() if following else None]


def _fields(heading: str) -> set[str]:
    rows = re.findall(r"^\| ((?:`[\w.]+`(?:, )?)+) \|", _section(heading), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([\w.]+)`", row)}


def _labels(cell: str) -> frozenset[str]:
    return frozenset(re.findall(r"`(\w+)`", cell))


def _registered() -> Iterator[MetricWrapperBase]:
    metrics = Metrics()
    for collector in metrics._series._registry._collector_to_names:
        assert isinstance(collector, MetricWrapperBase)
        yield collector


def test_every_metric_is_documented_with_its_type_and_labels(told: Told) -> None:
    documented = {
        name: (kind, _labels(labels)) for name, kind, labels, _ in METRIC.findall(DOCUMENT)
    }
    assert len(documented) == len(METRIC.findall(DOCUMENT))
    real = {
        metric._name + ("_total" if metric._type == "counter" else ""): (
            metric._type,
            frozenset(metric._labelnames),
        )
        for metric in _registered()
    }
    collected = {
        found.name: (
            found.type,
            frozenset(label for each in found.samples for label in each.labels),
        )
        for found in text_string_to_metric_families(told.textfile)
    }
    assert documented == real | collected


def test_a_registry_tells_all_of_them(told: Told) -> None:
    documented = {name for name, *_ in METRIC.findall(DOCUMENT)}
    series = exposed(told.registry, told.textfile)
    assert {family(name) if name not in documented else name for name in series} == documented


def test_every_route_is_documented() -> None:
    (sentence,) = re.findall(r"^`route` is one of (.*?)\.\n", DOCUMENT, re.MULTILINE | re.DOTALL)
    outside = {
        match
        for path in (ROOT / "registry").rglob("*.py")
        for match in re.findall(
            r'(?:\.route = |^ROUTE: Final = |route: str = )"(\w+)"', path.read_text(), re.MULTILINE
        )
    }
    assert set(re.findall(r"`(\w+)`", sentence)) == {kind.value for kind in Kind} | outside


def test_every_event_is_documented() -> None:
    events = {what.value for what in What} | {"push", "delete"}
    (counted,) = re.findall(r"Lines of the audit: (.*)\. \|$", DOCUMENT, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", counted)) == events
    told = _section(AUDIT).partition(" as messages")[0].partition(": ")[2]
    assert set(re.findall(r"`(\w+)`", told)) == events


def test_no_document_names_a_metric_that_is_not_there() -> None:
    known = {name for name, *_ in METRIC.findall(DOCUMENT)}
    for path in [*(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")]:
        for name in re.findall(r"\bholdfast_[a-z_]+\b(?!\.prom)", path.read_text()):
            whole = family(name)  # or the beginning of some, for grep
            assert any(each.startswith(whole) for each in known), f"{path}: {name}"


def test_every_field_of_access_lines_is_documented(told: Told) -> None:
    seen = {field for line in told.lines if line["logger"] == "holdfast.access" for field in line}
    common = _fields(EVERYWHERE)
    assert seen - common == _fields(ACCESS)
    assert {"time", "level", "msg", "logger", "request_id"} <= common & seen


def test_every_other_field_that_the_code_sets_is_documented() -> None:
    audited: set[str] = set()
    others: set[str] = set()
    for path in (ROOT / "registry").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call):
                continue
            names = {word.arg for word in call.keywords if word.arg is not None}
            if (
                path.name == "audit.py"
                and isinstance(call.func, ast.Name)
                and call.func.id == "_fields"
            ):
                audited |= names
            if (
                isinstance(call.func, ast.Attribute)
                and isinstance(call.func.value, ast.Name)
                and call.func.value.id in {"log", "_log"}
            ):
                others |= names - {"exc_info", "extra"}
    assert audited == _fields(AUDIT)
    assert others == _fields(OTHERS)


def test_attributes_of_spans_are_documented() -> None:
    source = Path(spans.__file__).read_text()
    ours = set(re.findall(r'"(holdfast\.[a-z_]+)"', source)) - {"holdfast.tracing"}
    documented = set(re.findall(r"`(holdfast\.[a-z_]+)`", DOCUMENT.split("## Traces")[1]))
    assert documented == ours
