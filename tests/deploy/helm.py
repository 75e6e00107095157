"""The chart as Helm renders it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.support.engines import missing

DIRECTORY = Path(__file__).parents[2] / "deploy" / "kubernetes"
CHART = DIRECTORY / "holdfast"
RELEASE, NAMESPACE = "registry", "images"

Manifest = dict[str, Any]


def library() -> Any:
    """Helm itself; the test ends here where it is not installed."""
    try:
        import helm_python
    except ImportError:
        missing("helm-python-sdk is not installed")
    return helm_python


def example(name: str) -> dict[str, Any]:
    """One of the files of values that are shipped."""
    values: dict[str, Any] = yaml.safe_load((DIRECTORY / name).read_text())
    return values


def render(values: Mapping[str, Any]) -> list[Manifest]:
    """Raises Helm's error, with the sentence of the chart if it refuses the values."""
    with library().Chart.load(str(CHART)) as chart:
        chart.validate_schema(dict(values))
        files: dict[str, str] = chart.render(dict(values), name=RELEASE, namespace=NAMESPACE)
    texts = [text for name, text in sorted(files.items()) if name.endswith(".yaml")]
    return [found for text in texts for found in yaml.safe_load_all(text) if found]


def one(manifests: Sequence[Manifest], kind: str, component: str = "") -> Manifest:
    """The only manifest of a kind, or the one whose name ends so."""
    (found,) = (
        each
        for each in manifests
        if each["kind"] == kind and each["metadata"]["name"].endswith(component)
    )
    return found


def pods(manifests: Sequence[Manifest]) -> dict[str, Manifest]:
    """The templates of pods, by the kind that makes them."""
    found = {each["kind"]: each["spec"] for each in manifests if "spec" in each}
    templates = {"Deployment": found["Deployment"]["template"]}
    if "CronJob" in found:
        templates["CronJob"] = found["CronJob"]["jobTemplate"]["spec"]["template"]
    return templates


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
