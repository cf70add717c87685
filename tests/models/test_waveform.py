"""Waveform networks: the published ones, convolution along time by another hand, and who else reads their maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import correlate
from torch import nn

from nasdistill.distill.folding import folded
from nasdistill.distill.objectives import OBJECTIVES, Outputs
from nasdistill.distill.taps import Taps, output_shapes
from nasdistill.errors import SpecError, UserError
from nasdistill.models.base import MODELS, NetworkSpec
from nasdistill.models.binary import BinaryLayer
from nasdistill.models.exporters import EXPORTERS
from nasdistill.models.inspection import count_parameters, multiply_adds
from nasdistill.models.waveform import Convolution, Pool
from nasdistill.training.batches import Batch

FOUR_SECONDS = (1, 1, 32_000)


def network(name: str, samples: int = 1024, channels: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return MODELS.parse(name).build((channels, 1, samples), 10)


@pytest.mark.parametrize(
    ("name", "millions"), [("wave-3-256", 0.2), ("wave-5-128", 0.5), ("wave-11-64", 1.8), ("wave-18-64", 3.7)]
)
def test_published_parameter_counts(name: str, millions: float) -> None:
    """Table 1 of the paper; that of M5 is cut, not rounded: its layers as printed there add up to 558,090."""
    count = count_parameters(network(name)) / 1e5
    assert millions * 10 in (round(count), int(count))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("width", [8, 128])
def test_m5_counts_in_closed_form(width: int, channels: int) -> None:
    """80cw + 3(w*w + w*2w + 2w*4w) weights, two numbers a channel for BN, 4w*10 + 10 of the classifier."""
    norms = 2 * (1 + 1 + 2 + 4) * width
    expected = 80 * channels * width + 33 * width**2 + norms + 40 * width + 10
    assert count_parameters(network(f"wave-5-{width}", channels=channels)) == expected


def test_published_lengths() -> None:
    """Table 1 of the paper: 8000 samples after the stem, then a quarter of them from pool to pool, rounded up."""
    deep = network("wave-18-64", 32_000)
    found = output_shapes(deep, ["stem", *deep.feature_points], FOUR_SECONDS)  # type: ignore[misc]
    assert list(found.values()) == [(64, 1, 8000), (64, 1, 2000), (128, 1, 500), (256, 1, 125), (512, 1, 32)]
    m5 = network("wave-5-128", 32_000)
    assert output_shapes(m5, ["groups.2", "pool"], FOUR_SECONDS) == {"groups.2": (512, 1, 125), "pool": (512, 1, 32)}


def test_multiply_adds_in_closed_form() -> None:
    """At 1024 samples the layers of M5 put out 256, 64, 16 and 4."""
    w = 16
    expected = 256 * 80 * w + 3 * w * w * (64 * 1 + 16 * 2 + 4 * 8) + 4 * w * 10
    assert multiply_adds(network(f"wave-5-{w}"), (1, 1, 1024)) == expected


def test_a_convolution_runs_along_time() -> None:
    layer = Convolution(2, 3, kernel=80, stride=4).eval()
    waves = torch.randn(1, 2, 1, 400)
    padded = np.pad(waves[0, :, 0].numpy(), ((0, 0), (38, 38)))
    weight = layer[0].weight.detach().numpy()[:, :, 0]
    expected = np.stack([sum(correlate(padded[c], w[c], "valid") for c in range(2)) for w in weight])[:, ::4]
    found = layer(waves)[0, :, 0].detach().numpy()
    np.testing.assert_allclose(found, np.maximum(expected / np.sqrt(1 + 1e-5), 0), atol=1e-5)


def test_a_pool_also_takes_what_is_left_at_the_end() -> None:
    assert Pool()(torch.tensor([3.0, 1, 2, 0, -1, -5]).view(1, 1, 1, 6)).flatten().tolist() == [3, -1]


@pytest.mark.parametrize("samples", [4, 5, 100, 1024, 1027])
@pytest.mark.parametrize("name", ["wave-3-4", "wave-5-4", "wave-11-4", "wave-18-4"])
def test_any_length_gives_logits_and_learns(name: str, samples: int) -> None:
    net = network(name, samples, channels=2)
    logits = net(torch.randn(3, 2, 1, samples))
    assert logits.shape == (3, 10)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_weights_are_drawn_as_published() -> None:
    """Glorot's: variance 2 / (fan in + fan out)."""
    weight = network("wave-5-128").get_submodule("groups.2.1.0").weight.detach()  # type: ignore[operator, union-attr]
    assert float(weight.std()) == pytest.approx(np.sqrt(2 / (3 * (256 + 512))), rel=0.01)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 2, 1024), (1, 1, 3), (0, 1, 64)])
def test_what_is_no_waveform_is_refused(shape: tuple[int, int, int]) -> None:
    found = "x".join(map(str, shape))
    with pytest.raises(UserError, match=rf"needs waveforms of 1x1x4 or longer \(channels x 1 x samples\), got {found}"):
        MODELS.parse("wave-5-8").build(shape, 10)


def test_a_depth_that_was_not_published_names_those_that_were() -> None:
    with pytest.raises(SpecError, match="3, 5, 11 or 18 layers, not 7") as caught:
        MODELS.parse("wave-7-8")
    assert caught.value.path == ("depth",)


def test_attention_transfer_reads_maps_of_one_row() -> None:
    shape = (1, 1, 1024)
    student, teacher = network("wave-5-4").eval(), network("wave-5-8").eval()
    term = OBJECTIVES.parse({"name": "attention", "beta": 1}).bind(student, teacher, shape)
    waves = torch.randn(6, *shape)
    outputs, energies = [], []
    for net, points in ((student, term.student_points), (teacher, term.teacher_points)):
        with torch.no_grad(), Taps(net, points) as features:
            outputs.append(Outputs(net(waves), features))
        energies.append([np.square(features[f"groups.{group}"].numpy()).mean(axis=(1, 2)) for group in range(3)])
    loss = term.loss(*outputs, Batch(waves, torch.zeros(6, dtype=torch.int64), torch.arange(6)))

    def unit(energy: np.ndarray) -> np.ndarray:
        return np.asarray(energy / np.linalg.norm(energy, axis=1, keepdims=True))

    distances = [np.square(unit(ours) - unit(theirs)).mean() for ours, theirs in zip(*energies, strict=True)]
    assert [energy.shape for energy in energies[0]] == [(6, 64), (6, 16), (6, 4)]
    assert loss.item() == pytest.approx(sum(distances), rel=1e-4)


def test_every_batch_norm_folds() -> None:
    net = network("wave-11-4").train()
    net(torch.randn(8, 1, 1, 1024) + 0.5)
    net.eval()
    plain = folded(net, (1, 1, 1024))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in plain.modules())
    waves = torch.randn(4, 1, 1, 1024)
    torch.testing.assert_close(plain(waves), net(waves), rtol=1e-4, atol=1e-5)


def test_channels_may_come_last() -> None:
    net = network("wave-5-8").eval()
    waves = torch.randn(4, 1, 1, 1024)
    expected = net(waves)
    last = net.to(memory_format=torch.channels_last)(waves.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("format", ["torch", "onnx"])
def test_exports_give_the_same_logits(format: str, tmp_path: Path) -> None:
    spec = NetworkSpec(model="wave-5-4", shape=(1, 1, 1001), classes=3)
    told = EXPORTERS.parse(format).export(spec, spec.build().eval(), tmp_path)
    assert told["difference"] < 1e-5


def test_all_but_the_first_and_the_last_layer_can_be_binary() -> None:
    spec = NetworkSpec(model={"name": "wave-5-8", "binary": "xnor"}, shape=(1, 1, 256), classes=3)
    binary = [path for path, module in spec.build().named_modules() if isinstance(module, BinaryLayer)]
    assert binary == ["groups.0.1.0", "groups.1.1.0", "groups.2.1.0"]
