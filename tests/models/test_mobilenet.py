"""Networks of inverted residual blocks: MobileNetV2 is one, to the bit."""

from __future__ import annotations

import pytest
import torch
from torchvision.models import mobilenet_v2

from nasdistill.errors import SpecError
from nasdistill.models.base import MODELS
from nasdistill.models.inspection import count_parameters, feature_points, inspect

WIDTHS, DEPTHS, STRIDES = (16, 24, 32, 64, 96, 160, 320), (1, 2, 3, 4, 3, 3, 1), (1, 2, 2, 2, 1, 2, 1)
MOBILENET_V2 = {
    "name": "mobilenet",
    "stages": [
        {"expansion": 1 if width == 16 else 6, "width": width, "depth": depth, "stride": stride}
        for width, depth, stride in zip(WIDTHS, DEPTHS, STRIDES, strict=True)
    ],
}


def test_mobilenet_v2_is_torchvisions() -> None:
    ours = MODELS.parse(MOBILENET_V2).build((3, 224, 224), 1000).eval()
    assert count_parameters(ours) == 3_504_872
    assert inspect(ours, (3, 224, 224), 1000).multiply_adds == 300_774_272
    torchvisions = mobilenet_v2(weights=None).eval()
    with torch.no_grad():
        for norm in filter(lambda module: isinstance(module, torch.nn.BatchNorm2d), torchvisions.modules()):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    ours.load_state_dict(dict(zip(ours.state_dict(), torchvisions.state_dict().values(), strict=True)))
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours(images), torchvisions(images))
    same = {"stages.0": "features.1", "stages.1": "features.3", "stages.2": "features.6", "stages.4": "features.13"}
    assert dict(zip(ours.feature_points, feature_points(torchvisions, (3, 64, 64)), strict=True)) == {
        **same,
        "head": "features.18",
    }


def test_the_form_of_the_tables_has_their_parameters_but_for_a_convolution_that_the_paper_has_not() -> None:
    network = MODELS.parse("mobilenet-v2-0.5").build((3, 32, 32), 100)
    # In the tables' code the first block, whose expansion is 1, has a 1x1 convolution of 16 channels too.
    assert count_parameters(network) == 812_836 - (16 * 16 + 2 * 16)
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 100)
    assert not MODELS.recognises("mobilenet-v2-0")


def test_a_kernel_has_the_side_that_it_says_and_keeps_the_size() -> None:
    stages = [{"kernel": 7, "expansion": 3, "width": 8, "depth": 2}]
    network = MODELS.parse({"name": "mobilenet", "stem": 8, "stem_stride": 1, "stages": stages, "head": 16})
    built = network.build((1, 5, 6), 4)
    # Both blocks: 8 to 24 channels, 49 taps for each of them, and back to 8; two weights for each batch norm's channel.
    block = 8 * 24 + 24 * 49 + 24 * 8 + 2 * (24 + 24 + 8)
    assert count_parameters(built) == 9 * 8 + 16 + 2 * block + 8 * 16 + 32 + (16 + 1) * 4
    features = torch.randn(3, 8, 5, 6)
    assert built.stages(features).shape == features.shape
    block_of = built.stages[0][1]
    torch.testing.assert_close(block_of(features), features + block_of.branch(features))


def test_a_kernel_that_has_no_middle_is_refused() -> None:
    with pytest.raises(SpecError, match="an odd side, not 4") as caught:
        MODELS.parse({"name": "mobilenet", "stages": [{"width": 8}, {"width": 8, "kernel": 4}]})
    assert caught.value.path == ("stages", 1, "kernel")
