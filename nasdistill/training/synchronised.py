"""Batch norm whose statistics are those of the whole batch where several processes each hold a share of it.

torch's own module does the same on GPUs alone, and has to take the place of each batch norm. Here every batch norm
within a block is one, whichever module computes it, on any device.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

from nasdistill.training.processes import all_gather, all_reduce_sum


class SynchronisedStatistics(TorchFunctionMode):
    """Within this block `batch_norm` in training mode is `synchronised_batch_norm`; all processes must come by.

    Not in inference mode, in which each scores batches of its own.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is functional.batch_norm:
            return _batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _batch_norm(
    x: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """As `torch.nn.functional.batch_norm`."""
    if training and not torch.is_inference_mode_enabled():
        return synchronised_batch_norm(x, running_mean, running_var, weight, bias, momentum, eps)
    return functional.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)


def keep_statistics_from_ddp(module: nn.Module) -> None:
    """Let torch's DDP, which will wrap `module`, send no running statistics before each forward pass.

    All processes move them alike here. They must start equal, too, as DDP no longer sees to that.
    """
    statistics = [
        f"{name}.{buffer}".removeprefix(".")
        for name, norm in module.named_modules()
        if isinstance(norm, _BatchNorm)
        for buffer, _values in norm.named_buffers(recurse=False)
    ]
    ignore = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
    ignore(module, statistics)  # type: ignore[no-untyped-call]


def synchronised_batch_norm(
    x: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    momentum: float,
    eps: float,
) -> torch.Tensor:
    """Normalise this process's images [N, C, ...] by mean and variance over the images of all processes.

    The running statistics, each [C], move to them by `momentum`, with the unbiased variance. The gradient is that of
    the sum of all processes' losses, as other images' losses depend on these images too.

    Source: Ioffe, Szegedy, Batch Normalization (2015, arXiv:1502.03167), algorithm 1, over all processes.
    """
    return cast(torch.Tensor, _Normalise.apply(x, weight, bias, running_mean, running_var, momentum, eps))


def statistics(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean and biased variance of each channel, [C], and values of a channel, [], over all processes.

    Each process's own mean m_i and variance v_i over n_i values, of N together, are joined without cancellation:

        m = sum_i n_i m_i / N,    v = sum_i n_i (v_i + (m_i - m)^2) / N
    """
    mean, variance = own_statistics(x)
    rows = all_gather(torch.cat([mean, variance, _count(x.numel() // x.shape[1], mean.dtype, mean.device)]))
    means, variances, counts = torch.split(rows, [len(mean), len(mean), 1], dim=1)
    total = counts.sum()
    shares = counts / total
    mean = (shares * means).sum(0)
    apart = means - mean
    return mean, (shares * torch.addcmul(variances, apart, apart)).sum(0), total


@functools.lru_cache(16)
def _count(values: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Kept, as making it takes as long as its message."""
    return torch.tensor([values], dtype=dtype, device=device)


def own_statistics(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and biased variance of each channel, [C], over this process's values; in float32 at least."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    if x.device.type == "cpu":  # where batch norm's own reduction is ten times as fast as the general one
        # It answers in the type of running statistics, if there are any; with momentum 0 these tell nothing else.
        running = (None, None) if x.dtype == dtype else x.new_zeros(2, x.shape[1], dtype=dtype)
        mean, variance = torch.ops.aten.batch_norm_update_stats(x, *running, 0.0)
    else:
        variance, mean = torch.var_mean(x.to(dtype), [0, *range(2, x.ndim)], correction=0)
    return mean, variance


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, where mean and variance are those of x in all processes."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        running_mean: torch.Tensor | None,
        running_var: torch.Tensor | None,
        momentum: float,
        eps: float,
    ) -> torch.Tensor:
        mean, variance, count = statistics(x)
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((variance * (count / (count - 1))).to(running_var.dtype), momentum)
        ctx.save_for_backward(x, weight, mean, variance, count)
        ctx.eps = eps
        return torch.batch_norm(x, weight, bias, mean, variance, False, 0.0, eps, torch.backends.cudnn.enabled)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, mean, variance, count = ctx.saved_tensors
        with torch._C.DisableTorchFunction():  # the mode makes each small operation several times as slow
            gradients = _gradients(slope, x, weight, mean, variance, count, ctx.eps)
        wanted = [each if needed else None for each, needed in zip(gradients, ctx.needs_input_grad, strict=False)]
        return (*wanted, None, None, None, None)


def _gradients(
    slope: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor | None,
    mean: torch.Tensor,
    variance: torch.Tensor,
    count: torch.Tensor,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Those to x, and this process's share of those to weight and bias.

    With z = (x - mean) / s, s = sqrt(variance + eps), g the slope at the output and N values of a channel:

        dL/dx = weight / s * (g - sum(g) / N - z * sum(g z) / N),   the sums over all processes.
    """
    # Where mean and variance are given, the derivatives of weight and bias are this process's share of both sums. That
    # of x is the first term; it comes along here where products of unlike types would be slow. CUDA wants all that is
    # optional: statistics as a forward pass leaves them, and a weight, without which it sums nothing.
    half = x.dtype != mean.dtype
    scale = torch.rsqrt(variance + eps)
    first, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
        *(slope, x, torch.ones_like(mean) if weight is None else weight, mean, variance, mean, scale, False, eps),
        [half, True, True],
    )
    sum_slope, sum_product = all_reduce_sum(torch.cat([of_bias, of_weight])).chunk(2)
    if weight is not None:
        scale = scale * weight
    # The other terms are z times one number a channel plus another: a batch norm again, in one pass over x.
    share = -scale / count
    gradient = torch.batch_norm(x, share * sum_product, share * sum_slope, mean, variance, False, 0.0, eps, False)
    if half:
        gradient.add_(first)
    else:
        gradient.addcmul_(slope, scale.view(-1, *[1] * (x.ndim - 2)))
    return gradient, of_weight, of_bias
