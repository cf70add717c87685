"""First weights that are made: what the first layer puts out, and what convolutions pass on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nasdistill.errors import SpecError
from nasdistill.models.base import load_network
from nasdistill.registry import build
from nasdistill.stages.base import STAGES
from nasdistill.training.initialisation import begin_as_identity, whiten
from tests.stages.parts import context_in, few_digits


def test_a_whitening_layer_puts_out_directions_of_variance_1_that_do_not_correlate() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(64, 3, 12, 12, generator=generator).cumsum(2).cumsum(3) + 2  # neighbours are alike
    layer = nn.Conv2d(3, 60, 3, bias=False)
    rest = layer.weight[54:].clone()
    assert whiten(layer, images.split(16)) == 27
    answers = layer(images).movedim(1, 0).flatten(1).double()
    torch.testing.assert_close(answers[:54:2], -answers[1:54:2])
    moments = answers[:54:2] @ answers[:54:2].T / answers.shape[1]
    torch.testing.assert_close(moments, torch.eye(27, dtype=torch.float64), atol=0.02, rtol=0)
    assert torch.equal(layer.weight[54:], rest)

    narrow = nn.Conv2d(3, 5, 3)
    assert whiten(narrow, [images]) == 2
    torch.testing.assert_close(narrow.weight[:4], layer.weight[:4])


def test_convolutions_pass_on_what_they_read() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1, bias=False), nn.Conv2d(5, 4, 3, padding=1, bias=False))
    strange = nn.ModuleList([nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 2)])
    before = [layer.weight.clone() for layer in strange]
    images = torch.randn(2, 3, 6, 6)
    assert begin_as_identity(nn.ModuleList([layers, strange])) == 2
    torch.testing.assert_close(layers(images)[:, :3], images)
    assert all(torch.equal(old, layer.weight) for old, layer in zip(before, strange, strict=True))


def stage(**options: Any) -> Any:
    return build(STAGES.get("initialise"), {"network": "wrn-10-1", **options})


def test_a_network_of_such_weights_and_the_seeds_other_ones(tmp_path: Path) -> None:
    data = few_digits()
    found = {}
    for name, methods in (("both", ["identity", "whitened"]), ("white", ["whitened"]), ("identity", ["identity"])):
        stage(methods=methods).run({}, context_in(tmp_path / name, data))
        found[name] = load_network(tmp_path / name / "payload")[1].state_dict()
    assert torch.equal(found["both"]["stem.weight"], found["white"]["stem.weight"])
    assert torch.equal(found["both"]["groups.0.0.conv1.weight"], found["identity"]["groups.0.0.conv1.weight"])
    for name, drawn in found["white"].items():
        assert torch.equal(drawn, found["identity"][name]) == (name.split(".")[-2] not in ("stem", "conv1", "conv2"))


def test_what_cannot_be_whitened_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="its first layer is no convolution of all channels") as caught:
        stage(network="mlp-8").foresee({}, context_in(tmp_path, few_digits()))
    assert caught.value.path == ("network",)
