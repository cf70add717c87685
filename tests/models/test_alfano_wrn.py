"""The networks of Alfano's report against the sizes that its notebooks print, and against the order of its layers."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import batch_norm, conv2d, relu

from nasdistill.models.alfano_wrn import Block
from nasdistill.models.base import MODELS
from nasdistill.models.inspection import count_parameters


def test_published_parameter_counts() -> None:
    """1,501,767 to train, and with the statistics of batch norms 1,505,165, for 225 kinds of birds."""
    network = MODELS.parse("alfano-wrn-28-2").build((3, 96, 96), 225)
    assert count_parameters(network) == 1_501_767
    statistics = [value for name, value in network.named_buffers() if "running" in name]
    assert count_parameters(network) + sum(map(torch.Tensor.numel, statistics)) == 1_505_165

    smaller = MODELS.parse("alfano-wrn-16-4").build((3, 96, 96), 225)
    assert round(count_parameters(smaller) / 1e6, 1) == 2.8  # as the report says


def test_a_block_adds_its_raw_input() -> None:
    images = torch.randn(2, 4, 6, 6)
    for stride, channels in ((1, 4), (2, 8)):
        block = Block(4, channels, stride, dropout=0.0).train()
        activated = relu(batch_norm(images, None, None, training=True))
        first = conv2d(activated, block.conv1.weight, block.conv1.bias, stride, padding=1)
        branch = relu(batch_norm(first, None, None, training=True))
        skip = block.shortcut
        shortcut = conv2d(images, skip.weight, skip.bias, 2) if isinstance(skip, nn.Conv2d) else images
        expected = conv2d(branch, block.conv2.weight, block.conv2.bias, padding=1) + shortcut
        torch.testing.assert_close(block(images), expected)


def test_an_image_is_normalised_first_and_nothing_follows_the_last_group() -> None:
    network = MODELS.parse({"name": "alfano-wrn-10-2", "dropout": 0.3}).build((1, 8, 8), 3)
    ran: list[str] = []
    for name, module in network.named_modules():
        if not list(module.children()):
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    network(torch.randn(2, 1, 8, 8))
    assert ran[:3] == ["norm", "stem", "widening"]
    assert ran[-4:] == ["groups.2.0.norm2", "groups.2.0.conv2", "groups.2.0.shortcut", "classifier"]
    assert sum(isinstance(module, nn.Dropout) and module.p == 0.3 for module in network.modules()) == 3
