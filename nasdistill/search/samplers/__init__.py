"""Samplers: how the weights of a mixture's operations come from what is learned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from nasdistill.errors import SpecError, UserError, written_at
from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    import torch

    from nasdistill.search.mixture import Moment


class Sampler(Component):
    """Base of all samplers."""

    def weights(self, alphas: torch.Tensor, moment: Moment) -> torch.Tensor:
        """The operations' weights on each edge, [edges, operations], from alphas of that shape.

        What is drawn comes from torch's global generator, which stands at a function of seed and step. Where
        `moment.half` is empty nothing is drawn: these weights are what curves show and what is discretised.
        """
        raise NotImplementedError(type(self).__name__)

    def sparse(self) -> bool:
        """Whether operations whose drawn weight is exactly 0 are not computed, and get no gradient."""
        return False

    def checked(self, alphas: torch.Tensor, moment: Moment) -> torch.Tensor:
        """`weights`, which are finite where alphas are.

        Raises:
            UserError: they are not, or have another shape.
        """
        weights = self.weights(alphas, moment)
        if weights.shape != alphas.shape:
            raise self._mistake(f"of the shape {list(weights.shape)} for alphas of {list(alphas.shape)}")
        # Reading a number from an accelerator waits for it, so that steps go unread there.
        readable = weights.device.type == "cpu" or not moment.half
        if readable and bool(alphas.isfinite().all()) and not bool(weights.isfinite().all()):
            raise self._mistake("that are not finite")
        return weights

    def _mistake(self, what: str) -> UserError:
        who = f"{self.registered_name!r} ({type(self).__name__}, {written_at(type(self))})"
        return UserError(f"the sampler {who} gave weights {what}")


class Annealed(Component):
    """A temperature that falls linearly with the epochs."""

    temperature: float = Field(1.0, gt=0, description="temperature of the softmax in the first epoch")
    temperature_end: float = Field(0.33, gt=0, description="what it falls towards, by the same amount each epoch")

    @model_validator(mode="after")
    def _temperature_falls(self) -> Annealed:
        if self.temperature_end > self.temperature:
            problem = f"the temperature falls from {self.temperature}, got {self.temperature_end}"
            raise SpecError(problem, ("temperature_end",))
        return self

    def temperature_at(self, progress: float) -> float:
        """After a share of the epochs, 0 to 1."""
        return self.temperature + (self.temperature_end - self.temperature) * progress


SAMPLERS: Registry[Sampler] = Registry("samplers", Sampler, "nasdistill.search.samplers")
