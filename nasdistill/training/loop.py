"""The state of a loop that goes on after a kill: its parts, each named once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from nasdistill.errors import UserError
from nasdistill.training.checkpoints import Checkpoints, load_optimizer, random_state, set_random_state
from nasdistill.training.losses import refuse_broken_weights


class Stateful(Protocol):
    """Whatever a checkpoint holds: modules, optimisers and averages of torch are parts as they are."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain data."""
        ...

    def load_state_dict(self, state_dict: Any, /) -> Any: ...


class Fields:
    """Attributes of an object as a part of a loop's state.

    Args:
        names: by default all attributes that the owner has now.
    """

    def __init__(self, owner: object, *names: str) -> None:
        self.owner = owner
        self.names = names or tuple(vars(owner))

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self.owner, name) for name in self.names}

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> None:
        for name in self.names:
            setattr(self.owner, name, state_dict[name])


class Resumable:
    """All that decides the rest of a loop: its parts, and torch's random generators.

    Args:
        parts: by the names under which checkpoints hold them; None is left out. Modules must stay finite.
    """

    def __init__(self, checkpoints: Checkpoints, **parts: Stateful | None) -> None:
        self.checkpoints = checkpoints
        self.parts = {name: part for name, part in parts.items() if part is not None}

    def resume(self) -> bool:
        """Go on from the last checkpoint, if there is one; says whether there is.

        Raises:
            UserError: it is not of this loop.
        """
        saved = self.checkpoints.load()
        if saved is None:
            return False
        try:
            if saved.keys() != {*self.parts, "random"}:
                raise KeyError(f"it holds {', '.join(saved)}, not {', '.join([*self.parts, 'random'])}")
            for name, part in self.parts.items():
                if isinstance(part, torch.optim.Optimizer):
                    load_optimizer(part, saved[name])
                else:
                    part.load_state_dict(saved[name])
            set_random_state(saved["random"])
        except (LookupError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            why = str(error.args[0] if error.args else error).splitlines()[0]
            raise UserError(
                f"the checkpoint {self.checkpoints.newest} is of another loop or another version ({why}); "
                "choose another folder, or move it elsewhere to start anew"
            ) from error
        return True

    def step(self, done: int, number: int | None = None) -> None:
        """Save if it is time to, or if a stop was asked for.

        Args:
            done: steps so far, as messages count them.
            number: of the checkpoint, which never goes back; where evaluations count too it exceeds `done`.

        Raises:
            Diverged: a module is not finite.
            Interrupted: a stop was asked for; the state is on disk, if there is a folder.
        """

        self.checkpoints.step(done if number is None else number, lambda: self._state(done))

    def save(self, done: int, number: int) -> None:
        """Save in any case, see `step`."""
        if self.checkpoints.writes:
            self.checkpoints.save(number, self._state(done))

    def _state(self, done: int) -> dict[str, Any]:
        state: dict[str, Any] = {}
        for name, part in self.parts.items():
            state[name] = part.state_dict()
            if isinstance(part, nn.Module):
                refuse_broken_weights(state[name], done)
        return {**state, "random": random_state()}


@dataclass
class Course:
    """How far a loop over epochs is.

    Attributes:
        epoch: epochs done.
        position: steps done in the present one.
        samples: images seen, of all processes.
        seconds: that this took, evaluations left out.
    """

    steps_per_epoch: int
    epoch: int = 0
    position: int = 0
    samples: int = 0
    seconds: float = 0.0

    @property
    def done(self) -> int:
        """Steps done."""
        return self.epoch * self.steps_per_epoch + self.position

    @property
    def number(self) -> int:
        """Of a checkpoint: an epoch's evaluation counts as a step, so that it grows at an epoch's edge too."""
        return self.done + self.epoch

    def end_epoch(self) -> None:
        self.epoch, self.position = self.epoch + 1, 0
