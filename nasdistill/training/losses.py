"""The losses of the steps behind us, read from the device now and then, and the stop when one is not a number."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from nasdistill.errors import UserError, written_at
from nasdistill.training.checkpoints import Checkpoints
from nasdistill.training.processes import all_reduce_mean

_NOTHING: Mapping[str, float] = {}


class Diverged(UserError):
    """A loss or a weight is not a number."""


def checked_loss(value: object, whose: str, by: type) -> torch.Tensor:
    """What was returned as a loss, if it is one.

    Args:
        whose: e.g. "objective 'kd'".
        by: the class that computes it.

    Raises:
        UserError: it is no scalar tensor of floats, or gradients are enabled and it has none.
    """
    if not isinstance(value, torch.Tensor):
        got = f"{type(value).__name__} {value!r:.80}"
    elif value.ndim or not value.is_floating_point():
        got = f"{value.dtype} of shape {list(value.shape)}"
    elif torch.is_grad_enabled() and not value.requires_grad:
        got = "one without: it depends on nothing that is trained"
    else:
        return value
    raise UserError(
        f"the loss of the {whose} ({by.__name__}, {written_at(by)}) must be a scalar tensor of floats with a gradient, "
        f"got {got}"
    )


class RunningLosses:
    """Sums the named losses of an epoch, and what is reported beside them.

    Reading a number from an accelerator waits for it, so `add` keeps tensors and `read` reads them all at once. The
    sums do not depend on when they are read. Several processes read together, and get the mean over all of them.
    """

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._reported: dict[str, float] = {}
        self._steps = 0
        self._unread: list[tuple[int, torch.Tensor]] = []
        self.latest = math.nan

    def add(
        self, step: int, losses: Mapping[str, torch.Tensor], reported: Mapping[str, torch.Tensor | float] = _NOTHING
    ) -> None:
        """The losses of the step that was the `step`-th, counted from 1, and what it reports; all of them scalars.

        Raises:
            UserError: the names are not those of the steps before.
        """
        if not self._sums:
            self._sums, self._reported = dict.fromkeys(losses, 0.0), dict.fromkeys(reported, 0.0)
        names, known = [*losses, *reported], [*self._sums, *self._reported]
        if names != known:
            raise UserError(f"step {step} tells {', '.join(names)}, the steps before {', '.join(known)}")
        device = next(iter(losses.values())).device
        values = [torch.as_tensor(value, device=device).detach() for value in (*losses.values(), *reported.values())]
        self._unread.append((step, torch.stack(values)))

    def read(self) -> None:
        """Read what was added since the last reading.

        Raises:
            Diverged: naming the first step whose loss is not a finite number.
        """
        if not self._unread:
            return
        (means,) = all_reduce_mean([torch.stack([losses for _, losses in self._unread])])
        rows = means.tolist()
        trained = len(self._sums)
        for (step, _), row in zip(self._unread, rows, strict=True):
            for name, value in zip(self._sums, row[:trained], strict=True):
                if not math.isfinite(value):
                    raise Diverged(f"the {name} loss is {value} at step {step}")
                self._sums[name] += value
            for name, value in zip(self._reported, row[trained:], strict=True):
                self._reported[name] += value
        self._steps += len(rows)
        self._unread.clear()
        self.latest = sum(rows[-1][:trained])

    @property
    def summary(self) -> str:
        """The loss last read, for a progress bar; nothing before the first reading."""
        return "" if math.isnan(self.latest) else f"loss {self.latest:.4f}"

    def take_means(self, prefix: str = "") -> dict[str, float]:
        """The mean of each loss, as last read, and of what was reported if finite; the next epoch starts anew.

        Args:
            prefix: to the names of losses.
        """
        sums = {prefix + name: value for name, value in self._sums.items()}
        sums |= {name: value for name, value in self._reported.items() if math.isfinite(value)}
        means = {name: value / self._steps for name, value in sums.items()}
        self._sums, self._reported, self._steps, self.latest = {}, {}, 0, math.nan
        return means

    def state_dict(self) -> dict[str, Any]:
        """Plain data from which the sums go on; reads first."""
        self.read()
        return {"sums": dict(self._sums), "reported": dict(self._reported), "steps": self._steps}

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> None:
        self._sums, self._reported = dict(state_dict["sums"]), dict(state_dict["reported"])
        self._steps = state_dict["steps"]


def refuse_broken_weights(state: Mapping[str, torch.Tensor], step: int) -> None:
    """What is saved or scored must be good: a step that breaks weights shows in the loss of the next one only."""
    for name, value in state.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise Diverged(f"{name} is not finite after step {step}")


@contextlib.contextmanager
def naming_the_last_good(checkpoints: Checkpoints) -> Iterator[None]:
    """Whoever diverges within this block is told where the last good state lies."""
    try:
        yield
    except Diverged as error:
        newest = checkpoints.newest
        where = f"the last good checkpoint is {newest}" if newest is not None else "there is no checkpoint yet"
        raise Diverged(
            f"{error}; {where}; a lower learning rate, a warm-up or gradient clipping usually helps"
        ) from None
