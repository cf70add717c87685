"""Genotypes as they are printed elsewhere, against those that the DARTS paper published."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from nasdistill.errors import SpecError
from nasdistill.models.base import MODELS
from nasdistill.models.genotypes import DARTS_V2, Genotype
from nasdistill.recipes.source import parse

NORMAL = (
    "[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)]"
)
REDUCE = (
    "[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), "
    "('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)]"
)
PRINTED = f"Genotype(normal={NORMAL}, normal_concat=[2, 3, 4, 5], reduce={REDUCE}, reduce_concat=[2, 3, 4, 5])"
LISTS = {
    "normal": [list(edge) for node in DARTS_V2.normal for edge in node],
    "normal_concat": [2, 3, 4, 5],
    "reduce": [list(edge) for node in DARTS_V2.reduce for edge in node],
    "reduce_concat": [2, 3, 4, 5],
}


def genotype(value: Any) -> Genotype:
    found = MODELS.parse({"name": "darts", "genotype": value}).genotype
    assert isinstance(found, Genotype)
    return found


@pytest.mark.parametrize(
    "value",
    [
        PRINTED,
        PRINTED.replace("[2, 3, 4, 5]", "range(2, 6)"),
        f"DARTS_V2 = {PRINTED}\n",
        PRINTED.replace("[2, 3, 4, 5]", "list(range(2, 6))"),
        PRINTED.replace("('max_pool_3x3', 1)", "(np.str_('max_pool_3x3'), np.int64(1))"),
        f"2019-03-12 10:00:00,123 genotype = genotypes.{PRINTED}",
        PRINTED.replace(", ", ",\n    "),
        f"Genotype({NORMAL}, range(2, 6), {REDUCE}, range(2, 6))",
        f"Genotype(normal={NORMAL}, reduce={REDUCE})",
        PRINTED.replace("('", "['").replace("),", "],").replace(")]", "]]"),
        f"{{'normal': {NORMAL}, 'normal_concat': range(2, 6), 'reduce': {REDUCE}, 'reduce_concat': [5, 4, 3, 2]}}",
        json.dumps(LISTS),
        LISTS,
        {"normal": LISTS["normal"], "reduce": DARTS_V2.reduce},
        DARTS_V2.model_dump(mode="json"),
        json.dumps(DARTS_V2.model_dump(mode="json")),
        {"normal": NORMAL, "normal_concat": "range(2, 6)", "reduce": REDUCE},
        parse(f"normal: {NORMAL}\nreduce: {REDUCE}\nnormal_concat: range(2, 6)").data,
        parse(f"it: {PRINTED}").data["it"],
    ],
)
def test_every_way_to_print_a_genotype_is_read_as_the_same(value: Any) -> None:
    assert genotype(value) == DARTS_V2


def test_a_printed_genotype_has_the_published_count() -> None:
    with torch.device("meta"):
        network = MODELS.parse({"name": "darts", "genotype": PRINTED}).build((3, 32, 32), 10)
    assert sum(parameter.numel() for parameter in network.parameters()) == 3_349_342


def test_two_nodes_in_one_list() -> None:
    cell = [["sep_conv_3x3", 0], ["sep_conv_3x3", 1], ["skip_connect", 0], ["sep_conv_3x3", 2]]
    found = genotype({"normal": cell, "normal_concat": [2, 3], "reduce": cell, "reduce_concat": [2, 3]})
    assert found.normal == ((("sep_conv_3x3", 0), ("sep_conv_3x3", 1)), (("skip_connect", 0), ("sep_conv_3x3", 2)))


@pytest.mark.parametrize(
    ("value", "words", "path"),
    [
        (PRINTED[:-1], r"cannot be read at line 1, character \d+; it is written Genotype\(normal=", ()),
        (PRINTED.replace("0)", "o)", 1), r"has 'o' at line 1, character 35, where a list, a name, a number", ()),
        (PRINTED.replace("[2, 3, 4, 5]", "__import__('os').getcwd()"), r"has \"__import__\('os'\).getcwd\(\)\"", ()),
        ("Genotype(normal=range(0, 10 ** 9))", r"has '10 \*\* 9'", ()),
        ("Genotype(normal=range(1000000000))", r"has 'range\(1000000000\)'", ()),
        ("Genotype(**{'normal': []})", r"unknown key '\*\*'", ("**",)),
        (f"Genotype({NORMAL}, normal={NORMAL})", "gives 'normal' twice", ()),
        ("Genotype(" + "(" * 500, "cannot be read", ()),
        (NORMAL, "a genotype has two cells, normal and reduce", ()),
        (f"Genotype(normal={NORMAL})", "the key 'reduce' is missing", ("reduce",)),
        (f"Genotype(norml={NORMAL})", "unknown key 'norml'; did you mean 'normal'", ("norml",)),
        ({**LISTS, "normal": LISTS["normal"][:7]}, "7 edges in one list, which holds two for each node", ("normal",)),
        ({**LISTS, "reduce_concat": [4, 5]}, r"a cell of 4 nodes is made of all, .* got \[4, 5\]", ("reduce_concat",)),
        ({**LISTS, "normal_concat": 6}, "is made of all, .* got 6", ("normal_concat",)),
        (
            {**LISTS, "normal": [["skip_connect", "1"]] * 2},
            r"\['skip_connect', '1'\] is no edge; one is",
            ("normal", 0),
        ),
        ({**LISTS, "normal": [["skip_connect", 0], [1, "x"]]}, r"\[1, 'x'\] is no edge", ("normal", 1)),
        ({**LISTS, "normal": [[["skip_connect", 0, 0]]]}, "is no edge; one is", ("normal", 0, 0)),
        ({**LISTS, "normal": ["skip_connect", 0]}, "'skip_connect'; an edge is", ("normal", 0)),
        ({**LISTS, "normal": "sep conv"}, "'sep conv' cannot be read; a genotype is written Genotype", ("normal",)),
        ({**LISTS, "normal": 3}, "a cell is a list of edges, got 3", ("normal",)),
        ({"normal": NORMAL, "reduce": [["skip_connect", 0], ["skip_connect", 2]]}, "may read 0 to 1", ("reduce", 0)),
    ],
)
def test_a_mistake_is_answered_with_its_place_and_the_form(value: Any, words: str, path: tuple[object, ...]) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        genotype(value)
    assert caught.value.path == ("genotype", *path)


def test_a_file_is_given_by_its_text(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cells.txt").write_text(PRINTED)
    with pytest.raises(SpecError, match=r"'cells.txt' is a file; .* genotype=\"\$\(cat cells.txt\)\""):
        genotype("cells.txt")
