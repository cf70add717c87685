from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from nasdistill.errors import SpecError, UserError
from nasdistill.models.genotypes import DARTS_V1
from nasdistill.models.inspection import count_parameters
from nasdistill.plugins import load_plugin
from nasdistill.registry import plugins, registry
from nasdistill.search.spaces import SPACES
from nasdistill.search.spaces.cells import CellSpace
from nasdistill.search.spaces.files import read_space, space_from_file
from nasdistill.search.strategies.random import sample_cell

OWN = """
description: Pools only.
operations: [none, max_pool_3x3, avg_pool_3x3]
nodes: 2
cells: 6
"""


def test_the_published_space() -> None:
    space = SPACES.parse("darts")
    assert space.operations == (
        *("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect"),
        *("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"),
    )
    assert (space.nodes, space.edges_per_node, len(space.edges())) == (4, 2, 14)
    assert (space.search_channels, space.search_cells, space.channels, space.cells) == (16, 8, 36, 20)


def test_edges_come_node_by_node() -> None:
    assert SPACES.parse("darts-tiny").edges()[:6] == [(0, 0), (1, 0), (0, 1), (1, 1), (2, 1), (0, 2)]


def test_choices_count_as_many_architectures_as_the_paper() -> None:
    """Liu et al. 2019, section 2.1 and appendix A.3: prod_k k (k + 1) / 2 * 7^2 for each of the two cells, k = 1..4."""
    choices = SPACES.parse("darts").choices((3, 32, 32), 10)
    count = math.prod(len(alternatives) for alternatives in choices.values())
    assert count == math.prod(k * (k + 1) // 2 * 7**2 for k in range(1, 5)) ** 2
    assert all(len(set(map(str, alternatives))) == len(alternatives) for alternatives in choices.values())


def test_chosen_alternatives_make_the_published_network() -> None:
    space = SPACES.parse({"name": "darts", "channels": 8, "cells": 5})
    choices = space.choices((3, 32, 32), 10)
    chosen: dict[str, object] = {}
    for cell, nodes in (("normal", DARTS_V1.normal), ("reduce", DARTS_V1.reduce)):
        for node, edges in enumerate(nodes):
            in_order = sorted(edges, key=lambda edge: edge[1])
            chosen[f"{cell}/{node}/states"] = [state for _operation, state in in_order]
            chosen |= {f"{cell}/{node}/{number}": operation for number, (operation, _state) in enumerate(in_order)}
    assert set(chosen) == set(choices)
    assert all(chosen[label] in choices[label] for label in choices)
    model = registry("models").parse(space.model(chosen))
    ordered = [tuple(tuple(sorted(e, key=lambda x: x[1])) for e in c) for c in (DARTS_V1.normal, DARTS_V1.reduce)]
    assert [model.genotype.normal, model.genotype.reduce] == ordered
    assert (model.channels, model.cells) == (8, 5)


def test_every_shipped_file_is_a_documented_space() -> None:
    for name in (
        "darts",
        "darts-tiny",
        "nas-bench-201",
        "residual",
        "mobilenet",
        "mobilenet-tiny",
        "s1",
        "s2",
        "s3",
        "s4",
    ):
        space = SPACES.get(name)
        assert space.__doc__
        assert space.source
        assert SPACES.parse(SPACES.parse(name).spec()) == SPACES.parse(name)


def test_options_override_the_file() -> None:
    space = SPACES.parse({"name": "darts-tiny", "cells": 6})
    assert space.cells == 6
    assert space.model_copy(update={"cells": SPACES.parse("darts-tiny").cells}) == SPACES.parse("darts-tiny")


def test_a_path_stands_for_the_space_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(OWN)
    space = SPACES.parse(str(path))
    assert (space.operations, space.nodes, space.cells) == (("none", "max_pool_3x3", "avg_pool_3x3"), 2, 6)
    # What is written down is the content, so that the file may go.
    path.unlink()
    assert SPACES.parse(space.spec()) == space


def test_a_file_becomes_a_component(tmp_path: Path) -> None:
    path = tmp_path / "pools-only.yaml"
    path.write_text(OWN)
    component = space_from_file(path)
    assert component.__doc__ == "Pools only."
    assert component().cells == 6
    assert component(cells=7).cells == 7


@pytest.mark.parametrize(
    ("options", "path", "words"),
    [
        ({"operations": ["none", "sep_conv_3x4"]}, ("operations", 1), "did you mean 'sep_conv_3x3'"),
        ({"operations": ["skip_connect", "skip_connect"]}, ("operations", 1), "listed twice"),
        ({"operations": ["none"]}, ("operations",), "other than 'none'"),
        ({"cells": 0}, ("cells",), "greater than 0"),
        ({"search_cells": 2}, ("search_cells",), "at least 3"),
        ({"cell": 3}, ("cell",), "did you mean 'cells'"),
        ({"cells": 3, "widths": [8, 8]}, ("widths",), "2 widths for 3 cells"),
    ],
)
def test_mistakes_are_named_with_their_place(options, path, words) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        SPACES.parse({"name": "darts-tiny", **options})
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("operations: [none", "is no YAML"),
        ("- darts", "mapping of options"),
        ("operation: [none]", "did you mean 'operations'"),
        ("operations: &a [none]\nwidths: *a", "aliases"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        read_space(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(SpecError, match=r"'no/such\.yaml' cannot be read"):
        SPACES.parse("no/such.yaml")


def test_a_plugin_adds_a_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SPACES.names()
    monkeypatch.setattr(SPACES, "_components", {name: SPACES.get(name) for name in SPACES.loaded()})
    path = tmp_path / "plugin.py"
    path.write_text(
        "from nasdistill.search.spaces import SPACES\n"
        "from nasdistill.search.spaces.darts_cells import DartsSpace\n"
        "@SPACES.register('three-nodes')\n"
        "class ThreeNodes(DartsSpace):\n"
        "    'Three nodes.'\n"
        "    operations: tuple[str, ...] = ('skip_connect', 'sep_conv_3x3')\n"
        "    nodes: int = 3\n"
    )
    load_plugin(str(path))
    assert str(path) not in plugins.broken
    assert len(SPACES.parse("three-nodes").edges()) == 9


def test_a_space_of_cells_is_of_a_family() -> None:
    with pytest.raises(UserError, match="Familyless must be of a family of spaces of cells"):
        type("Familyless", (CellSpace,), {"__module__": __name__})


def test_nas_bench_201_has_as_many_cells_as_published() -> None:
    """Dong and Yang 2020, section 2.1: 5^6; the string is that of the paper's figure 1."""
    space = SPACES.parse("nas-bench-201")
    choices = space.choices((3, 32, 32), 10)
    assert math.prod(map(len, choices.values())) == 15_625
    assert space.edges() == [(0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2)]
    assert (space.search_channels, space.search_cells, space.channels, space.cells) == (16, 5, 16, 5)
    chosen = {label: space.operations[number % 5] for number, label in enumerate(choices)}
    cell = "|none~0|+|skip_connect~0|nor_conv_1x1~1|+|nor_conv_3x3~0|avg_pool_3x3~1|none~2|"
    assert space.model(chosen)["cell"] == cell
    assert registry("models").parse(space.proxy(chosen)).cell == cell


def test_cells_of_one_function_have_one_form_whatever_their_size() -> None:
    one, other, third = (
        dict(zip(("0/0", "1/0", "1/1", "2/0", "2/1", "2/2"), operations.split(), strict=True))
        for operations in (
            "nor_conv_3x3 none none skip_connect none none",
            "none nor_conv_1x1 none none skip_connect skip_connect",
            "nor_conv_3x3 none none none skip_connect skip_connect",
        )
    )
    space, larger = SPACES.parse("nas-bench-201"), SPACES.parse({"name": "nas-bench-201", "channels": 32})
    assert space.canonical(one) != space.canonical(other) != space.canonical(third) == larger.canonical(third)
    swapped = {**third, "0/0": "none", "1/0": "nor_conv_3x3"}
    assert space.canonical(swapped) == space.canonical(third)


def test_s1_has_two_operations_on_each_edge_and_holds_what_was_found_in_it() -> None:
    """The genotype is the first that the released results of RobustDARTS list for S1 on CIFAR-10."""
    space = SPACES.parse("s1")
    choices = space.choices((3, 32, 32), 10)
    assert math.prod(map(len, choices.values())) == math.prod(4 * math.comb(k, 2) for k in range(2, 6)) ** 2
    normal = "skip_connect 1 dil_conv_3x3 0 skip_connect 2 skip_connect 0 skip_connect 0 skip_connect 2 "
    normal += "skip_connect 2 skip_connect 1"
    reduce = "max_pool_3x3 1 max_pool_3x3 0 skip_connect 2 max_pool_3x3 1 skip_connect 2 max_pool_3x3 0 "
    reduce += "max_pool_3x3 0 max_pool_3x3 1"
    chosen = {}
    for kind, text in (("normal", normal), ("reduce", reduce)):
        words = text.split()
        pairs = [[name, int(state)] for name, state in zip(words[::2], words[1::2], strict=True)]
        for node in range(4):
            chosen[f"{kind}/{node}"] = sorted(pairs[2 * node : 2 * node + 2], key=lambda pair: pair[1])
    assert all(pairs in choices[label] for label, pairs in chosen.items())
    found = space.model(chosen)["genotype"]
    assert [list(map(list, node)) for node in found["reduce"]] == [chosen[f"reduce/{node}"] for node in range(4)]
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        for node, pairs in enumerate(sample_cell(space, "normal", generator)):
            assert [list(pair) for pair in pairs] in choices[f"normal/{node}"]


SOME = {"operations": ["none", "skip_connect", "nor_conv_1x1"], "nodes": 2, "name": "custom-nas-bench-201"}


def test_edges_with_operations_of_their_own_are_choices_of_their_own() -> None:
    edges = [["skip_connect", "none"], ["nor_conv_1x1", "none"], ["skip_connect", "nor_conv_1x1"]]
    space = SPACES.parse({**SOME, "edge_operations": {"normal": edges}})
    assert space.choices((3, 8, 8), 10) == dict(zip(("0/0", "1/0", "1/1"), map(tuple, edges), strict=True))
    assert SPACES.parse(space.spec()) == space


@pytest.mark.parametrize(
    ("edges", "path", "words"),
    [
        ({"reduce": []}, (), r"kinds of cells are normal, got \['reduce'\]"),
        ({"normal": [["none"]]}, ("normal",), "1 edges, where a cell has 3"),
        ({"normal": [["skip_connect"]] * 2 + [["skip_conect"]]}, ("normal", 2), "did you mean 'skip_connect'"),
        ({"normal": [["none", "skip_connect"]] * 2 + [["none"]]}, ("normal", 2), "as the first one, 2"),
        ({"normal": [["none", "none"]] * 3}, ("normal", 0), "different operations"),
        ({"normal": [[]] * 3}, ("normal", 0), "needs an operation"),
    ],
)
def test_mistakes_in_the_operations_of_edges_are_named(edges: object, path: tuple[object, ...], words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        SPACES.parse({**SOME, "edge_operations": edges})
    assert caught.value.path == ("edge_operations", *path)


def test_an_edge_that_may_only_be_none_is_refused_where_none_is_never_found() -> None:
    options = {"name": "custom", "nodes": 1, "operations": ["none", "skip_connect"]}
    with pytest.raises(SpecError, match="an edge needs an operation other than 'none'"):
        SPACES.parse({**options, "edge_operations": {"normal": [["none"]] * 2, "reduce": [["skip_connect"]] * 2}})


def test_residual_networks_lie_in_their_space() -> None:
    """Parameters: the frame of NAS-Bench-201 as published for all skips (73,306), and two 3x3 convolutions with batch
    norms in each of three blocks of each width."""
    space = SPACES.parse("residual")
    basic_block = {"0/0": "nor_conv_3x3", "1/0": "skip_connect", "1/1": "nor_conv_3x3"}
    assert all(operation in space.choices((3, 32, 32), 10)[label] for label, operation in basic_block.items())
    network = registry("models").parse(space.model(basic_block)).build((3, 32, 32), 10)
    blocks = 3 * 2 * sum(9 * width**2 + 2 * width for width in (16, 32, 64))
    assert count_parameters(network) == 73_306 + blocks
    block, x = network.stages[0][0], torch.randn(2, 16, 5, 5)
    torch.testing.assert_close(block(x), x + block.nodes[1]["1"](block.nodes[0]["0"](x)))


def test_a_file_says_its_family(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("family: nas-bench-201\noperations: [skip_connect, max_pool_3x3]\nnodes: 2\nstages: 2\n")
    space = SPACES.parse(str(path))
    assert space.registered_name == "custom-nas-bench-201"
    assert (len(space.edges()), space.stages, space.cells) == (3, 2, 5)
    assert SPACES.parse(space.spec()) == space
    assert space_from_file(path)().kinds == ("normal",)
    for text, words in (("nas-bench-101", "did you mean 'nas-bench-201'"), ("[darts]", "unknown family")):
        path.write_text(f"family: {text}\noperations: [skip_connect]\n")
        with pytest.raises(SpecError, match=words):
            SPACES.parse(str(path))
    path.write_text("family: nas-bench-201\noperations: [skip_connect]\nedges_per_node: 2\n")
    with pytest.raises(SpecError, match="unknown key 'edges_per_node'"):
        SPACES.parse(str(path))
