"""The losses of the steps behind us, read from the device now and then, and the stop when one is not a number."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from nasdistill.errors import UserError, written_at
from nasdistill.training.checkpoints import Checkpoints
from nasdistill.training.processes import averaged


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
    """Sums the named losses of an epoch.

    Reading a number from an accelerator waits for it, so `add` keeps tensors and `look` reads them all at once. The
    sums do not depend on when it looks. Where several processes compute together they look together, and read the mean
    over all of them.
    """

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._steps = 0
        self._unread: list[tuple[int, torch.Tensor]] = []
        self.latest = math.nan

    def add(self, step: int, names: list[str], losses: torch.Tensor) -> None:
        """The losses, [len(names)], of the step that was the `step`-th, counted from 1."""
        for name in names:
            self._sums.setdefault(name, 0.0)
        self._unread.append((step, losses.detach()))

    def look(self) -> None:
        """Read what was added since the last look.

        Raises:
            Diverged: naming the first step whose loss is not a finite number.
        """
        if not self._unread:
            return
        (means,) = averaged([torch.stack([losses for _, losses in self._unread])])
        rows = means.tolist()
        for (step, _), row in zip(self._unread, rows, strict=True):
            for name, value in zip(self._sums, row, strict=True):
                if not math.isfinite(value):
                    raise Diverged(f"the {name} loss is {value} at step {step}")
                self._sums[name] += value
        self._steps += len(rows)
        self._unread.clear()
        self.latest = sum(rows[-1])

    @property
    def told(self) -> str:
        """The loss last looked at, for a progress bar; nothing before the first look."""
        return "" if math.isnan(self.latest) else f"loss {self.latest:.4f}"

    def take_means(self) -> dict[str, float]:
        """The mean of each loss, as last looked at; the next epoch starts anew."""
        means = {name: value / self._steps for name, value in self._sums.items()}
        self._sums, self._steps, self.latest = {}, 0, math.nan
        return means

    def state_dict(self) -> dict[str, Any]:
        """Plain data from which the sums go on; looks first."""
        self.look()
        return {"sums": dict(self._sums), "steps": self._steps}

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> None:
        self._sums, self._steps = dict(state_dict["sums"]), state_dict["steps"]


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
