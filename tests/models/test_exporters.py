"""Exported files, opened by the programs that they are for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from nasdistill.data.base import Normalisation
from nasdistill.errors import UserError
from nasdistill.models.base import NetworkSpec
from nasdistill.models.exporters import EXPORTERS
from nasdistill.models.onnx_files import open_session
from nasdistill.models.portable import alone, check

IMAGES = np.random.default_rng(0).normal(size=(5, 1, 8, 8)).astype(np.float32)


def spec_of(model: object) -> NetworkSpec:
    return NetworkSpec(
        model=model,
        shape=(1, 8, 8),
        classes=3,
        labels=("ant", "bee", "<cat>"),
        normalisation=Normalisation(mean=(0.25,), std=(0.5,)),
    )


@pytest.fixture(scope="module")
def trained() -> tuple[NetworkSpec, nn.Module]:
    """A network with an auxiliary head, drop path and statistics, left in training mode."""
    torch.manual_seed(0)
    spec = spec_of({"name": "darts-v2-4-3", "auxiliary": True, "drop_path": 0.2})
    network = spec.build()
    with torch.no_grad():
        network(torch.randn(16, 1, 8, 8))
    return spec, network.train()


def expected(network: nn.Module) -> np.ndarray:
    with torch.no_grad():
        logits = network.eval()(torch.from_numpy(IMAGES)).numpy()
    network.train()
    return logits


def check_metadata(found: dict[str, str], spec: NetworkSpec) -> None:
    assert json.loads(found["labels"]) == ["ant", "bee", "<cat>"]
    assert json.loads(found["normalisation"]) == {"mean": [0.25], "std": [0.5]}
    assert json.loads(found["input_shape"]) == [1, 8, 8]
    assert json.loads(found["classes"]) == 3
    assert NetworkSpec.model_validate(json.loads(found["spec"])) == spec


def test_onnx_runs_alone_on_any_batch_and_says_how_to_feed_it(
    tmp_path: Path, trained: tuple[NetworkSpec, nn.Module]
) -> None:
    spec, network = trained
    told = EXPORTERS.parse("onnx").export(spec, network, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [told["file"]] == ["network.onnx"]
    model = onnx.load(tmp_path / "network.onnx")
    check_metadata({entry.key: entry.value for entry in model.metadata_props}, spec)
    assert (model.opset_import[0].version, model.ir_version) == (21, 10)  # what onnxruntime 1.18 to 1.20 read at most
    assert not any("auxiliary" in weight.name for weight in model.graph.initializer)
    session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": IMAGES})
    assert np.abs(logits - expected(network)).max() < 1e-4
    assert told["difference"] < 1e-4
    # torch notes the line of each operator: more bytes than the weights have, and paths of this machine
    assert b"site-packages" not in (tmp_path / "network.onnx").read_bytes()
    assert network.training
    assert network.auxiliary is not None


def test_torch_runs_without_nasdistill(tmp_path: Path, trained: tuple[NetworkSpec, nn.Module]) -> None:
    spec, network = trained
    told = EXPORTERS.parse("torch").export(spec, network, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [told["file"]] == ["network.pt2"]
    np.save(tmp_path / "images.npy", IMAGES)
    script = """
import sys; sys.modules["nasdistill"] = None
import json, numpy, torch
extra = dict.fromkeys(["labels", "normalisation", "input_shape", "classes", "spec"], "")
program = torch.export.load("network.pt2", extra_files=extra)
assert not any("auxiliary" in name for name in program.state_dict)
numpy.save("logits.npy", program.module()(torch.from_numpy(numpy.load("images.npy"))).detach().numpy())
json.dump(extra, open("extra.json", "w"))
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    assert np.abs(np.load(tmp_path / "logits.npy") - expected(network)).max() < 1e-5
    check_metadata(json.loads((tmp_path / "extra.json").read_text()), spec)


def test_with_preprocessing_pixels_go_in_and_probabilities_come_out(tmp_path: Path) -> None:
    spec = spec_of("mlp-8")
    network = spec.build()
    exporter = EXPORTERS.parse({"name": "onnx", "preprocessing": True})
    exporter.export(spec, network, tmp_path)
    session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"), providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(1).integers(256, size=(5, 8, 8, 1), dtype=np.uint8)
    (probabilities,) = session.run(["probabilities"], {"images": pixels})
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.25) / 0.5
    with torch.no_grad():
        logits = alone(network)(images)
    assert np.abs(probabilities - logits.softmax(1).numpy()).max() < 1e-5
    assert json.loads(session.get_modelmeta().custom_metadata_map["preprocessing"]) is True
    loaded = exporter.load(tmp_path / "network.onnx")
    assert torch.allclose(loaded(images), logits.log_softmax(1), atol=1e-4)


@pytest.mark.parametrize(
    ("model", "preprocessing"), [("wrn-10-1", True), pytest.param("darts-v2-4-3", False, marks=pytest.mark.slow)]
)
def test_int8_answers_nearly_as_the_network_does(tmp_path: Path, model: str, preprocessing: bool) -> None:
    torch.manual_seed(0)
    spec = spec_of(model)
    network = spec.build()
    pixels = torch.randint(256, (64, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    images = (pixels / 255 - 0.25) / 0.5
    with torch.no_grad():
        network(images)
    exporter = EXPORTERS.parse({"name": "onnx-int8", "preprocessing": preprocessing})
    exporter.export(spec, network, tmp_path, images)
    with torch.no_grad():
        expected = alone(network)(images).log_softmax(1)
    found = exporter.load(tmp_path / "network-int8.onnx")(images).log_softmax(1)
    assert 0 < (found - expected).abs().max() < 0.1 * (expected.max() - expected.min())
    model_proto = onnx.load(tmp_path / "network-int8.onnx")
    assert [(each.domain, each.version) for each in model_proto.opset_import] == [("", 21)]
    kinds = [onnx.TensorProto.DataType.Name(weight.data_type) for weight in model_proto.graph.initializer]
    convolutions = [node for node in model_proto.graph.node if node.op_type == "Conv"]
    assert kinds.count("INT8") >= len(convolutions)
    metadata = {entry.key: entry.value for entry in model_proto.metadata_props}
    check_metadata(metadata, spec)
    assert ("preprocessing" in metadata) == preprocessing


def test_openvino_runs_alone_and_says_how_to_feed_it(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    torch.manual_seed(0)
    spec = spec_of("wrn-10-1")
    network = spec.build()
    told = EXPORTERS.parse("openvino").export(spec, network, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["network.bin", "network.xml"]
    assert told["bytes"] == sum(path.stat().st_size for path in tmp_path.iterdir())
    model = openvino.Core().read_model(tmp_path / told["file"])
    names = ("labels", "normalisation", "input_shape", "classes", "spec")
    check_metadata({name: model.get_rt_info(["nasdistill", name]).astype(str) for name in names}, spec)
    logits = EXPORTERS.parse("openvino").load(tmp_path / "network.xml", threads=1)(torch.from_numpy(IMAGES))
    assert np.abs(logits.numpy() - expected(network)).max() < 1e-4


def test_executorch_runs_alone_and_says_how_to_feed_it(tmp_path: Path) -> None:
    runtime = pytest.importorskip("executorch.runtime")
    torch.manual_seed(0)
    spec = spec_of("wrn-10-1")
    network = spec.build()
    told = EXPORTERS.parse("executorch").export(spec, network, tmp_path)
    program = runtime.Runtime.get().load_program(tmp_path / told["file"])
    names = ("labels", "normalisation", "input_shape", "classes", "spec")
    check_metadata({name: program.load_method(name).execute([])[0] for name in names}, spec)
    logits = EXPORTERS.parse("executorch").load(tmp_path / "network.pte")(torch.from_numpy(IMAGES))
    assert np.abs(logits.numpy() - expected(network)).max() < 1e-4


@pytest.mark.parametrize(("name", "called"), [("openvino", "OpenVINO"), ("executorch", "ExecuTorch")])
def test_a_format_whose_library_is_not_there_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, name: str, called: str
) -> None:
    monkeypatch.setattr("nasdistill.extras.find_spec", lambda _name: None)
    with pytest.raises(UserError, match=rf'the format {name!r} needs {called}: pip install "nasdistill\[{name}\]"'):
        EXPORTERS.parse(name)


def test_int8_that_spoils_a_network_or_has_no_images_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    spec = spec_of("mlp-8")
    network = spec.build()
    with torch.no_grad():  # two logits that 8 bits cannot tell apart, and one weight that takes all the range
        network.classifier.weight.copy_(network.classifier.weight[:1].repeat(3, 1))
        network.classifier.bias.copy_(torch.tensor([0.0, 1e-7, 0.0]))
    images = torch.randn(64, 1, 8, 8)
    with pytest.raises(
        UserError, match=r"in 8 bits only \d+\.\d % of 64 training images are given the network's class"
    ):
        EXPORTERS.parse({"name": "onnx-int8", "least_agreement": 100}).export(spec, network, tmp_path, images)
    with pytest.raises(UserError, match="takes the ranges of activations from training images; name the data set"):
        EXPORTERS.parse("onnx-int8").export(spec, network, tmp_path)


READS_23 = tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 22)


@pytest.mark.parametrize(
    ("model", "opset"),
    [
        ("mlp-8", 18),
        ("resnet-8", 20),
        ({"name": "vit-12-1", "distillation_token": True}, 18),
        pytest.param(
            *("densenet-10-4", 23),
            marks=pytest.mark.skipif(not READS_23, reason="onnxruntime reads opset 23 from 1.22 on"),
        ),
    ],
)
def test_onnx_of_the_other_families_in_other_opsets(tmp_path: Path, model: object, opset: int) -> None:
    spec = spec_of(model)
    told = EXPORTERS.parse({"name": "onnx", "opset": opset}).export(spec, spec.build(), tmp_path)
    assert told["difference"] < 1e-4
    assert onnx.load(tmp_path / "network.onnx").opset_import[0].version == opset


def test_an_export_that_onnxruntime_does_not_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "network.onnx").write_bytes(b"no model")
    with pytest.raises(UserError, match=rf"onnxruntime {onnxruntime.__version__} does not read .*network.onnx: "):
        open_session(tmp_path / "network.onnx")


@pytest.mark.parametrize("opset", [17, 27, 2**63])
def test_opsets_that_torch_does_not_write_are_refused(opset: int) -> None:
    with pytest.raises(UserError, match=r"(greater|less|at least|at most).*(18|26)"):
        EXPORTERS.parse({"name": "onnx", "opset": opset})


def test_a_difference_beyond_the_tolerance_is_refused() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    nn.init.ones_(network[1].weight)
    assert check(lambda images: network(images).detach(), network, (1, 2, 2), 1e-6) == 0
    # The largest logits lie between 1 and 10 here: 0.01 is within 1 % of them, and not within 0.1 %.
    off = check(lambda images: network(images).detach() + 0.01, network, (1, 2, 2), 0.01)
    assert off == pytest.approx(0.01, rel=1e-3)
    with pytest.raises(UserError, match=r"off by 0.01 on random images, more than 0.00\d+"):
        check(lambda images: network(images).detach() + 0.01, network, (1, 2, 2), 0.001)
    with pytest.raises(UserError, match="off by nan"):
        check(lambda images: network(images).detach() * torch.nan, network, (1, 2, 2), 0.1)
    with pytest.raises(UserError, match=r"gives \(1, 1\) for 1 images, not \(1, 2\)"):
        check(lambda images: network(images).detach()[:, :1], network, (1, 2, 2), 0.1)


def test_the_network_itself_is_not_changed(trained: tuple[NetworkSpec, nn.Module]) -> None:
    _spec, network = trained
    copied = alone(network)
    with torch.no_grad():
        next(copied.parameters()).zero_()
    assert not copied.training
    assert copied.auxiliary is None
    assert network.training
    assert next(network.parameters()).abs().sum() > 0
