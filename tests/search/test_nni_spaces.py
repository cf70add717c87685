"""nni's spaces: what their choices describe, as networks that other sources know."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import torch

from nasdistill.errors import SpecError, UserError
from nasdistill.models.base import NetworkSpec
from nasdistill.models.inspection import count_parameters
from nasdistill.models.nni_hub import hub_space
from nasdistill.registry import registry
from nasdistill.search.spaces import SPACES
from nasdistill.search.strategies.random import sample
from tests.search.nni_tiny import SLOW, TINY

pytest.importorskip("nni")
MODELS = registry("models")


def drawn(name: str, seed: int = 0) -> dict[str, Any]:
    space = SPACES.parse({"name": name, **TINY[name]})
    return sample(space.choices((1, 8, 8), 10), torch.Generator().manual_seed(seed))


def test_all_of_nnis_spaces_are_in_the_table() -> None:
    assert {name for name in SPACES.names() if name.startswith("nni:")} == set(TINY)


@pytest.mark.parametrize("name", [name for name in TINY if name not in SLOW])
def test_what_is_found_is_rebuilt_from_json_to_the_same_bits(name: str) -> None:
    space = SPACES.parse({"name": name, **TINY[name]})
    assert SPACES.parse(json.loads(json.dumps(space.spec()))) == space
    spec = NetworkSpec(model=MODELS.parse(space.model(drawn(name))), shape=(1, 8, 8), classes=7)
    again = NetworkSpec.model_validate_json(spec.model_dump_json())
    networks = []
    for each in (spec, again):
        torch.manual_seed(3)
        networks.append(each.build())
    images = torch.randn(2, 1, 8, 8)
    outputs = [network.eval()(images) for network in networks]
    assert outputs[0].shape == (2, 7)
    assert torch.equal(*outputs)
    for (one, value), (other, same) in zip(*(network.state_dict().items() for network in networks), strict=True):
        assert one == other
        assert torch.equal(value, same)
    shapes = {}
    for point in networks[0].feature_points:
        networks[0].get_submodule(point).register_forward_hook(
            lambda _module, _inputs, output, point=point: shapes.update({point: output.shape})
        )
    networks[0](images)
    assert [len(shape) for shape in shapes.values()] == [4] * len(networks[0].feature_points) != []


@pytest.mark.parametrize("name", ["nni:enas", "nni:mobilenet-v3", "nni:nasbench201"])
def test_grey_images_are_read_as_three_equal_channels(name: str) -> None:
    model = MODELS.parse(SPACES.parse({"name": name, **TINY[name]}).model(drawn(name)))
    torch.manual_seed(0)
    grey = model.build((1, 8, 8), 10).eval()
    torch.manual_seed(0)
    colour = model.build((3, 8, 8), 10).eval()
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(grey(images), colour(torch.cat([images] * 3, dim=1)))
    with pytest.raises(UserError, match="three channels, or grey ones; these have 2 channels"):
        model.build((2, 8, 8), 10)


@pytest.mark.parametrize(("seed", "side"), [(0, 8), (1, 9)])
def test_cells_of_darts_are_the_same_network_in_our_model(seed: int, side: int) -> None:
    """Weight by weight, in the order in which both create them: equal logits, in training too, and equal gradients."""
    chosen = drawn("nni:darts", seed)
    ours = MODELS.parse(SPACES.parse({"name": "nni:darts", "channels": 4, "cells": 5}).model(chosen))
    theirs = MODELS.parse(
        {"name": "nni", "space": "DARTS", "arguments": {"width": 4, "num_cells": 5}, "choices": chosen}
    )
    one, other = (model.build((3, side, side), 10).double() for model in (ours, theirs))
    assert [tuple(p.shape) for p in one.parameters()] == [tuple(p.shape) for p in other.parameters()]
    with torch.no_grad():
        for mine, yours in zip(one.parameters(), other.parameters(), strict=True):
            mine.normal_(std=0.3)
            yours.copy_(mine)
    images = torch.randn(4, 3, side, side, dtype=torch.double)
    for mode in (True, False):
        outputs = [network.train(mode)(images) for network in (one, other)]
        torch.testing.assert_close(*outputs)
    direction = torch.randn(4, 10, dtype=torch.double)
    for network in (one, other):
        (network.train()(images) * direction).sum().backward()
    for mine, yours in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, yours.grad)


def test_the_published_cells_of_darts_have_the_published_size() -> None:
    """3.3 million in Liu et al. 2019, table 1; nni's labels of the same cells."""
    genotype = MODELS.parse("darts-v2").genotype
    chosen = {
        f"{cell}/{what}_{node + 2}_{edge}": operation if what == "op" else [state]
        for cell in ("normal", "reduce")
        for node, edges in enumerate(getattr(genotype, cell))
        for edge, (operation, state) in enumerate(edges)
        for what in ("op", "input")
    }
    space = SPACES.parse("nni:darts")
    model = MODELS.parse(space.model(chosen))
    assert model == MODELS.parse("darts-v2")
    assert count_parameters(model.build((3, 32, 32), 10)) == 3_349_342
    proxy = MODELS.parse(space.proxy(chosen))
    assert (proxy.genotype, proxy.channels, proxy.cells) == (genotype, 16, 8)


# Howard et al. 2019, Searching for MobileNetV3, table 1: by stage its kernel and its blocks' inner channels.
LARGE = ((3, (64, 72)), (5, (72, 120, 120)), (3, (240, 200, 184, 184)), (3, (480, 672)), (5, (672, 960, 960)))
LARGE_WIDTHS = (16, 16, 24, 40, 80, 112, 160, 960, 1280)


def test_mobilenet_v3_large_is_in_the_space() -> None:
    """Its parameters are those of torchvision's."""
    from torchvision.models import mobilenet_v3_large

    ratios = (1.0, 2.3, 2.5, 3.0, 4.0, 6.0)
    space = SPACES.parse(
        {
            "name": "nni:mobilenet-v3",
            "widths": LARGE_WIDTHS,
            "multipliers": [1.0],
            "expansions": ratios,
            "squeeze_excite": ["none", "none", "force", "none", "force", "force"],
        }
    )
    chosen: dict[str, Any] = {label: values[0] for label, values in space.choices((3, 224, 224), 1000).items()}
    for stage, (kernel, inner) in enumerate(LARGE, start=1):
        chosen[f"s{stage}_depth"] = len(inner)
        for block, channels in enumerate(inner):
            before = LARGE_WIDTHS[stage if block == 0 else stage + 1]
            chosen[f"s{stage}_i{block}_exp"] = min(ratios, key=lambda ratio: abs(ratio - channels / before))
            chosen[f"s{stage}_i{block}_ks"] = kernel
    with torch.device("meta"):
        network = MODELS.parse(space.model(chosen)).build((3, 224, 224), 1000)
        published = mobilenet_v3_large()
    assert sorted(p.numel() for p in network.parameters()) == sorted(p.numel() for p in published.parameters())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"choices": {}}, r"'cell/0_1' is not chosen \(6 of 6 are missing\)"),
        ({"choices": {"cell/0_1": "conv_5x5"}}, r"'cell/0_1' is one of \['none', .*got 'conv_5x5'"),
        ({"choices": {"cell/0_9": "none"}}, r"unknown label 'cell/0_9'; did you mean"),
        ({"arguments": {"stem_channels": 4}}, "nni does not build NasBench201"),
    ],
)
def test_wrong_models_are_refused(change: dict[str, Any], words: str) -> None:
    model = SPACES.parse({"name": "nni:nasbench201", **TINY["nni:nasbench201"]}).model(drawn("nni:nasbench201"))
    for key, values in change.items():
        model[key] = {**model[key], **values} if values else {}
    with pytest.raises(UserError, match=words):
        MODELS.parse(model).build((1, 8, 8), 10)


@pytest.mark.parametrize(
    ("space", "path", "words"),
    [
        ({"name": "nni:mobilenet-v3", "strides": [1, 2, 1]}, ("strides",), "9 widths go with 9 strides, got 3"),
        ({"name": "nni:mobilenet-v3", "depth": [3, 2]}, ("depth",), "least and most blocks"),
        ({"name": "nni:enas", "channels": 7}, ("channels",), "multiple of 2"),
        ({"name": "nni:dart"}, ("name",), "did you mean 'nni:darts'"),
        ({"name": "nni:enas", "cell": 7}, ("cell",), "did you mean 'cells'"),
    ],
)
def test_mistakes_are_named_with_their_place(space: dict[str, Any], path: tuple[str, ...], words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        SPACES.parse(space)
    assert caught.value.path == path


def test_without_nni_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pytorch_lightning" else find(name))
    with pytest.raises(UserError, match=r"nni's space ENAS needs pytorch_lightning.*pip install"):
        hub_space("ENAS", {}, 10)


def test_names_and_help_need_no_nni() -> None:
    """The components are listed where nni is missing, and where it is there it is not imported for that."""
    import subprocess

    code = (
        "import sys; from nasdistill.registry import registry; "
        "names = registry('spaces').names() + registry('strategies').names(); "
        "print('nni:enas' in names, 'nni:proxyless' in names, 'nni' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["True", "True", "False"]
