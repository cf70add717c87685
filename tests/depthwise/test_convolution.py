"""Depthwise convolutions: all gradients beside those of torch in double precision, and what drops in for what."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasdistill.depthwise import compiled, compiler
from nasdistill.depthwise.compiled import Geometry
from nasdistill.depthwise.convolution import DepthwiseConv2d, depthwise_conv2d
from nasdistill.models.base import MODELS, NetworkSpec
from tests.search.parts import engine

needs_compiler = pytest.mark.skipif(not compiler.is_compiled(), reason="needs a C compiler")
SHAPES = ((35, 5, 9, 7), (1, 70, 17, 16), (2, 33, 1, 1))
GEOMETRIES = tuple(itertools.product((3, 5, 7), (1, 2, 3), (1, 2), (0, 3)))


def is_ours(outputs: torch.Tensor) -> bool:
    return type(outputs.grad_fn).__name__ == "_ConvolutionBackward"


def relative(found: torch.Tensor | None, expected: torch.Tensor | None) -> float:
    assert found is not None
    assert expected is not None
    assert found.shape == expected.shape
    return ((found.double() - expected).abs().max() / expected.abs().max().clamp(min=1e-9)).item()


@needs_compiler
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-6), (torch.bfloat16, 2e-2)], ids=str)
def test_gradients_are_those_of_double_precision(
    dtype: torch.dtype, tolerance: float, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    taken = 0
    for shape, (kernel, stride, dilation, padding) in itertools.product(SHAPES, GEOMETRIES):
        if min(shape[2:]) + 2 * padding <= dilation * (kernel - 1):
            continue
        inputs = torch.randn(shape).to(dtype).contiguous(memory_format=layout).requires_grad_()
        weight = torch.randn(shape[1], 1, kernel, kernel).to(dtype).requires_grad_()
        exact = [each.detach().double().requires_grad_() for each in (inputs, weight)]
        outputs = depthwise_conv2d(inputs, weight, None, stride, padding, dilation)
        expected = functional.conv2d(*exact, None, stride, padding, dilation, shape[1])
        gradient = torch.randn_like(outputs)
        outputs.backward(gradient)
        expected.backward(gradient.double())
        assert relative(outputs, expected) < tolerance
        assert relative(inputs.grad, exact[0].grad) < tolerance
        assert relative(weight.grad, exact[1].grad) < tolerance
        taken += is_ours(outputs)
    assert taken > 60


def layer(images: int = 3, channels: int = 20, kernel: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    weight = torch.randn(channels, 1, kernel, kernel, requires_grad=True)
    return torch.randn(images, channels, 12, 11, requires_grad=True), weight


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@needs_compiler
def test_the_bits_do_not_depend_on_the_number_of_threads(threads: None) -> None:
    images = torch.randn(37, 150, 12, 11)
    found = []
    for number in (1, 2, 5):
        torch.set_num_threads(number)
        found.append(compiled.weight_gradient(images, images, 3, Geometry(1, 1, 1)))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@needs_compiler
def test_a_gradient_may_be_one_number_for_all_pixels() -> None:
    inputs, weight = layer()
    depthwise_conv2d(inputs, weight, padding=2).sum().backward()
    assert inputs.grad is not None
    assert weight.grad is not None
    corner = inputs.detach()[:, :, 2:, 2:].sum((0, 2, 3))
    assert weight.grad[:, 0, -1, -1].tolist() == pytest.approx(corner.tolist(), abs=1e-4)
    assert inputs.grad[0, :, 6, 6].tolist() == pytest.approx(weight.detach().sum((1, 2, 3)).tolist(), abs=1e-5)


@needs_compiler
def test_second_derivatives_are_torchs() -> None:
    inputs, weight = layer(kernel=3)
    found = []
    for outputs in (
        depthwise_conv2d(inputs, weight, None, 1, 2, 2),
        functional.conv2d(inputs, weight, None, 1, 2, 2, len(weight)),
    ):
        (first,) = torch.autograd.grad(outputs.square().sum(), weight, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), (inputs, weight)))
    assert all(torch.allclose(ours, theirs, rtol=1e-4, atol=1e-2) for ours, theirs in zip(*found, strict=True))


@needs_compiler
def test_autocast_computes_in_its_precision() -> None:
    inputs, weight = layer()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = depthwise_conv2d(inputs, weight, torch.ones(20))
        assert "_Convolution" in graph(outputs)
        outputs.sum().backward()
    assert outputs.dtype == torch.bfloat16
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32


def test_what_is_no_square_of_numbers_is_torchs() -> None:
    inputs, weight = layer()
    for wide in (weight[..., :3], weight.repeat(2, 1, 1, 1)):
        assert torch.equal(depthwise_conv2d(inputs, wide[:20]), functional.conv2d(inputs, wide[:20], groups=20))
    outputs = depthwise_conv2d(inputs, weight, None, (1, 2), (0, 1))
    assert torch.equal(outputs, functional.conv2d(inputs, weight, None, (1, 2), (0, 1), groups=20))
    assert not is_ours(outputs)
    assert depthwise_conv2d(inputs[:0], weight).shape == (0, 20, 8, 7)
    with torch.no_grad():
        assert depthwise_conv2d(inputs, weight).grad_fn is None


@pytest.mark.parametrize("mode", ["zeros", "reflect", "same"])
def test_the_module_is_torchs_with_other_gradients(mode: str) -> None:
    inputs, _ = layer()
    options = {"padding": "same"} if mode == "same" else {"padding": 2, "padding_mode": mode}
    theirs = nn.Conv2d(20, 20, 5, groups=20, **options)  # type: ignore[arg-type]
    ours = DepthwiseConv2d(20, 20, 5, groups=20, **options)  # type: ignore[arg-type]
    ours.load_state_dict(theirs.state_dict())
    assert torch.allclose(ours(inputs), theirs(inputs), atol=1e-5)


@needs_compiler
def test_networks_of_others_train_by_it_and_keep_their_hooks() -> None:
    network = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 5, groups=16), nn.Conv2d(16, 16, 3, groups=4))
    seen: list[bool] = []
    network[1].register_forward_hook(lambda _module, _inputs, outputs: seen.append("_Convolution" in graph(outputs)))
    weight = network[1].weight
    engine().place(network)
    assert [type(module) for module in network] == [nn.Conv2d, DepthwiseConv2d, nn.Conv2d]
    network(torch.randn(2, 3, 8, 8))
    assert seen == [True]
    assert network[1].weight is weight


def graph(outputs: torch.Tensor) -> str:
    """The names of the last two operations."""
    last = outputs.grad_fn
    assert last is not None
    return f"{type(last).__name__} {[type(before).__name__ for before, _ in last.next_functions]}"


@needs_compiler
def test_darts_networks_train_by_it() -> None:
    network = NetworkSpec(model=MODELS.parse("darts-v2-4-4"), shape=(3, 8, 8), classes=2).build()
    found: set[str] = set()
    for module in network.modules():
        if isinstance(module, DepthwiseConv2d):
            module.register_forward_hook(lambda module, _i, outputs: found.add(graph(outputs)))
    network(torch.randn(2, 3, 8, 8))
    assert any("_Convolution" in names for names in found)


def test_without_a_compiler_torch_computes_and_a_debug_line_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", str(tmp_path / "nothing"))
    compiler.library.cache_clear()
    try:
        with caplog.at_level(logging.DEBUG, compiler.__name__):
            inputs, weight = layer()
            for _ in range(2):
                outputs = depthwise_conv2d(inputs, weight)
                (found,) = torch.autograd.grad(outputs.square().sum(), weight)
        expected = functional.conv2d(inputs, weight, groups=20)
        assert torch.allclose(found, torch.autograd.grad(expected.square().sum(), weight)[0], rtol=1e-5)
        assert [record.levelname for record in caplog.records] == ["DEBUG"]
        assert "torch's own kernels" in caplog.text
    finally:
        compiler.library.cache_clear()


@needs_compiler
def test_it_is_compiled_once_and_where_the_cache_can_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compiler, "SOURCES", compiler.SOURCES[-1:])  # the shortest one
    library = compiler._file()
    assert library.parent == tmp_path / "nasdistill"
    made = library.stat().st_mtime_ns
    assert compiler._file().stat().st_mtime_ns == made
    monkeypatch.setenv("CC", "cc -g0")
    assert compiler._file() != library
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(compiler.tempfile, "tempdir", str(tmp_path))
    assert compiler._file().parent.parent == tmp_path


@needs_compiler
@pytest.mark.parametrize(
    ("dtype", "layout", "avx512", "bf16", "ours"),
    [
        (torch.float32, torch.channels_last, False, False, True),
        (torch.float32, torch.channels_last, True, True, False),
        (torch.bfloat16, torch.contiguous_format, True, False, True),
        (torch.bfloat16, torch.contiguous_format, True, True, False),
        (torch.bfloat16, torch.channels_last, True, True, True),
    ],
)
def test_torch_computes_where_it_is_as_fast(
    dtype: torch.dtype,
    layout: torch.memory_format,
    avx512: bool,
    bf16: bool,
    ours: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512" if avx512 else "AVX2")
    monkeypatch.setattr("nasdistill.depthwise.convolution.cpu_has_bf16", lambda: bf16)
    inputs = torch.randn(2, 4, 16, 16, dtype=dtype, requires_grad=True).to(memory_format=layout)
    weight = torch.randn(4, 1, 3, 3, dtype=dtype, requires_grad=True)
    assert is_ours(depthwise_conv2d(inputs, weight, padding=1)) == ours
