"""What each operation of torch does to channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from nasdistill.models.channels.names import NONE
from nasdistill.models.channels.tracer import Rule, Tracer, tensors_in, varying


def _moves(tracer: Tracer, operation: Any, arguments: Sequence[Any], outputs: Any) -> None:
    """Numbers change their place: their names go through the same operation."""

    def named(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [named(each) for each in value]
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            return value
        names = tracer.of(value)
        return torch.full(value.shape, NONE) if names is None else names.expand(value.shape)

    if all(tracer.of(tensor) is None for tensor in tensors_in(list(arguments)) if tensor.is_floating_point()):
        return
    moved = operation(*map(named, arguments))
    for output, names in zip(tensors_in(outputs), tensors_in(moved), strict=True):
        tracer.carry(output, names)


def _reshapes(tracer: Tracer, _operation: Any, arguments: Sequence[Any], outputs: Any) -> None:
    names = tracer.of(arguments[0])
    if names is None:
        return
    found = names.expand(arguments[0].shape).reshape(outputs.shape)
    apart = varying(found)
    if len(apart) > len(varying(names)):  # channels in rows, each of which gets one more
        tracer.names.tie(found, found.narrow(apart[0], 0, 1).expand_as(found), "")
    tracer.carry(outputs, found)


def _cuts(tracer: Tracer, operation: Any, arguments: Sequence[Any], outputs: Any) -> None:
    """Takes some of the channels, or splits them: into equal parts, each of which gets one more."""
    _moves(tracer, operation, arguments, outputs)
    whole, parts = tracer.of(arguments[0]), [tracer.of(part) for part in tensors_in(outputs)]
    if whole is None:
        return
    if operation.overloadpacket.__name__ in ("select", "unbind"):
        gone = arguments[1] % whole.ndim if len(arguments) > 1 else 0
        cut = gone in varying(whole)
    else:
        cut = any(part is not None and part.shape[at] < whole.shape[at] for part in parts for at in varying(whole))
    if not cut:
        return
    first = parts[0]
    if first is not None and len(parts) > 1 and all(part is not None and part.shape == first.shape for part in parts):
        for part in parts[1:]:
            tracer.names.tie(first, part, "")
    else:
        tracer.names.fix(whole, "some of them are taken out by their number")


def _turns(tracer: Tracer, operation: Any, arguments: Sequence[Any], outputs: Any) -> None:
    """`t` and its like, of weights too."""
    tensor = arguments[0]
    if tensor in tracer.turned and tensor not in tracer.carried:
        name, order = tracer.turned[tensor]
        tracer.turned[outputs] = (name, order[::-1])
    else:
        _moves(tracer, operation, arguments, outputs)


def _restrides(tracer: Tracer, operation: Any, arguments: Sequence[Any], outputs: Any) -> None:
    names = tracer.of(arguments[0])
    if names is not None and names.shape != outputs.shape:
        tracer.fix(arguments[0], f"it is not known what {operation.overloadpacket.__name__} does to them")


def _keeps(tracer: Tracer, _operation: Any, arguments: Sequence[Any], outputs: Any) -> None:
    """Each number of the first output takes the place of that of the input."""
    (output, *_others) = tensors_in(outputs)
    tensor = arguments[0]
    if tensor in tracer.turned and tensor not in tracer.carried and output is not tensor:
        tracer.turned[output] = tracer.turned[tensor]
    else:
        tracer.carry(output, tracer.of(tensor))


def _pads(tracer: Tracer, operation: Any, arguments: Sequence[Any], outputs: Any) -> None:
    """What is put around a channel's map belongs to the channel."""
    names = tracer.of(arguments[0])
    if names is None:
        return
    one = names.expand(arguments[0].shape)
    apart = varying(one)
    if any(outputs.shape[at] != one.shape[at] for at in apart):
        _moves(tracer, operation, (arguments[0], arguments[1], NONE), outputs)
        return
    tracer.carry(outputs, _across(one, apart).expand(outputs.shape))


def _pointwise(tracer: Tracer, operation: Any, arguments: Sequence[Any], outputs: Any) -> None:
    """Numbers that are computed from several are of one channel."""
    (output,) = tensors_in(outputs)
    tensors = tensors_in(list(arguments))
    known = [(tensor, tracer.of(tensor)) for tensor in tensors]
    carrying = [(tensor, names) for tensor, names in known if names is not None and names.any()]
    if not carrying:
        return
    apart = {at + output.ndim - names.ndim for _tensor, names in carrying for at in varying(names)}
    met: torch.Tensor | None = None
    kind = operation.overloadpacket.__name__.rstrip("_")
    for tensor, names in known:
        missing = output.ndim - tensor.ndim
        repeated = any(at < missing or tensor.shape[at - missing] < output.shape[at] for at in apart)
        if repeated or tensor.numel() == 1:  # one value for all channels
            if names is not None and output.numel() > 1:
                tracer.fix(tensor, "one channel acts on many")
            continue
        names = torch.full(tensor.shape, NONE) if names is None else names
        names = _across(names.expand(output.shape), apart)
        met = names if met is None else tracer.names.tie(met, names, f"{kind} meets them")
    tracer.carry(output, None if met is None else met.expand(output.shape))


def _across(names: torch.Tensor, dimensions: Iterable[int]) -> torch.Tensor:
    """One of all elements that differ in other dimensions only."""
    for at in set(range(names.ndim)) - set(dimensions):
        names = names.narrow(at, 0, 1)
    return names


def _over_space(tracer: Tracer, operation: Any, arguments: Sequence[Any], outputs: Any) -> None:
    """Pooling and resizing: each channel by itself."""
    names = tracer.of(arguments[0])
    if names is None:
        return
    (output, *_indices) = tensors_in(outputs)
    if any(at > 1 for at in varying(names)):
        tracer.fix(arguments[0], f"{operation.overloadpacket.__name__} mixes them")
        return
    tracer.carry(output, _across(names, (0, 1)).expand(output.shape))


def _reduces(tracer: Tracer, operation: Any, arguments: Sequence[Any], outputs: Any) -> None:
    names = tracer.of(arguments[0])
    if names is None:
        return
    (output, *_indices) = tensors_in(outputs)
    names = names.expand(arguments[0].shape)
    given = arguments[1] if len(arguments) > 1 and arguments[1] is not None else list(range(names.ndim))
    over = {at % names.ndim for at in ([given] if isinstance(given, int) else given)}
    if over & set(varying(names)):
        tracer.fix(arguments[0], f"{operation.overloadpacket.__name__} is over them")
        return
    for at in over:
        names = names.narrow(at, 0, 1)
    tracer.carry(output, names.reshape(output.shape))


def _reads(tracer: Tracer, read: torch.Tensor, inner: torch.Tensor, why: str) -> None:
    """The inputs of a weight are what it reads."""
    if read.any():
        tracer.names.tie(read, inner, why)
    else:
        tracer.names.fix(inner, "they are read from what carries no channels, as the image")


def _convolution(tracer: Tracer, _operation: Any, arguments: Sequence[Any], outputs: Any) -> None:
    images, weight, bias, _stride, _padding, _dilation, transposed, _output_padding, groups = arguments
    read, found = tracer.along(images, 1), tracer.weight(weight)
    if read is None or found is None:
        for each in (images, weight, *tensors_in([bias])):
            tracer.fix(each, "a convolution reads them mixed" if read is None else "a weight is computed")
        return
    (name, order), names = found, tracer.names
    depthwise = groups == len(read) > 1 and not transposed
    # A transposed convolution's weight is [in, out / groups, ...], another's [out, in / groups, ...].
    outer = tracer.side(name, order[1 if transposed else 0])
    inner = None if depthwise else tracer.side(name, order[0 if transposed else 1], reads=True)
    given = outer
    if inner is None:  # a filter belongs to the channel that it reads
        names.tie(read.repeat_interleave(len(outer) // groups), outer, "a depthwise convolution reads them")
    elif groups == 1:
        _reads(tracer, read, inner, "a convolution reads them")
    elif transposed:
        names.fix(torch.cat([read, inner, outer]), "a transposed convolution has groups")
        given = outer.repeat(groups)
    else:  # one more channel is one more in each group
        names.tie(read, inner.repeat(groups), "a convolution with groups reads them")
        per_group = outer.reshape(groups, -1)
        names.tie(per_group, per_group[:1].expand_as(per_group), "")
    if bias is not None:
        names.tie(given, tracer.along(bias, 0), "")
    tracer.carry(outputs, given.reshape(1, -1, *[1] * (outputs.ndim - 2)).expand(outputs.shape))


def _product(tracer: Tracer, _operation: Any, arguments: Sequence[Any], outputs: Any) -> None:
    """[bias +] x [N, K] times a turned weight [K, out]."""
    *bias, values, weight = arguments[:3] if len(arguments) > 2 else arguments
    read, found = tracer.along(values, -1), tracer.weight(weight)
    if read is None or found is None or values in tracer.turned:
        for each in tensors_in(list(arguments)):
            tracer.fix(each, "a product of matrices reads them")
        return
    name, order = found
    inner, outer = tracer.side(name, order[0], reads=True), tracer.side(name, order[1])
    _reads(tracer, read, inner, "a linear layer reads them")
    if bias:
        tracer.names.tie(outer, tracer.along(bias[0], 0), "")
    tracer.carry(outputs, outer.expand(outputs.shape))


def _batch_norm(tracer: Tracer, _operation: Any, arguments: Sequence[Any], outputs: Any) -> None:
    images, *of_norm = arguments
    read = tracer.along(images, 1)
    for each in tensors_in(of_norm):
        if read is None:
            tracer.fix(each, "a norm reads them mixed")
        else:
            tracer.names.tie(read, tracer.along(each, 0), "a norm reads them")
    _keeps(tracer, _operation, arguments, outputs)


def _group_norm(tracer: Tracer, operation: Any, arguments: Sequence[Any], outputs: Any) -> None:
    images, weight, bias, _images, channels, _pixels, groups, _eps = arguments
    _batch_norm(tracer, operation, (images, weight, bias), outputs)
    read = tracer.along(images, 1)
    if read is not None and groups < channels:
        per_group = read.reshape(groups, -1)
        tracer.names.tie(per_group, per_group[:1].expand_as(per_group), "a norm takes them together")
        tracer.names.mix(read)


def _layer_norm(tracer: Tracer, operation: Any, arguments: Sequence[Any], outputs: Any) -> None:
    values, shape, weight, bias, _eps = arguments
    read = tracer.along(values, -1)
    if read is None or len(shape) > 1:
        for each in tensors_in([values, weight, bias]):
            tracer.fix(each, "a layer norm is over more than channels")
        return
    for each in tensors_in([weight, bias]):
        tracer.names.tie(read, tracer.along(each, 0), "a layer norm reads them")
    tracer.names.mix(read)
    _keeps(tracer, operation, arguments, outputs)


def _looks(tracer: Tracer, _operation: Any, arguments: Sequence[Any], _outputs: Any) -> None:
    tracer.branches |= arguments[0] not in tracer.constants


_MOVING = (
    *("permute", "transpose", "expand", "squeeze", "unsqueeze", "cat", "stack", "flip", "repeat"),
    *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle"),
)
_CUTTING = ("slice", "select", "split", "split_with_sizes", "unbind", "roll", "index", "index_select")
_KEEPING = (
    *("clone", "detach", "alias", "_to_copy", "contiguous", "lift_fresh", "hardswish", "native_dropout"),
    *("zeros_like", "ones_like", "rand_like", "randn_like", "full_like", "empty_like"),
)
_OVER_SPACE = (
    *("max_pool1d", "max_pool2d_with_indices", "avg_pool1d", "avg_pool2d"),
    *("_adaptive_avg_pool2d", "adaptive_max_pool2d", "reflection_pad2d", "replication_pad2d"),
    *("upsample_nearest2d", "upsample_bilinear2d", "_upsample_bilinear2d_aa", "upsample_bicubic2d"),
)

RULES: Mapping[str, Rule] = {
    "pointwise": _pointwise,
    **dict.fromkeys(_MOVING, _moves),
    **dict.fromkeys(_CUTTING, _cuts),
    **dict.fromkeys(_KEEPING, _keeps),
    **dict.fromkeys(_OVER_SPACE, _over_space),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_alias"), _reshapes),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "var", "std"), _reduces),
    **dict.fromkeys(("addmm", "mm"), _product),
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit_no_training"), _batch_norm),
    "t": _turns,
    "as_strided": _restrides,
    "constant_pad_nd": _pads,
    "convolution": _convolution,
    "native_group_norm": _group_norm,
    "native_layer_norm": _layer_norm,
    "_local_scalar_dense": _looks,
}
"""By the names of torch's operations; `pointwise` is the rule of all that have no own and work number by number."""
