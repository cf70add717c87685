"""ShuffleNet for small images."""

from __future__ import annotations

import torch

from nasdistill.models.base import MODELS
from nasdistill.models.inspection import count_parameters
from nasdistill.models.shufflenet import Block


def test_published_parameter_count() -> None:
    assert count_parameters(MODELS.parse("shufflenet").build((3, 32, 32), 100)) == 949_258


def test_behind_the_shuffle_each_group_reads_of_every_group() -> None:
    block = Block(36, 36, 1).eval()
    read: list[torch.Tensor] = []
    block.conv2.register_forward_pre_hook(lambda _m, inputs: read.append(inputs[0]))
    images = torch.randn(1, 36, 4, 4)
    block(images)
    hidden = torch.relu(block.norm1(block.conv1(images)))
    torch.testing.assert_close(read[0], torch.nn.functional.channel_shuffle(hidden, 3))
