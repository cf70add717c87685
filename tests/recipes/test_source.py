"""Recipe text: positions, YAML 1.2 scalars, and what is refused (reliability S4)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nasdistill.recipes.source import RecipeError, dump, parse, read_source

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=8)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
def test_json_is_read_as_json_reads_it(value: object) -> None:
    assert parse(json.dumps(value, ensure_ascii=False)).data == value


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_any_text_is_data_or_a_recipe_error_with_its_file(text: str) -> None:
    told = "fuzz.yaml"
    try:
        parse(text, "fuzz.yaml")
    except RecipeError as error:
        told = str(error)
    assert told.startswith("fuzz.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("2.5E+2", 250.0),
        (".5", 0.5),
        ("-3", -3),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("~", None),
        ("012", 12),
        ("'3'", "3"),
        ("2026-11-21", "2026-11-21"),
        ("1_000", "1_000"),
    ],
)
def test_plain_words_follow_yaml_1_2(text: str, value: object) -> None:
    found = parse(text).data
    assert found == value
    assert type(found) is type(value)


def test_every_value_knows_its_line() -> None:
    source = parse("a: 1\nb:\n  - x\n  - {c: 2,\n     d: 3}\n", "r.yaml")
    assert source.where(("a",)) == "r.yaml:1"
    assert source.where(("b", 0)) == "r.yaml:3"
    assert source.where(("b", 1, "d")) == "r.yaml:5"
    assert source.where(("b", 1, "missing", "deeper")) == "r.yaml:4"


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("a: 1\nb: !!python/object/apply:os.system [true]\n", 2, "tag"),
        ("a: 1\nb: !ruby {}\n", 2, "tag"),
        ("a: &x 1\n", 1, "anchors"),
        ("a: 1\nb: *x\n", 2, "anchor"),
        ("a: 1\nb: 2\na: 3\n", 3, "twice"),
        ("a: 1\n---\nb: 2\n", 2, "one document"),
        ("a: [1, 2\nb: 3\n", 2, "not valid YAML"),
        ("a: 1\n? [1]\n: 2\n", 2, "plain word"),
        ("a: 1\n\tb: 2\n", 2, "not valid YAML"),
        ("a:\n  " + "[" * 50 + "]" * 50, 2, "levels deep"),
        ("a:\n  " + "{b: " * 50_000, 2, "levels deep"),
        ("a:\n  " + "- " * 5_000, 2, "levels deep"),
    ],
)
def test_what_is_refused_is_named_with_its_line(text: str, line: int, word: str) -> None:
    with pytest.raises(RecipeError, match=word) as caught:
        parse(text, "r.yaml")
    assert f"r.yaml:{line}:" in str(caught.value)


def test_depth_is_named_whatever_the_parser_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise yaml.YAMLError("in the parser's own words")

    monkeypatch.setattr(yaml, "parse", refuse)
    with pytest.raises(RecipeError, match=r"r\.yaml:2: nested more than 20 levels deep"):
        parse("a:\n  " + "[" * 50 + "]" * 50, "r.yaml")
    with pytest.raises(RecipeError, match=r"r\.yaml: not valid YAML"):
        parse("a: [1, 2]", "r.yaml")


def test_bytes_that_are_no_text_are_named_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(b"name: x\nb: \xff\xfe\n")
    with pytest.raises(RecipeError, match=r"r\.yaml:2: not UTF-8"):
        read_source(path)


def test_a_merge_key_is_a_key_like_any_other() -> None:
    assert parse("<<: {a: 1}").data == {"<<": {"a": 1}}


BOMBS = {
    "aliases": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{n}: &{n} [{','.join(['*' + p] * 9)}]\n" for p, n in zip("abcdefgh", "bcdefghi", strict=True)),
    "depth": "[" * 400_000,
    "length": "a: " + "x" * 2_000_000,
    "keys": "\n".join(f"k{i}: 1" for i in range(60_000)) + "\nk0: 2\n",
}


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_are_refused_within_a_second_and_200_megabytes(bomb: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.yaml"
    path.write_text(BOMBS[bomb])
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from nasdistill.recipes.source import RecipeError, read_source\n"
        "start = time.process_time()\n"
        "try:\n"
        "    read_source(Path(sys.argv[1])); print('read')\n"
        "except RecipeError as error:\n"
        "    print(str(error)[:300])\n"
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(time.process_time() - start, peak.split()[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    said, measured = done.stdout.splitlines()
    seconds, kilobytes = map(float, measured.split())
    assert "bomb.yaml" in said
    assert seconds < 1
    assert kilobytes < 200_000


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), PLAIN))
def test_the_text_that_data_are_written_as_reads_the_same(data: dict[str, object]) -> None:
    assert parse(dump(data)).data == data


@pytest.mark.parametrize("word", ["1e5", "true", "~", "", "null", "12", ".5", "no", "- x", "a: b", "#"])
def test_words_that_look_like_something_else_stay_words(word: str) -> None:
    assert parse(dump({word: [word]})).data == {word: [word]}
