"""Bits against numpy's, packed networks against the trained ones, and integer arithmetic on bits against both."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from nasdistill.data.base import Normalisation
from nasdistill.errors import DamagedFile, UserError
from nasdistill.models.base import NetworkSpec, save_network
from nasdistill.models.binary import BinaryLayer, Form, make_binary
from nasdistill.models.exporters import EXPORTERS
from nasdistill.models.exporters.packed import FILE, load_packed, packed
from nasdistill.models.inspection import size_bytes
from nasdistill.models.packing import pack_signs, unpack_signs

FORMS: list[Form] = ["weights", "xnor"]
MODELS = ["wrn-10-1", "mlp-12-12-12", "darts-v2-4-3"]


def trained(model: str, form: Form) -> tuple[NetworkSpec, nn.Module]:
    """Weights that steps of an optimiser moved, and statistics of batches; in training mode."""
    torch.manual_seed(0)
    options = {"name": model, "binary": form, **({"auxiliary": True} if "darts" in model else {})}
    spec = NetworkSpec(
        model=options,
        shape=(1, 8, 8),
        classes=3,
        labels=("ant", "bee", "cat"),
        normalisation=Normalisation(mean=(0.25,), std=(0.5,)),
    )
    network = spec.build()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(2):
        network(torch.randn(16, 1, 8, 8)).square().sum().backward()
        optimizer.step()
    return spec, network


@pytest.mark.parametrize("shape", [(8,), (3, 5), (4, 2, 3, 3), (1, 1)])
def test_bits_are_those_of_numpy(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=shape)
    bits = pack_signs(torch.tensor(values))
    assert bits.dtype == torch.uint8
    assert bits.tolist() == np.packbits(values.ravel() >= 0).tolist()
    assert unpack_signs(bits, shape, torch.float64).tolist() == np.where(values >= 0, 1.0, -1.0).tolist()


def test_bits_of_channels_last_weights_are_in_row_major_order() -> None:
    weight = torch.randn(4, 3, 2, 2)
    assert torch.equal(pack_signs(weight.to(memory_format=torch.channels_last)), pack_signs(weight))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("model", MODELS)
def test_the_packed_weights_run_and_give_the_same_outputs(tmp_path: Path, model: str, form: Form) -> None:
    spec, network = trained(model, form)
    told = EXPORTERS.parse("packed").export(spec, network, tmp_path)
    read, loaded = load_packed(tmp_path / FILE)
    images = torch.randn(7, 1, 8, 8)
    assert network.training
    assert torch.equal(loaded(images), network.eval()(images))
    assert read == spec
    assert told["difference"] == 0
    for layer in loaded.modules():
        if isinstance(layer, BinaryLayer):
            assert layer.weight is None
            assert layer.bits.dtype == torch.uint8


@pytest.mark.parametrize("form", FORMS)
def test_the_file_holds_bits_and_says_how_to_feed_it(tmp_path: Path, form: Form) -> None:
    spec, network = trained("wrn-10-1", form)
    told = EXPORTERS.parse("packed").export(spec, network, tmp_path)
    tensors = load_file(tmp_path / FILE)
    weight = network.get_parameter("groups.1.0.conv2.weight").detach().numpy()  # [32, 32, 3, 3]
    assert tensors["groups.1.0.conv2.bits"].numpy().tolist() == np.packbits(weight.ravel() >= 0).tolist()
    scale = np.abs(weight).mean(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(tensors["groups.1.0.conv2.scale"], scale, rtol=1e-6)
    assert torch.equal(tensors["stem.weight"], network.get_parameter("stem.weight"))
    with safe_open(tmp_path / FILE, framework="pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["labels"]) == ["ant", "bee", "cat"]
    assert json.loads(metadata["normalisation"]) == {"mean": [0.25], "std": [0.5]}
    assert NetworkSpec.model_validate(json.loads(metadata["spec"])) == spec
    size = sum(tensor.nbytes for tensor in tensors.values())
    assert size == size_bytes(network) == size_bytes(packed(network))
    assert size < told["bytes"] == (tmp_path / FILE).stat().st_size
    save_network(tmp_path / "real", spec, network)
    assert told["bytes"] < 0.2 * (tmp_path / "real" / "weights.safetensors").stat().st_size


def products_by_popcount(signs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sums of products of n signs each as n - 2 * popcount(a xor b): bits differ where a product is -1.

    Args:
        signs: ±1, [rows, n]. weights: ±1, [filters, n].
    """
    a, b = (np.packbits(each > 0, axis=1) for each in (signs, weights))
    ones = np.array([bin(byte).count("1") for byte in range(256)])
    return signs.shape[1] - 2 * ones[a[:, None] ^ b[None]].sum(axis=2)


def test_counting_bits_equals_the_float_convolution() -> None:
    """Weights of ±0.5 and so a scale of 0.5: floats are exact, and equal the integers to the bit."""
    torch.manual_seed(0)
    layer = nn.Conv2d(5, 6, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(6, 5, 3, 3).sign() / 2)
    make_binary(layer, "xnor")
    images = torch.randn(2, 5, 6, 6)
    norm = layer.get_submodule("norm").eval()
    entering = torch.where(norm(images) >= 0, 1.0, -1.0)
    patches = nn.functional.unfold(entering, 3).transpose(1, 2).reshape(-1, 45).numpy()
    counted = products_by_popcount(patches, layer.weight.detach().flatten(1).numpy())
    found = layer.eval()(images).permute(0, 2, 3, 1).reshape(-1, 6)
    assert counted.dtype.kind == "i"
    assert (0.5 * counted == found.detach().numpy()).all()


@pytest.mark.parametrize(("model", "form"), [("wrn-10-1", "xnor"), ("mlp-12-12-12", "weights")])
def test_onnx_runs_a_binary_network(tmp_path: Path, model: str, form: Form) -> None:
    spec, network = trained(model, form)
    assert EXPORTERS.parse("onnx").export(spec, network, tmp_path)["difference"] < 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"), providers=["CPUExecutionProvider"])
    images = torch.randn(5, 1, 8, 8)
    (logits,) = session.run(["logits"], {"images": images.numpy()})
    assert np.abs(logits - network.eval()(images).detach().numpy()).max() < 1e-4


def test_torch_exports_a_binary_network(tmp_path: Path) -> None:
    assert EXPORTERS.parse("torch").export(*trained("mlp-12-12-12", "xnor"), tmp_path)["difference"] < 1e-5


def test_a_real_network_has_nothing_to_pack(tmp_path: Path) -> None:
    spec = NetworkSpec(model="mlp-4", shape=(1, 2, 2), classes=2)
    with pytest.raises(UserError, match="'packed' is for binary networks, and this one is real"):
        EXPORTERS.parse("packed").export(spec, spec.build(), tmp_path)


def test_a_file_that_is_no_such_export_is_named(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(DamagedFile, match=r"other\.safetensors is no export of the format 'packed'"):
        load_packed(tmp_path / "other.safetensors")
    EXPORTERS.parse("packed").export(*trained("mlp-12-12-12", "weights"), tmp_path)
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / "short.safetensors").write_bytes(whole[:-5])
    with pytest.raises(DamagedFile, match=r"short\.safetensors is damaged"):
        load_packed(tmp_path / "short.safetensors")
