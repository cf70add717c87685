"""The functions in C, as functions of tensors. They give the same bits with any number of threads."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import torch

from nasdistill.depthwise.compiler import library

KERNELS = (3, 5, 7)


class Geometry(NamedTuple):
    """What a convolution does in both dimensions, in the order of torch's arguments."""

    stride: int
    padding: int
    dilation: int

    def size(self, pixels: int, kernel: int) -> int:
        """Of the outputs along a dimension of so many pixels."""
        return (pixels + 2 * self.padding - self.dilation * (kernel - 1) - 1) // self.stride + 1


def weight_gradient(inputs: torch.Tensor, outputs: torch.Tensor, kernel: int, geometry: Geometry) -> torch.Tensor:
    """The gradient of a depthwise convolution to its weights, float32 [C, 1, kernel, kernel].

    Args:
        inputs: what it read, float32 or bfloat16 [N, C, H, W] on the CPU, with any strides.
        outputs: the gradient to what it made, [N, C, H', W'].
        kernel: one of `KERNELS`, in both dimensions.

    Raises:
        MemoryError: there is none for a few rows of the images.
    """
    gradient = torch.empty(inputs.shape[1], 1, kernel, kernel)
    _call("depthwise_weight_gradient", gradient, _Strided.of(inputs), _Strided.of(outputs), kernel, *geometry)
    return gradient


class Separable(NamedTuple):
    """A depthwise and a pointwise convolution of one or several edges.

    Attributes:
        depthwise: float32 [edges * C, 1, kernel, kernel]; None for a pointwise convolution alone, of one edge.
        pointwise: float32 [edges * C', C, 1, 1], of groups that are edges.
    """

    depthwise: torch.Tensor | None
    pointwise: torch.Tensor
    geometry: Geometry


class Activation(NamedTuple):
    """What is read through ReLU: scale * values + shift.

    Attributes:
        values: [N, C, H, W], channels last, for all edges; or [N, edges, H, W, C].
        scale, shift: float32 [edges * C], or None for 1 and 0.
    """

    values: torch.Tensor
    scale: torch.Tensor | None = None
    shift: torch.Tensor | None = None


class Affine(NamedTuple):
    """The gradient of a batch norm to what it read, of_gradient * gradient + of_outputs * outputs + constant, where
    `outputs` are what it read: float32 [edges * C] each."""

    of_gradient: torch.Tensor
    of_outputs: torch.Tensor
    constant: torch.Tensor


def separable(read: Activation, convolutions: Separable) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The outputs of convolutions [N, edges, H', W', C'], their mean and their biased variance, [edges * C'].

    Raises:
        MemoryError: there is none for a few images.
    """
    shape = _Shape.of(read.values, convolutions)
    height, width = (convolutions.geometry.size(size, shape.kernel) for size in (shape.height, shape.width))
    outputs = read.values.new_empty(shape.images, shape.edges, height, width, shape.out_channels)
    mean, variance = torch.empty(2, len(convolutions.pointwise)).unbind()
    _call(
        "separable_forward",
        *(_Map.of(outputs), mean, variance),
        *(_Map.of(read.values), read.scale, read.shift),
        *(_contiguous(convolutions.depthwise), convolutions.pointwise.contiguous(), shape),
    )
    return outputs, mean, variance


def separable_gradients(
    gradient: torch.Tensor,
    outputs: torch.Tensor,
    norm: Affine,
    read: Activation,
    convolutions: Separable,
    *,
    onto: torch.Tensor | None = None,
    mean: torch.Tensor | None = None,
    weights: tuple[bool, bool] = (True, True),
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None, torch.Tensor]:
    """The gradients of `separable` and of the batch norm behind it.

    Args:
        gradient: to what the batch norm made of `outputs`, [N, edges, H', W', C'] or [N, edges * C', H', W'].
        onto: where the gradient to what ReLU read is added, if anywhere.
        mean: of the values that were read, where a batch norm made scale and shift.
        weights: whether the gradients to depthwise and pointwise weights are wanted.

    Returns:
        the gradient to what ReLU read, of the shape of `read.values`; to both weights; and, with `mean`, float64
        [2, edges * C]: the sums of the first one and of its products with values - mean.

    Raises:
        MemoryError: there is none for a few images.
    """
    depthwise, pointwise = _contiguous(convolutions.depthwise), convolutions.pointwise.contiguous()
    shape = _Shape.of(read.values, convolutions)
    made = torch.empty_like(read.values) if onto is None else onto
    sums = torch.empty(2, shape.edges * shape.channels, dtype=torch.float64)
    of_depthwise = torch.empty_like(depthwise) if depthwise is not None and weights[0] else None
    of_pointwise = torch.empty_like(pointwise) if weights[1] else None
    _call(
        "separable_backward",
        *(_Map.of(made), int(onto is not None), sums, of_depthwise, of_pointwise),
        *(_Map.of(gradient, shape.out_channels), _Map.of(outputs), _Affine.of(norm)),
        *(_Map.of(read.values), read.scale, read.shift, mean),
        *(depthwise, pointwise, shape),
    )
    return made, of_depthwise, of_pointwise, sums


def normalised_sum(
    terms: Sequence[torch.Tensor], scales: torch.Tensor, shift: torch.Tensor, edges: int
) -> torch.Tensor:
    """Terms, scaled by channel, and a shift, added.

    Args:
        terms: K of [N, edges, H, W, C], or of [N, C, H, W] for all edges.
        scales: float32 [K, edges * C].
        shift: float32 [edges * C].

    Returns:
        [N, edges * C, H, W], channels last.
    """
    first, channels = terms[0], len(shift) // edges
    height, width = first.shape[2:4]
    size = (len(first), len(shift), height, width)
    outputs = torch.empty(size, dtype=first.dtype, memory_format=torch.channels_last)
    _call(
        "normalised_sum",
        *(_Map.of(outputs, channels), _Map.several(terms), len(terms), scales.contiguous(), shift.contiguous()),
        _Extent(len(first), height * width, channels, edges),
    )
    return outputs


def normalised_sums(
    gradient: torch.Tensor, terms: Sequence[torch.Tensor], means: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """What the gradients of batch norms need of the gradient to a sum of what they made.

    Args:
        gradient: [N, edges * C, H, W].
        terms: K of [N, edges, H, W, C], or of [N, C, H, W] for all edges.
        means: float32 [K, edges * C].
        weights: float32 [S, edges].

    Returns:
        by channel, the sums of the gradient and of its products with each term's distances from their means, float64
        [1 + K, edges * C]; and S sums of the gradient over the edges with these weights, float32 [N, C, H, W] each.

    Raises:
        MemoryError: there is none for the sums.
    """
    images, all_channels, height, width = gradient.shape
    edges = weights.shape[1]
    channels = all_channels // edges
    sums = torch.empty(1 + len(terms), all_channels, dtype=torch.float64)
    gathered = [torch.empty((images, channels, height, width), memory_format=torch.channels_last) for _ in weights]
    _call(
        "normalised_sums",
        *(sums, _Map.several(gathered), len(gathered), weights.contiguous()),
        *(_Map.of(gradient, channels), _Map.several(terms), len(terms), means.contiguous()),
        _Extent(images, height * width, channels, edges),
    )
    return sums, gathered


def moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and biased variance of each channel of [N, C, H, W], channels last: float32 [C] each."""
    count, no_weights = x.numel() // x.shape[1], torch.empty(0, 1)
    (total, _), _ = normalised_sums(x, [x], torch.zeros(1, x.shape[1]), no_weights)
    mean = (total / count).float()
    (_, product), _ = normalised_sums(x, [x], mean[None], no_weights)
    # The sum of x (x - mean) is that of (x - mean)^2, but for what rounding the mean adds.
    return mean, ((product - mean * (total - count * mean.double())) / count).float()


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """`x`, or a copy of it, each pixel's channels beside each other and all pixels equally far from one another."""
    return x if _distance(x) else x.contiguous(memory_format=torch.channels_last)


def _distance(x: torch.Tensor) -> int:
    """From one pixel to the next, in elements; 0 where it differs."""
    _, channels, height, width = x.shape
    if x.is_contiguous(memory_format=torch.channels_last):
        return channels
    distance = x.stride(3)
    return distance if x.stride() == (height * width * distance, 1, width * distance, distance) else 0


def _contiguous(x: torch.Tensor | None) -> torch.Tensor | None:
    return None if x is None else x.contiguous()


class _Strided(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("images", "channels", "height", "width")),
        *((name, ctypes.c_int64) for name in ("image", "channel", "row", "column")),
        ("bfloat16", ctypes.c_int64),
    )

    @classmethod
    def of(cls, tensor: torch.Tensor) -> _Strided:
        return cls(tensor.data_ptr(), *tensor.shape, *tensor.stride(), tensor.dtype == torch.bfloat16)


class _Map(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("image", "edge", "pixel", "bfloat16")),
    )

    @classmethod
    def of(cls, tensor: torch.Tensor, channels: int = 0) -> _Map:
        """Of [N, edges, H, W, C]; of [N, edges * C, H, W] with so many channels an edge; or of [N, C, H, W]."""
        if tensor.ndim == 5:
            pixel = tensor.shape[4]
            edge = pixel * tensor.shape[2] * tensor.shape[3]
            image = edge * tensor.shape[1]
        else:
            pixel, edge = _distance(tensor), channels
            image = pixel * tensor.shape[2] * tensor.shape[3]
        return cls(tensor.data_ptr(), image, edge, pixel, tensor.dtype == torch.bfloat16)

    @classmethod
    def several(cls, tensors: Sequence[torch.Tensor]) -> ctypes.Array[_Map]:
        return (cls * len(tensors))(*map(cls.of, tensors))


class _Extent(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_int64) for name in ("images", "pixels", "channels", "edges"))


class _Affine(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in Affine._fields)

    @classmethod
    def of(cls, norm: Affine) -> _Affine:
        return cls(*(each.data_ptr() for each in norm))


class _Shape(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in ("images", "height", "width", "channels", "out_channels", "edges", "kernel", *Geometry._fields)
    )

    @classmethod
    def of(cls, read: torch.Tensor, convolutions: Separable) -> _Shape:
        depthwise, pointwise, geometry = convolutions
        channels = pointwise.shape[1]
        edges, kernel = (1, 1) if depthwise is None else (len(depthwise) // channels, depthwise.shape[-1])
        size = (len(read), *read.shape[2:4], channels, len(pointwise) // edges)
        return cls(*size, edges, kernel, *geometry)


def _call(name: str, *arguments: torch.Tensor | ctypes.Structure | ctypes.Array[_Map] | int | None) -> None:
    """Call a function that gets pointers, integers of 64 bits and last the number of threads.

    Raises:
        MemoryError: it says that there is none.
    """
    functions = library()
    assert functions is not None
    if getattr(functions, name)(*map(_as_c, arguments), ctypes.c_int(torch.get_num_threads())):
        raise MemoryError("no memory for the buffers of a depthwise convolution")


def _as_c(argument: torch.Tensor | ctypes.Structure | ctypes.Array[_Map] | int | None) -> object:
    if isinstance(argument, torch.Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, ctypes.Structure):
        return ctypes.byref(argument)
    return ctypes.c_int64(argument) if isinstance(argument, int) else argument
