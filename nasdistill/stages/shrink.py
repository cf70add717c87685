"""Stage `shrink`: take the channels out of a trained network that matter least."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from nasdistill.component import Facts
from nasdistill.errors import SpecError, found_at
from nasdistill.growth.budget import Budget, usage_like
from nasdistill.registry import ComponentOf
from nasdistill.stages.base import STAGES, Context, Inputs, Like, Outcome, Reference, Specs, Stage
from nasdistill.stages.class_names import MatchesClasses
from nasdistill.stages.growing import images_without_effect, measured_images
from nasdistill.stages.mistakes import write_confusion, write_mistakes
from nasdistill.stages.networks import network_for_data, spec_for_data, warn_of_other_split
from nasdistill.storage import write_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from nasdistill.models.base import NetworkSpec

log = logging.getLogger(__name__)

SHRINKING = "shrinking.json"


class ShrinkOptions(MatchesClasses):
    """Options of the stage beside the network."""

    method: Annotated[Any, ComponentOf("criteria")] = Field(
        "fisher", validate_default=True, description="what leaves first, e.g. l1 or {name: fisher, per: channel}"
    )
    ratio: float = Field(0.5, gt=0, lt=1, description="size of the result over the size of the network")
    measure: Literal["params", "flops"] = Field("params", description="what size means: parameters or multiply-adds")
    budget: Budget | None = Field(
        None, description="in place of a ratio, what the result may cost: 300k parameters, or {multiply_adds: 20M}"
    )
    widths: Literal["ranked", "alike"] = Field(
        "ranked",
        description="ranked: the channels leave that matter least in the whole network; alike: each group loses the "
        "same share of its channels, those that matter least in it",
    )
    least: float = Field(0.1, gt=0, lt=1, description="share of its channels that each group keeps at least")
    rounds: int = Field(
        1, gt=0, description="in how many rounds channels leave, by the same factor each; each round scores anew"
    )
    statistics: Literal["estimated", "kept"] = Field(
        "estimated",
        description="of batch norms: new ones of the scored images after each round, or those of the network",
    )
    images: int = Field(1024, gt=0, description="training images that importance is measured on, sampled with the seed")
    batch_size: int = Field(
        128, gt=0, description="images scored at a time; only statistics of batch norms that are estimated depend on it"
    )

    @model_validator(mode="after")
    def _size_is_given_once(self) -> ShrinkOptions:
        if self.budget is None:
            return self
        for name in self.differs("ratio", "measure"):
            raise SpecError("a budget takes the place of a ratio; give one of the two", (name,))
        if self.budget.latency_ms is not None:
            others = ", ".join(name for name in Budget.model_fields if name != "latency_ms")
            raise SpecError(f"it must be counted while channels leave: limit {others}", ("budget", "latency_ms"))
        return self

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        if self.widths == "alike":
            for name in self.method.differs("per"):
                yield f"method.{name}", "with `widths: alike` channels of different groups are not compared"
        if not self.method.measures and self.statistics == "kept":
            for name in self.differs("images", "batch_size"):
                yield name, f"{self.method.registered_name!r} measures no importance"
        else:
            yield from images_without_effect(self, self.images, facts)


@STAGES.register("shrink")
class Shrink(ShrinkOptions, Stage):
    """Take the channels out of a trained network that matter least; all others keep their weights.

    Channels that the network ties to each other leave together. `fisher` takes those on which the loss depends least,
    `l1` those of the smallest filters, `random` any. The result is a trained network, which `distill` teaches on.
    """

    source: ClassVar[str] = "Fisher pruning, Theis et al. 2018; groups of channels as in Fang et al. 2023, DepGraph"
    makes: ClassVar[str] = "network"
    positional: ClassVar[tuple[str, ...]] = ("network",)

    network: Annotated[str, Reference("network")] = Field(
        description="what is shrunk: a stage or an artifact's folder with a trained network"
    )

    def is_scored(self) -> bool:
        return True

    def foresee(self, specs: Specs, context: Context) -> Like | None:
        found = specs.get("network")
        if isinstance(found, Like):
            return found
        spec = spec_for_data("network", self.network, specs, context, "trained", self.classes)
        return None if spec is None else Like(self._with_groups(spec))

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        from nasdistill.data.loaders import evaluation_batches
        from nasdistill.growth.plan import size
        from nasdistill.growth.shrinking import UNUSED, shrink
        from nasdistill.growth.student import Student
        from nasdistill.models.base import Network, save_network
        from nasdistill.models.inspection import described
        from nasdistill.training.metrics import evaluate, logits_of, score

        spec, network = network_for_data("network", self.network, inputs, context, "trained", self.classes)
        warn_of_other_split("network", self.network, inputs, context)
        spec = self._with_groups(spec)
        data, engine = context.data.normalised_for(spec.normalisation), context.engine
        batches = measured_images(data, context, self.images, self.batch_size)
        shrunk = shrink(
            Student(spec, network, batches, engine, context.seed, context.checkpoints(), context.records),
            self.method,
            self._usage(spec),
            least=self.least,
            rounds=self.rounds,
            alike=self.widths == "alike",
            estimate=self.statistics == "estimated",
        )
        self._check(spec, shrunk.spec, "without all channels that can leave")
        if self.budget is None and (share := self._usage(spec)(shrunk.spec)) < 1 - UNUSED:
            smaller = "the network is %.3f of its size: single channels weigh too much for it to come closer to %g"
            log.warning(smaller, share * self.ratio, self.ratio)
        found = engine.place(shrunk.network)
        validation = evaluate(found, evaluation_batches(data.validation, data, engine), engine)
        logits, truth = logits_of(found, evaluation_batches(data.test, data, engine), engine)
        scored = score(logits, truth)
        save_network(context.folder, shrunk.spec, found)
        write_json(context.folder / SHRINKING, shrunk.told())
        write_confusion(context.folder, data.classes, scored)
        write_mistakes(context.folder, data.test, data, engine, logits)
        return Outcome(
            {
                **scored.without_epochs(),
                "validation": {"score": validation.accuracy, "loss": validation.loss},
                "ratio": size(shrunk.spec, self.measure) / size(spec, self.measure),
                **described(found, spec.reads, timed=True),
            },
            Network(shrunk.spec, found),
        )

    def _usage(self, spec: NetworkSpec) -> Callable[[NetworkSpec], float]:
        """What networks cost, as a share of what one shrunk from `spec` may."""
        from nasdistill.growth.plan import size

        if self.budget is not None:
            usage = usage_like(self.budget, spec, exported=True)
            return lambda each: max(usage(each).values())
        most = self.ratio * size(spec, self.measure)
        return lambda each: size(each, self.measure) / most

    def _with_groups(self, spec: NetworkSpec) -> NetworkSpec:
        """The spec with its groups of channels as units.

        Raises:
            SpecError: there are none, or the smallest network that they allow costs too much.
        """
        from nasdistill.growth.plan import with_model
        from nasdistill.growth.shrinking import narrowest, with_groups

        with found_at("network"):
            spec = with_groups(spec)
        smallest = with_model(spec, spec.model.with_widths(narrowest(spec, self.least)))
        self._check(spec, smallest, f"with {self.least:.0%} of the channels of each group left (`least`)")
        return spec

    def _check(self, spec: NetworkSpec, found: NetworkSpec, how: str) -> None:
        """Refuse a network that costs more than it may.

        Raises:
            SpecError: at `ratio` or `budget`.
        """
        share = self._usage(spec)(found)
        if share > 1:
            wanted = "ratio" if self.budget is None else "budget"
            raise SpecError(f"{how} the network is {share:.3g} times as large as the {wanted} allows", (wanted,))
