"""Stage `grow-teacher`: make a student's architecture into a larger one of the same kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from nasdistill.component import Facts
from nasdistill.errors import SpecError
from nasdistill.stages.base import STAGES, Context, Inputs, Like, Outcome, Reference, Specs, Stage
from nasdistill.stages.class_names import MatchesClasses
from nasdistill.stages.growing import GROWTH, GrowthOptions, measured_images
from nasdistill.stages.networks import network_for_data, spec_for_data
from nasdistill.storage import write_json

if TYPE_CHECKING:
    from nasdistill.growth.methods import GrowthMethod
    from nasdistill.models.base import NetworkSpec


class GrowOptions(MatchesClasses, GrowthOptions):
    """Options of the stage beside the student."""

    warm: bool = Field(
        False,
        description="hand over the student's weights, widened, and blocks that pass on what they read, so that the "
        "teacher begins with what its student computes; else the teacher is drawn anew",
    )
    new_channels: Literal["copies", "zero", "gradmax"] = Field(
        "copies",
        description="how the channels of a warm teacher begin that its student has not: as copies of others, or with "
        "zeros where they are read, and drawn or such that these zeros have large gradients (GradMax)",
    )

    def looks_at_images(self) -> bool:
        return super().looks_at_images() or (self.warm and self.new_channels == "gradmax")

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        for name in () if self.warm else self.differs("new_channels"):
            yield name, "without `warm: true` all of the teacher is drawn anew"


@STAGES.register("grow-teacher")
class GrowTeacher(GrowOptions, Stage):
    """Grow a student's architecture into its teacher's, to a given multiple of its size.

    `fisher` widens the units of channels that matter most to the loss (the cells of a DARTS network), `uniform` widens
    all alike, `depth` adds blocks, `compound` does both, `random` widens any, `fisher-groups` lets depthwise filters
    read more channels. All reach the same size, so that their teachers are comparable. The result is an architecture
    without weights, or a `warm` one with those of a trained student; train it to have a teacher.
    """

    source = "Fisher scores of Theis et al. 2018; widening of Chen et al. 2016, Net2Net, and Evci et al. 2022, GradMax"
    makes = "architecture"

    student: Annotated[str | dict[str, Any], Reference("architecture", or_model=True)] = Field(
        examples=["darts-v2-16-10"],
        description="the network to grow: a stage, an artifact's folder, or a model such as darts-v2-16-10; "
        "importance is measured on its trained weights, or on an initialisation",
    )

    def foresee(self, specs: Specs, context: Context) -> None:
        found = specs.get("student")
        if isinstance(found, Like):
            # What another network can grow to tells nothing of this one: the least growth is what it comes near anyhow.
            _check(self.method.model_copy(update={"ratio": 1 + self.method.tolerance}), found.spec)
        elif spec := spec_for_data("student", self.student, specs, context, classes=self.classes):
            self._check_warm(_check(self.method, spec))

    def _check_warm(self, spec: NetworkSpec) -> None:
        reason = self.method.reason_not_to_carry(spec) if self.warm else None
        if reason is not None:
            raise SpecError(reason, ("warm",))

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        from nasdistill.data.seeds import derived_seed, generator_for, seeded
        from nasdistill.growth.new_channels import widened
        from nasdistill.growth.plan import size, widths_of
        from nasdistill.growth.student import Student
        from nasdistill.models.base import Network, save_network

        spec, network = network_for_data("student", self.student, inputs, context, classes=self.classes)
        spec = _check(self.method, spec)
        self._check_warm(spec)
        data = context.data.normalised_for(spec.normalisation)
        images = measured_images(data, context, self.images, self.batch_size)
        student = Student(spec, network, images, context.engine, context.seed, context.checkpoints(), context.records)
        grown = self.method.grow(student)
        if self.warm:
            generator = generator_for(context.seed, "warm")
            with seeded(derived_seed(context.seed, "blocks"), context.engine.device):
                network.cpu()
                teacher = widened(student, grown.spec, self.new_channels, generator).cpu()
        else:
            teacher = grown.spec.build()
        save_network(context.folder, grown.spec, teacher if self.warm else None)
        before = widths_of(spec)
        after = widths_of(grown.spec) or before  # layers of other kinds have no units, and are as wide
        growth = {
            "steps": grown.steps,
            "importance": grown.importance,
            "units": list(after),
            "widths": {"before": list(before.values()), "after": list(after.values())},
        }
        write_json(context.folder / GROWTH, growth)
        return Outcome(
            {
                "parameters": size(grown.spec, "params"),
                "multiply_adds": size(grown.spec, "flops"),
                "ratio": self.method.target(spec).ratio_of(grown.spec),
            },
            Network(grown.spec, teacher, trained=self.warm),
        )


def _check(method: GrowthMethod, spec: NetworkSpec) -> NetworkSpec:
    """The spec with a model that can grow, where there is one; a method may grow others in its own way."""
    from nasdistill.growth.plan import with_units

    reason = method.reason_to_refuse(spec)
    if reason is not None:
        raise SpecError(reason, ("student",))
    return with_units(spec)
