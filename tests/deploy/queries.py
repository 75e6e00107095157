"""What PromQL expressions name, and what a text exposition has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

_METRIC = re.compile(r"\b(?:holdfast|node)_[a-z0-9_]+\b|\bup\b")
_SELECTOR = re.compile(r"\b([a-z_]+)\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPED = re.compile(r"\bby \(([^)]*)\)")
_SUFFIX = re.compile(r"_(?:bucket|sum|count)$")

TARGET = frozenset({"job", "instance"})
"""Labels that Prometheus itself gives to what it scrapes."""


@dataclass
class Named:
    """By metric: the labels that are asked for, and the values that they are compared to."""

    metrics: set[str] = field(default_factory=set)
    labels: dict[str, set[str]] = field(default_factory=dict)
    grouped: list[tuple[frozenset[str], frozenset[str]]] = field(default_factory=list)
    """Metrics of one expression, and the labels that it groups by."""
    values: dict[str, set[str]] = field(default_factory=dict)


def named(expressions: Iterable[str]) -> Named:
    found = Named()
    for expression in expressions:
        bare = re.sub(r'"[^"]*"', '""', expression)
        metrics = frozenset(_METRIC.findall(bare))
        found.metrics |= metrics
        for metric, selector in _SELECTOR.findall(expression):
            for label, _, value in _MATCHER.findall(selector):
                found.labels.setdefault(metric, set()).add(label)
                if not value.startswith("$"):
                    found.values.setdefault(label, set()).update(value.split("|"))
        for group in _GROUPED.findall(bare):
            wanted = frozenset(part.strip() for part in group.split(","))
            found.grouped.append((metrics, wanted))
    return found


def exposed(*texts: str) -> Mapping[str, frozenset[str]]:
    """By the name of each series, as it is queried, all labels that it has."""
    found: dict[str, set[str]] = {}
    for text in texts:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    return {name: frozenset(labels) for name, labels in found.items()}


def family(series: str) -> str:
    """The metric that a series of a histogram belongs to."""
    return _SUFFIX.sub("", series)
