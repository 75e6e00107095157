"""Whatever stands in a file or the environment, load() answers or raises ConfigError."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.config import ConfigError, check_exposure, load, render
from registry.config.section import known_keys, variable_of
from registry.config.settings import Settings

KEYS = sorted({part for key in known_keys(Settings) for part in key.split(".") if part[0] != "<"})
VARIABLES = sorted(
    variable_of(key.replace("<n>", "0").replace("<name>", "x")) for key in known_keys(Settings)
)
BRANCHES = sorted({name.rpartition("_")[0] for name in VARIABLES} - {"REGISTRY"})

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        ["0.1", "filesystem", "s3", "inmemory", ":5000", "10s", "0", "/x", "list", "unix", "true"]
    ),
)
trees = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=4)), inner, max_size=4),
    ),
    max_leaves=12,
)
files = st.one_of(
    trees.map(lambda tree: yaml.safe_dump(tree, allow_unicode=True)),
    st.dictionaries(st.sampled_from(KEYS), trees, max_size=5).map(
        lambda tree: yaml.safe_dump({"version": 0.1, "storage": "inmemory", **tree})
    ),
    st.text(max_size=60),
    st.text(alphabet="{}[]:,&*!|>'\"%@`#-? \n\tab0<", max_size=40),
)
values = st.one_of(
    st.text(max_size=20),
    st.text(alphabet="{}[]:,&*!|>'\"%@`#-? \n\tab0<", max_size=20),
    trees.map(lambda tree: yaml.safe_dump(tree, default_flow_style=True)),
)
environments = st.dictionaries(
    st.one_of(
        st.sampled_from(VARIABLES),
        st.sampled_from(BRANCHES),
        st.lists(st.sampled_from([*KEYS, "0", "1", "x", ""]), max_size=5).map(
            lambda parts: "_".join(["REGISTRY", *parts]).upper()
        ),
        st.text(max_size=6).map("REGISTRY_".__add__),
    ).filter(lambda name: name != "REGISTRY_CONFIGURATION_PATH"),
    values,
    max_size=4,
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.one_of(st.none(), files), environ=environments)
def test_load_answers_or_raises_config_error(
    tmp_path: Path, text: str | None, environ: dict[str, str]
) -> None:
    path = None
    if text is not None:
        path = tmp_path / "config.yml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        loaded = load(path, environ)
    except ConfigError as error:
        lines = [*error.problems, *error.warnings] if error.problems else [""]
    else:
        lines = list(loaded.warnings)
        check_exposure(loaded.settings, False)
        shown = render(loaded.settings)
        assert shown.isascii()
        assert yaml.safe_load(shown)["version"] == 0.1
    assert all(line and line.isprintable() for line in lines), lines


@given(path=st.text(max_size=30))
def test_any_name_of_a_file_is_an_answer(path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {"REGISTRY_CONFIGURATION_PATH": f"/nowhere/{path}"})
    assert len(caught.value.problems) == 1
