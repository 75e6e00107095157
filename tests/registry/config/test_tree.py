from __future__ import annotations

import pytest

from registry.config.fit import loosen
from registry.config.tree import Map, NotYaml, Scalar, parse


def _plain(text: str) -> object:
    return loosen(parse(text)[0])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 0123", {"a": "0123"}),
        ("a: yes", {"a": "yes"}),
        ("a: 1e3", {"a": "1e3"}),
        ("a: 2026-01-01", {"a": "2026-01-01"}),
        ("a: ~\nb:\nc: null", {"a": None, "b": None, "c": None}),
        ("a: 'null'\nb: ''", {"a": "null", "b": ""}),
        ("a: !!str 5", {"a": "5"}),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
        ("1: x", {"1": "x"}),
        ("[a, {b: c}]", ["a", {"b": "c"}]),
        ("a: &x [1]\nb: *x", {"a": ["1"], "b": ["1"]}),
        (
            "a: &x {p: 1, q: 2}\nb:\n  <<: *x\n  q: 3",
            {"a": {"p": "1", "q": "2"}, "b": {"p": "1", "q": "3"}},
        ),
        (
            "a: &x {p: 1}\nb: &y {q: 2}\nc: {<<: [*x, *y]}",
            {"a": {"p": "1"}, "b": {"q": "2"}, "c": {"p": "1", "q": "2"}},
        ),
        ("'<<': x", {"<<": "x"}),
        ("---\na: b\n...\n", {"a": "b"}),
        ("", None),
        ("# nothing", None),
    ],
)
def test_scalars_stay_what_was_typed(text: str, value: object) -> None:
    assert _plain(text) == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1", "line 1, column 6"),
        ("a: b: c", "line 1, column 5"),
        ("a:\n\tb: 1", "a tab where YAML wants spaces"),
        ("a: *b", "no anchor"),
        ("a: &a [*a]", "no anchor"),
        ("a: 1\n---\nb: 2", "line 2, column 1: a second document"),
        ("a: !!python/name:os.system x", "a tag"),
        ("a: !!python/object/apply:os.system ['true']", "a tag"),
        ("a: !!set {b}", "a tag"),
        ("a: !!binary aGk=", "a tag"),
        ("? [a]\n: b", "a key is a map or a list"),
        ("<<: 5", "merges maps"),
        ("a: 1\nb: \x00", "line 2: holds a character"),
        ('a: "\\UFFFFFFFF"', "holds an escape"),
        ("[" * 200, "levels deep"),
        ("[" * 100_000, "levels deep"),
        ("[" + "1," * 20_001 + "]", "more than 20000 values"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(text: str, says: str) -> None:
    with pytest.raises(NotYaml, match=says):
        parse(text)


def test_aliases_cannot_grow_beyond_the_bound() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
    )
    with pytest.raises(NotYaml, match="aliases counted in full"):
        parse(bomb)


def test_an_error_does_not_show_the_text() -> None:
    with pytest.raises(NotYaml) as caught:
        parse("password: *hunter2")
    assert "hunter2" not in str(caught.value)


def test_a_key_written_twice_is_reported_and_both_maps_are_kept() -> None:
    root, duplicates = parse("a:\n  b: 1\n  c: 2\na:\n  b: 3\nd: [{e: 1, e: 2}]\n")
    assert [(d.path, d.first, d.second) for d in duplicates] == [
        (("a",), "line 1", "line 4"),
        (("d", "0", "e"), "line 6", "line 6"),
    ]
    assert loosen(root) == {"a": {"b": "3", "c": "2"}, "d": [{"e": "2"}]}


def test_every_node_knows_its_line_or_the_origin_given() -> None:
    root, _ = parse("a: 1\nb:\n  c: 2")
    assert isinstance(root, Map)
    inner = root.entries["b"]
    assert isinstance(inner, Map)
    assert inner.entries["c"] == Scalar("2", "line 3")
    assert parse("x", "from REGISTRY_X")[0] == Scalar("x", "from REGISTRY_X")
