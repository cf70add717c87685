"""The generator of waveforms: its size in closed form, its shapes, and that it reads along time alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import correlate
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.errors import SpecError, UserError
from nasdistill.models.inspection import count_parameters
from nasdistill.zero_shot.generators import GENERATORS


def built(shape: Shape, **options: object) -> nn.Module:
    torch.manual_seed(0)
    return GENERATORS.parse({"name": "waveform", **options}).build(shape, 4, 3)


@pytest.mark.parametrize(("channels", "kernel", "latents"), [(128, 25, 100), (8, 3, 5)])
def test_the_parameters_are_those_of_the_closed_form(channels: int, kernel: int, latents: int) -> None:
    """Linear to c*64, BN(c), conv c to c, BN, conv c to c/2, BN, conv c/2 to 1, BN; convolutions have biases."""
    c, half = channels, channels // 2
    convolutions = c * c * kernel + c + c * half * kernel + half + half * kernel + 1
    expected = (latents + 1) * c * 64 + 2 * c + convolutions + 2 * c + 2 * half + 2
    network = built((1, 1, 1024), channels=channels, kernel=kernel, latents=latents)
    assert count_parameters(network) == expected


@pytest.mark.parametrize("samples", [1, 2, 15, 16, 17, 100, 1000, 1024])
@pytest.mark.parametrize("channels", [1, 2])
def test_it_makes_waveforms_of_any_length_and_learns(samples: int, channels: int) -> None:
    network = built((channels, 1, samples), channels=4, kernel=5)
    waves = network(torch.randn(4, 100))
    assert waves.shape == (4, channels, 1, samples)
    waves.abs().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_maps_become_four_times_as_long_twice() -> None:
    shapes: list[tuple[int, ...]] = []
    network = built((1, 1, 1024), channels=6, kernel=5)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(lambda _module, inputs: shapes.append(tuple(inputs[0].shape[1:])))
    network(torch.randn(4, 100))
    assert shapes == [(6, 1, 256), (6, 1, 1024), (3, 1, 1024)]


def test_one_enlargement_and_convolution_by_another_hand() -> None:
    """From the first batch norm's output to the first leaky ReLU's, in evaluation mode with fresh statistics."""
    network = built((1, 1, 64), channels=2, kernel=7, slope=0.1).eval()
    kept: dict[type[nn.Module], list[np.ndarray]] = {nn.BatchNorm2d: [], nn.LeakyReLU: []}
    for module in network.modules():
        if type(module) in kept:
            module.register_forward_hook(lambda m, _i, output: kept[type(m)].append(output.detach().numpy()))
    network(torch.randn(1, 100))
    conv = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    weight, bias = conv.weight.detach().numpy(), conv.bias.detach().numpy()  # type: ignore[union-attr]
    longer = np.pad(np.repeat(kept[nn.BatchNorm2d][0][0, :, 0], 4, axis=1), ((0, 0), (3, 3)))
    summed = [sum(correlate(longer[c], weight[o, c, 0], "valid") for c in range(2)) + bias[o] for o in range(2)]
    normed = np.stack(summed) / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(kept[nn.LeakyReLU][0][0, :, 0], np.where(normed > 0, normed, 0.1 * normed), atol=1e-5)


def test_waveforms_lie_in_normalised_space() -> None:
    waves = built((1, 1, 256), channels=8).train()(torch.randn(64, 100)).detach()
    assert float(waves.mean()) == pytest.approx(0, abs=1e-3)
    assert float(waves.std()) == pytest.approx(1, abs=1e-3)


def test_images_are_refused() -> None:
    with pytest.raises(UserError, match=r"generator of waveforms needs waveforms of 1x1x1 .* got 3x32x32"):
        built((3, 32, 32))


def test_a_kernel_needs_a_middle() -> None:
    with pytest.raises(SpecError, match="a kernel of 8 has no middle; 7 and 9 have one"):
        built((1, 1, 64), kernel=8)
