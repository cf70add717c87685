"""Attention transfer: the student looks where the teacher looks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from nasdistill.component import Facts
from nasdistill.data.base import Shape
from nasdistill.distill.objectives import OBJECTIVES, Objective, Outputs, Term

if TYPE_CHECKING:
    import torch
    from torch import nn

    from nasdistill.training.batches import Batch

Form = Literal["code", "paper"]


@OBJECTIVES.register("attention")
class Attention(Objective):
    """beta times the sum over pairs of layers of the distance between the networks' normalised attention maps."""

    source = "Zagoruyko, Komodakis, Paying More Attention to Attention (2017), equation 2, and its released code"

    beta: float = Field(
        1000.0,
        ge=0,
        description="factor of the sum over pairs; 1000 is published for the form 'code' on images of 32x32; as that "
        "form is a mean over space, images of HxW weigh the same with 1000*H*W/1024, e.g. 60 for 8x8",
    )
    form: Form = Field(
        "code", description="code: mean over batch and space of the squared difference; paper: its L2 norm"
    )
    power: float = Field(
        2.0,
        ge=1,
        description="p of |A|^p, whose mean over the channels is the attention; below 1 it has no gradient at 0, where "
        "rectifiers leave many values",
    )
    pairs: tuple[tuple[str, str], ...] = Field(
        (), description="pairs of module paths, [student's, teacher's]; by default the networks' feature points"
    )

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        if self.weight and not self.beta:
            yield "beta", "it is 0, so that nothing is learned from where the teacher looks"

    def bind(self, student: nn.Module, teacher: nn.Module, shape: Shape) -> Term:
        import torch

        from nasdistill.distill.attention import TeacherMap, attention_distance, attention_map
        from nasdistill.distill.maps import map_pairs, with_places

        pairs = with_places("attention", map_pairs("attention", self.pairs, student, teacher, shape))
        looked = [TeacherMap(self.power) for _pair in pairs]

        def loss(student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
            distances = [
                attention_distance(
                    attention_map(student.features[pair.ours], self.power),
                    look(teacher.features[pair.theirs]),
                    self.form,
                )
                for look, pair in zip(looked, pairs, strict=True)
            ]
            return self.beta * torch.stack(distances).sum()

        return Term(loss, tuple(pair.ours for pair in pairs), tuple(pair.theirs for pair in pairs))
