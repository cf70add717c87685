"""VGG for small images against the counts of the tables' code, and its layers against torchvision's."""

from __future__ import annotations

import pytest
import torch
from torchvision.models import vgg11_bn

from nasdistill.errors import SpecError
from nasdistill.models.base import MODELS
from nasdistill.models.inspection import count_parameters


@pytest.mark.parametrize(
    ("depth", "parameters"), [(8, 3_965_028), (11, 9_277_284), (13, 9_462_180), (16, 14_774_436), (19, 20_086_692)]
)
def test_published_parameter_counts(depth: int, parameters: int) -> None:
    with torch.device("meta"):
        network = MODELS.parse(f"vgg-{depth}").build((3, 32, 32), 100)
    assert count_parameters(network) == parameters


def test_the_groups_are_torchvisions() -> None:
    ours, theirs = MODELS.parse("vgg-11").build((3, 32, 32), 10), vgg11_bn(weights=None).features
    weights = (value for name, value in theirs.state_dict().items())
    names = [name for name in ours.state_dict() if name.startswith("groups.")]
    ours.load_state_dict(dict(zip(names, weights, strict=True)), strict=False)
    seen = {}
    ours.groups[3].register_forward_hook(lambda _m, _i, output: seen.update(maps=output))
    images = torch.randn(2, 3, 32, 32)
    ours(images)
    torch.testing.assert_close(seen["maps"], theirs[:21](images))


def test_a_depth_that_there_is_not_is_refused() -> None:
    with pytest.raises(SpecError, match="8, 11, 13, 16 or 19"):
        MODELS.parse("vgg-12")
