"""The same sums by functions in C, which pass over the memory once where layers one by one do about ten times.

What batch norms must see whole is written and read again; the rest stays in the processor's caches, and is computed
once more for the gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar, cast

import torch

from nasdistill.depthwise import compiled, convolution
from nasdistill.depthwise.compiled import Activation, Affine, Geometry, Separable
from nasdistill.depthwise.compiler import is_compiled
from nasdistill.depthwise.separable import EPS, Branch, Layer, Term, layer_by_layer

Item = TypeVar("Item")


class Moments(NamedTuple):
    """Mean and biased variance of what a batch norm read, float32 [E * C'] each."""

    mean: torch.Tensor
    variance: torch.Tensor


def can_fuse(inputs: torch.Tensor, branches: Sequence[Branch]) -> bool:
    """Whether `sum_of_branches` can be computed here and now."""
    layers = [layer for branch in branches for layer in branch]
    if not all(convolution.is_computable(inputs, layer.pointwise) for layer in layers):
        return False
    images, _, height, width = inputs.shape
    stride = max(layer.stride for layer in layers)
    return (
        all(layer.depthwise is None or layer.depthwise.shape[-1] in compiled.KERNELS for layer in layers)
        and images * -(-height // stride) * -(-width // stride) > 1  # else torch refuses to normalise
        and torch._C._len_torch_function_stack() == torch._C._len_torch_dispatch_stack() == 0  # nobody looks on
        and is_compiled()
    )


def sum_of_branches(
    inputs: torch.Tensor, branches: Sequence[Branch], terms: Sequence[Term] = ()
) -> tuple[torch.Tensor, list[Moments]]:
    """`layer_by_layer`, where `can_fuse` holds; the same bits with any number of threads.

    Returns:
        [N, E * C', H', W'], the edges beside each other, and the moments of each layer, branch by branch.
    """
    dtype = convolution.computed_in(inputs)
    layers = [layer for branch in branches for layer in branch]
    form = _Form(
        [len(branch) for branch in branches],
        [layer.geometry for layer in layers],
        [layer.eps for layer in layers],
        [term.normalised for term in terms],
    )
    tensors = [
        None if each is None else each.float()
        for layer in layers
        for each in (layer.depthwise, layer.pointwise, layer.scale, layer.shift)
    ]
    for term in terms:
        tensors += [compiled.channels_last(term.values.to(dtype)), term.weights.float()]
    made = _Sum.apply(compiled.channels_last(inputs.to(dtype)), form, *tensors)
    outputs, *moments = cast(tuple[torch.Tensor, ...], made)
    return outputs, [Moments(*pair) for pair in _in_parts(moments, 2)]


class _Form(NamedTuple):
    """What branches and terms are but for their tensors; geometry and eps are each layer's."""

    lengths: list[int]
    geometries: list[Geometry]
    eps: list[float]
    normalised: list[bool]

    def apart(self, tensors: Sequence[Any]) -> tuple[list[Sequence[Any]], list[Sequence[Any]]]:
        """The four parameters of each layer, and values and weights of each term."""
        border = 4 * len(self.eps)
        return _in_parts(tensors[:border], 4), _in_parts(tensors[border:], 2)

    def by_branch(self, items: Sequence[Item]) -> list[list[Item]]:
        rest = iter(items)
        return [[next(rest) for _ in range(length)] for length in self.lengths]


class _Normed(NamedTuple):
    """What a batch norm read, and how it normalises that, by scale * values + shift.

    Attributes:
        values: [N, E, H', W', C']; of a term [N, C', H', W'].
        mean, inverse: of the values, and 1 / their standard deviation: [E * C'] or [C'], as are scale and shift.
    """

    values: torch.Tensor
    mean: torch.Tensor
    inverse: torch.Tensor
    scale: torch.Tensor
    shift: torch.Tensor

    @property
    def activation(self) -> Activation:
        return Activation(self.values, self.scale, self.shift)


class _Layer(NamedTuple):
    """What the gradients of a layer need; and of which of its parameters they are wanted."""

    convolutions: Separable
    normed: _Normed
    wanted: Sequence[bool]


class _Sum(torch.autograd.Function):
    """Gets, after the form, four parameters of each layer, and values and weights of each term."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, form: _Form, *tensors: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        parameters, terms = form.apart(tensors)
        normed: list[_Normed] = []
        moments: list[torch.Tensor] = []
        for branch in form.by_branch([*zip(form.geometries, form.eps, parameters, strict=True)]):
            read = Activation(inputs)
            for geometry, eps, (depthwise, pointwise, scale, shift) in branch:
                made, mean, variance = compiled.separable(read, Separable(depthwise, pointwise, geometry))
                inverse = torch.rsqrt(variance + eps)
                scale = inverse if scale is None else inverse * scale
                shift = -mean * scale if shift is None else shift - mean * scale
                normed.append(_Normed(made, mean, inverse, scale, shift))
                moments += [mean, variance]
                read = normed[-1].activation
        ends = [branch[-1] for branch in form.by_branch(normed)]
        scales, shifts = [end.scale for end in ends], [end.shift for end in ends]
        for (values, weights), normalised in zip(terms, form.normalised, strict=True):
            term = _normed_term(values, normalised)
            scales.append(torch.outer(weights, term.scale).flatten())
            shifts.append(torch.outer(weights, term.shift).flatten())
            normed.append(term)
            ends.append(term)
        ctx.form = form
        ctx.save_for_backward(inputs, *tensors, *(each for layer in normed for each in layer))
        ctx.mark_non_differentiable(*moments)
        outputs = compiled.normalised_sum(
            [end.values for end in ends],
            torch.stack(scales),
            torch.stack(shifts).sum(0),
            edges=ends[0].values.shape[1],
        )
        return outputs, *moments

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        form: _Form = ctx.form
        inputs, *saved = ctx.saved_tensors
        tensors = saved[: 4 * len(form.eps) + 2 * len(form.normalised)]
        wanted = (ctx.needs_input_grad[0], *ctx.needs_input_grad[2:])
        with torch.autocast("cpu", enabled=False):
            if torch.is_grad_enabled():  # somebody wants second derivatives
                of_inputs, *found = _by_torch(inputs, form, tensors, gradient, wanted)
            else:
                normed = [_Normed(*five) for five in _in_parts(saved[len(tensors) :], 5)]
                of_inputs, *found = _gradients(inputs, form, tensors, normed, gradient, wanted[1:])
        return of_inputs, None, *(each if needed else None for each, needed in zip(found, wanted[1:], strict=True))


def _normed_term(values: torch.Tensor, normalised: bool) -> _Normed:
    channels = values.shape[1]
    mean, inverse = torch.zeros(channels), torch.ones(channels)
    if normalised:
        mean, variance = compiled.moments(values)
        inverse = torch.rsqrt(variance + EPS)
    return _Normed(values, mean, inverse, inverse, -mean * inverse)


def _gradients(
    inputs: torch.Tensor,
    form: _Form,
    tensors: Sequence[Any],
    normed: Sequence[_Normed],
    gradient: torch.Tensor,
    wanted: Sequence[bool],
) -> list[torch.Tensor | None]:
    """The gradients to the inputs and to the tensors; those to weights that nobody wants are None."""
    parameters, terms = form.apart(tensors)
    convolutions = [
        Separable(depthwise, pointwise, geometry)
        for (depthwise, pointwise, *_), geometry in zip(parameters, form.geometries, strict=True)
    ]
    of_layers, of_terms = normed[: len(convolutions)], normed[len(convolutions) :]
    layers = [_Layer(*each) for each in zip(convolutions, of_layers, form.apart(wanted)[0], strict=True)]
    branches = form.by_branch(layers)
    edges = of_layers[0].values.shape[1]
    gradient = compiled.channels_last(gradient)
    (total, *products), gathered = compiled.normalised_sums(
        gradient,
        [*(branch[-1].normed.values for branch in branches), *(term.values for term in of_terms)],
        torch.stack(
            [*(branch[-1].normed.mean for branch in branches), *(term.mean.repeat(edges) for term in of_terms)]
        ),
        torch.stack([weights for _, weights in terms]) if terms else torch.empty(0, edges),
    )
    sums = [torch.stack([total, product]) for product in products]
    of_inputs: torch.Tensor | None = None
    found: list[torch.Tensor | None] = []
    for branch, of_branch in zip(branches, sums, strict=False):
        of_inputs, of_parameters = _gradients_of_branch(inputs, branch, gradient, of_branch, of_inputs)
        found += of_parameters
    for term, (_, weights), of_term, weighted, normalised in zip(
        of_terms, terms, sums[len(branches) :], gathered, form.normalised, strict=True
    ):
        by_edge = of_term.view(2, edges, -1)
        if normalised:
            norm, _, _ = _of_norm(term, torch.einsum("e,sec->sc", weights.double(), by_edge))
            scales = torch.stack([norm.of_gradient, norm.of_outputs])
            weighted = compiled.normalised_sum([weighted, term.values], scales, norm.constant, edges=1)
        found += [weighted.to(term.values.dtype), (by_edge[1] * term.inverse).sum(1).float()]
    return [of_inputs, *found]


def _gradients_of_branch(
    inputs: torch.Tensor,
    branch: Sequence[_Layer],
    gradient: torch.Tensor,
    sums: torch.Tensor,
    onto: torch.Tensor | None,
) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    """The gradient to the inputs, added to that of other branches, and those to the parameters of all layers.

    Args:
        sums: what `_of_norm` needs for the last batch norm.
    """
    found: list[torch.Tensor | None] = []
    for index in reversed(range(len(branch))):
        convolutions, normed, wanted = branch[index]
        before = branch[index - 1].normed if index else None
        norm, of_scale, of_shift = _of_norm(normed, sums)
        gradient, of_depthwise, of_pointwise, sums = compiled.separable_gradients(
            gradient,
            normed.values,
            norm,
            before.activation if before else Activation(inputs),
            convolutions,
            onto=None if before else onto,
            mean=before.mean if before else None,
            weights=(wanted[0], wanted[1]),
        )
        found = [of_depthwise, of_pointwise, of_scale, of_shift, *found]
    return gradient, found


def _of_norm(normed: _Normed, sums: torch.Tensor) -> tuple[Affine, torch.Tensor, torch.Tensor]:
    """The gradients of a batch norm: to what it read, to its scale and to its shift.

    With g the gradient to what it made and x what it read, M values of a channel, of mean m and deviation s,

        dL/dx = scale / s * (g - sum(g) / M - (x - m) / s^2 * sum(g (x - m)) / M).

    Args:
        sums: by channel, of g and of g (x - m), float64 [2, C].
    """
    count = normed.values.numel() // len(normed.mean)
    total, product = sums
    of_outputs = -normed.scale * normed.inverse.double() ** 2 * product / count
    constant = -normed.scale * total / count - of_outputs * normed.mean
    norm = Affine(normed.scale, of_outputs.float(), constant.float())
    return norm, (product * normed.inverse).float(), total.float()


def _by_torch(
    inputs: torch.Tensor,
    form: _Form,
    tensors: Sequence[torch.Tensor | None],
    gradient: torch.Tensor,
    wanted: Sequence[bool],
) -> list[torch.Tensor | None]:
    """Torch's gradients to the inputs and the tensors, as far as they are wanted; they have gradients themselves."""
    parameters, of_terms = form.apart(tensors)
    layers = [
        Layer(depthwise, pointwise, geometry.stride, geometry.dilation, scale, shift, eps)
        for geometry, eps, (depthwise, pointwise, scale, shift) in zip(
            form.geometries, form.eps, parameters, strict=True
        )
    ]
    terms = [
        Term(values, weights, normalised)
        for (values, weights), normalised in zip(of_terms, form.normalised, strict=True)
    ]
    outputs = layer_by_layer(inputs, form.by_branch(layers), terms)
    asked = [each for each, needed in zip((inputs, *tensors), wanted, strict=True) if needed and each is not None]
    found = iter(torch.autograd.grad(outputs, asked, gradient.to(outputs.dtype), create_graph=True))
    return [next(found) if needed else None for needed in wanted]


def _in_parts(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
