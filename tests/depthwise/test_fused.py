"""Separable convolutions computed together, beside torch's layers in double precision."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nasdistill.depthwise import compiled, compiler
from nasdistill.depthwise.fused import can_fuse, sum_of_branches
from nasdistill.depthwise.separable import Branch, Layer, Term, layer_by_layer
from nasdistill.models.layers import SeparableConv

pytestmark = pytest.mark.skipif(not compiler.is_compiled(), reason="needs a C compiler")


def leaf(*size: int) -> torch.Tensor:
    return torch.randn(size).requires_grad_()


def layer(edges: int, channels: int, kernel: int, stride: int = 1, dilation: int = 1, affine: bool = False) -> Layer:
    width = edges * channels
    scale, shift = (leaf(width), leaf(width)) if affine else (None, None)
    return Layer(leaf(width, 1, kernel, kernel), leaf(width, channels, 1, 1), stride, dilation, scale, shift)


def term(values: torch.Tensor, edges: int, stride: int, normalised: bool) -> Term:
    return Term(values[:, :, ::stride, ::stride].detach().clone().requires_grad_(), leaf(edges), normalised)


def tensors(inputs: torch.Tensor, branches: Sequence[Branch], terms: Sequence[Term]) -> list[torch.Tensor]:
    layers = [layer for branch in branches for layer in branch]
    found = [inputs, *(each for layer in layers for each in (*layer[:2], layer.scale, layer.shift))]
    found += [each for term in terms for each in (term.values, term.weights)]
    return [each for each in found if each is not None]


def in_double(inputs: torch.Tensor, branches: Sequence[Branch], terms: Sequence[Term]):
    def exact(each: torch.Tensor | None) -> torch.Tensor | None:
        return None if each is None else each.detach().double().requires_grad_()

    return (
        exact(inputs),
        [
            [Layer(*map(exact, layer[:2]), *layer[2:4], exact(layer.scale), exact(layer.shift)) for layer in branch]
            for branch in branches
        ],
        [Term(exact(term.values), exact(term.weights), term.normalised) for term in terms],
    )


def furthest(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> float:
    """The largest relative error of all, as vectors: where ReLU reads almost zero, single values may differ by more."""
    pairs = [*zip(found, expected, strict=True)]
    assert all(one.shape == other.shape for one, other in pairs)
    return max(((one.double() - other).norm() / other.norm()).item() for one, other in pairs)


def compared(inputs: torch.Tensor, branches: Sequence[Branch], terms: Sequence[Term] = ()) -> float:
    outputs, _ = sum_of_branches(inputs, branches, terms)
    exact = in_double(inputs, branches, terms)
    expected = layer_by_layer(*exact)
    gradient = torch.randn_like(outputs)
    ours = torch.autograd.grad(outputs, tensors(inputs, branches, terms), gradient)
    theirs = torch.autograd.grad(expected, tensors(*exact), gradient.double())
    return furthest([outputs, *ours], [expected, *theirs])


CASES = (
    ((35, 5, 9, 7), 1, 3),
    ((2, 16, 17, 18), 3, 5),
    ((2, 20, 12, 21), 2, 5),
    ((3, 8, 10, 9), 2, 7),
)


@pytest.mark.parametrize(("size", "edges", "kernel"), CASES, ids=str)
def test_outputs_and_gradients_are_those_of_double_precision(size: tuple[int, ...], edges: int, kernel: int) -> None:
    torch.manual_seed(0)
    channels = size[1]
    for stride, dilation, affine in itertools.product((1, 2), (1, 2, 3), (False, True)):
        inputs = leaf(*size)
        branches = [
            [layer(edges, channels, kernel, stride, dilation, affine)],
            [layer(edges, channels, 3, stride, 1, affine), layer(edges, channels, kernel, 1, dilation, affine)],
        ]
        terms = [term(inputs, edges, stride, normalised) for normalised in (True, False)]
        assert compared(inputs, branches, terms) < 1e-3


@pytest.mark.parametrize(("channels", "out"), [(5, 20), (32, 16), (12, 8)])
def test_pointwise_convolutions_alone(channels: int, out: int) -> None:
    torch.manual_seed(0)
    inputs = leaf(35, channels, 7, 6)
    first = Layer(None, leaf(out, channels, 1, 1), scale=leaf(out), shift=leaf(out))
    branches = [[first, layer(1, out, 3)], [Layer(None, leaf(out, channels, 1, 1))]]
    assert compared(inputs, branches, [Term(leaf(35, out, 7, 6), leaf(1), normalised=True)]) < 1e-3


@pytest.mark.parametrize("layout", ["contiguous", "channels last", "a part of the channels"])
def test_any_layout(layout: str) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(4, 24, 9, 8)
    if layout != "contiguous":
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    inputs = inputs[:, 8:] if layout == "a part of the channels" else inputs[:, :16].clone()
    assert compared(inputs.requires_grad_(), [[layer(2, 16, 5)]], [term(inputs, 2, 1, normalised=True)]) < 1e-3


def test_one_number_as_the_gradient_of_all_pixels() -> None:
    inputs, branch = leaf(2, 8, 8, 8), [layer(1, 8, 3, affine=True)]
    outputs, _ = sum_of_branches(inputs, [branch])
    assert branch[0].shift is not None
    (found,) = torch.autograd.grad(outputs.sum(), branch[0].shift)
    assert found.tolist() == [128] * 8


def test_moments_are_those_of_what_batch_norms_read() -> None:
    torch.manual_seed(0)
    inputs, branch = leaf(3, 8, 6, 7), [layer(1, 8, 3)]
    branch[0].pointwise.data[0] = 0  # a channel that is the same everywhere
    outputs, ((mean, variance),) = sum_of_branches(inputs + 5, [branch])
    raw = nn.functional.conv2d(
        nn.functional.conv2d((inputs + 5).relu(), branch[0].depthwise, padding=1, groups=8), branch[0].pointwise
    )
    torch.testing.assert_close(mean, raw.mean((0, 2, 3)))
    torch.testing.assert_close(variance, raw.var((0, 2, 3), correction=0))
    assert outputs[:, 0].abs().max() == variance[0] == 0
    far = (inputs.detach() + 100).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(compiled.moments(far)[1], far.var((0, 2, 3), correction=0), atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(compiled.moments(far)[0], far.mean((0, 2, 3)))


def test_what_is_no_number_stays_none() -> None:
    inputs = torch.randn(2, 8, 8, 8)
    inputs[0, 0, 0, 0] = torch.nan
    assert sum_of_branches(inputs, [[layer(1, 8, 3), layer(1, 8, 3)]])[0].isnan().all()


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_bits_do_not_depend_on_the_number_of_threads(threads: None) -> None:
    torch.manual_seed(0)
    inputs, branches = leaf(37, 16, 9, 9), [[layer(2, 16, 5), layer(2, 16, 3)]]
    terms = [term(inputs, 2, 1, normalised=True)]
    found = []
    for number in (1, 2, 5):
        torch.set_num_threads(number)
        outputs, _ = sum_of_branches(inputs, branches, terms)
        gradients = torch.autograd.grad(outputs.square().sum(), tensors(inputs, branches, terms))
        found.append([outputs.detach(), *gradients])
    for others in found[1:]:
        assert all(map(torch.equal, found[0], others))


def test_second_derivatives_are_torchs() -> None:
    torch.manual_seed(0)
    inputs, branches = leaf(2, 8, 6, 6), [[layer(2, 8, 3), layer(2, 8, 3)]]
    terms = [term(inputs, 2, 1, normalised=True)]
    found = []
    for outputs in (sum_of_branches(inputs, branches, terms)[0], layer_by_layer(inputs, branches, terms)):
        (first,) = torch.autograd.grad(outputs.pow(3).sum(), terms[0].weights, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), (inputs, terms[0].values, branches[0][1].depthwise)))
    assert all(torch.allclose(ours, theirs, rtol=1e-3, atol=1e-2) for ours, theirs in zip(*found, strict=True))


def test_bfloat16_differs_by_its_rounding() -> None:
    torch.manual_seed(0)
    inputs, branches = leaf(4, 16, 12, 12), [[layer(2, 16, 5), layer(2, 16, 3)], [layer(2, 16, 3)]]
    terms = [term(inputs, 2, 1, normalised) for normalised in (True, False)]
    with torch.autocast("cpu", torch.bfloat16):
        assert can_fuse(inputs, branches)
        outputs, _ = sum_of_branches(inputs, branches, terms)
    assert outputs.dtype == torch.bfloat16
    expected, _ = sum_of_branches(inputs, branches, terms)
    read = tensors(inputs, branches, terms)
    both = [torch.autograd.grad(each.float().square().sum(), read) for each in (outputs, expected)]
    assert furthest([outputs], [expected.double()]) < 0.02
    for one, other in zip(*both, strict=True):
        assert one.dtype == torch.float32
        assert furthest([one], [other]) < 0.1


def test_gradients_to_weights_that_are_constants_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, (given,) = torch.randn(2, 8, 6, 6), [layer(1, 8, 3)]
    branches = [[given._replace(depthwise=given.depthwise.detach(), pointwise=given.pointwise.detach())]]
    terms = [term(inputs, 1, 1, normalised=True)]
    outputs, _ = sum_of_branches(inputs, branches, terms)
    wanted: list[object] = []
    original = compiled.separable_gradients

    def spy(*arguments: Any, **named: Any) -> Any:
        wanted.append(named["weights"])
        return original(*arguments, **named)

    monkeypatch.setattr(compiled, "separable_gradients", spy)
    outputs.square().sum().backward()
    assert wanted == [(False, False)]
    assert terms[0].weights.grad is not None


def test_what_cannot_be_fused() -> None:
    inputs, branches = leaf(2, 8, 6, 6), [[layer(1, 8, 3)]]
    assert can_fuse(inputs, branches)
    assert not can_fuse(inputs.double(), branches)
    assert not can_fuse(inputs[:1, :, :1, :1], branches)
    assert not can_fuse(inputs[:0], branches)
    assert not can_fuse(inputs, [[layer(1, 8, 1)]])
    with FlopCounterMode(display=False):
        assert not can_fuse(inputs, branches)


def test_what_transforms_a_module_gets_its_layers() -> None:
    module, inputs = SeparableConv(8, 3, 1, affine=True), torch.randn(2, 8, 6, 6)
    expected = module(inputs)
    traced = torch.fx.symbolic_trace(module)
    assert torch.allclose(traced(inputs), expected, atol=1e-5)
    for norm in (module[3], module[7]):  # which torch would change within the transform, and refuses to
        norm.running_mean = norm.running_var = norm.num_batches_tracked = None
    weights = dict(module.named_parameters())
    gradients = torch.func.grad(lambda weights: torch.func.functional_call(module, weights, (inputs,)).sum())(weights)
    assert gradients["7.bias"].tolist() == [72] * 8
    assert torch.allclose(torch.compile(module, backend="eager")(inputs), expected, atol=1e-5)


def test_a_module_trains_as_its_layers_do() -> None:
    torch.manual_seed(0)
    together = SeparableConv(16, 5, 2, affine=True)
    singly = SeparableConv(16, 5, 2, affine=True)
    singly.load_state_dict(together.state_dict())
    seen: list[torch.Size] = []
    singly[1].register_forward_hook(lambda _module, _inputs, outputs: seen.append(outputs.shape))
    inputs, direction = torch.randn(4, 16, 9, 9), torch.randn(4, 16, 5, 5)
    for network in (together, singly):
        network(inputs).backward(direction)
    assert seen == [(4, 16, 5, 5)]
    for one, other in zip(together.parameters(), singly.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert furthest([one.grad], [other.grad.double()]) < 1e-3
    for name, value in together.state_dict().items():
        torch.testing.assert_close(value, singly.state_dict()[name], msg=name)
    assert torch.equal(together.eval()(inputs), together(inputs))
    torch.testing.assert_close(together(inputs), singly.eval()(inputs), atol=1e-4, rtol=1e-4)
