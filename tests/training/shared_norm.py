"""Batch norm of a share of a batch, in each of several processes: `python -m tests.training.shared_norm FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from nasdistill.training.synchronised import SynchronisedStatistics

UNEVEN = (5, 2)
"""Images of each process: what a batch is that does not divide evenly."""


def problem(affine: bool) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A batch norm in double precision, images far from zero for it, and what the loss weighs its output with."""
    torch.manual_seed(int(affine))
    norm = nn.BatchNorm2d(3, affine=affine, momentum=0.3).double()
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    count = sum(UNEVEN)
    return norm, 100 + torch.randn(count, 3, 4, 2, dtype=torch.float64), torch.randn(count, 3, 4, 2).double()


def solve(norm: nn.Module, images: torch.Tensor, weights: torch.Tensor) -> dict[str, torch.Tensor]:
    """The output of a batch norm, the gradients of a loss that is not linear in it, and its statistics."""
    images.requires_grad_()
    output = norm(images)
    (weights * output.sin()).sum().backward()
    assert images.grad is not None
    gradients = {f"gradient.{name}": p.grad for name, p in norm.named_parameters() if p.grad is not None}
    return {"output": output.detach(), "slope": images.grad, **gradients, **dict(norm.named_buffers())}


def main(folder: Path) -> None:
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    found = {}
    for affine in (False, True):
        norm, images, weights = problem(affine)
        mine, its = (whole.split(UNEVEN)[rank] for whole in (images, weights))
        with SynchronisedStatistics():
            found |= {f"{affine}.{name}": value for name, value in solve(norm, mine.clone(), its).items()}
            norm.eval()
            assert torch.equal(norm(mine[:1]), nn.functional.batch_norm(mine[:1], *_statistics(norm), False, 0, 1e-5))
    save_file(found, folder / f"rank-{rank}")
    torch.distributed.destroy_process_group()


def _statistics(norm: nn.Module) -> list[torch.Tensor | None]:
    return [getattr(norm, name) for name in ("running_mean", "running_var", "weight", "bias")]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
