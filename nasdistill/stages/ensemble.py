"""Stage `ensemble`: several trained networks as one, and how they do alone and together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from nasdistill.artifacts import Artifact
from nasdistill.component import Facts
from nasdistill.errors import SpecError
from nasdistill.stages.base import STAGES, Context, Inputs, Outcome, Place, Reference, Specs, Stage, path_of
from nasdistill.stages.class_names import MatchesClasses
from nasdistill.stages.mistakes import write_confusion
from nasdistill.stages.networks import network_for_data, spec_for_data
from nasdistill.storage import sha256_of_json, write_json
from nasdistill.training.settings import Select

if TYPE_CHECKING:
    from nasdistill.data.base import Data
    from nasdistill.models.base import NetworkSpec

TWICE = "which would count one network as two"


@STAGES.register("ensemble")
class Ensemble(MatchesClasses, Stage):
    """Make one network of several trained ones: the average of their outputs.

    The result is a network like any other, to evaluate, export, or teach with. Each network runs once over the test
    images, in its own normalisation; the outputs give the scores of each alone and of the first two, three, ...
    together, and how often they agree. Nothing is trained and nothing is selected. Where the validation images are
    those of all members, the ensemble has a score on them too, of the kind that selected the members' weights.
    """

    source = (
        "Hinton, Vinyals, Dean 2015, Distilling the Knowledge in a Neural Network, section 3; Furlanello et al. 2018, "
        "Born-Again Neural Networks (arXiv:1805.04770), section 3.2"
    )
    makes: ClassVar[str] = "network"
    positional: ClassVar[tuple[str, ...]] = ("networks",)

    networks: Annotated[list[str], Reference("network", if_made=True)] = Field(
        min_length=1,
        description="the members: stages or artifacts' folders with trained networks for the same classes",
        examples=[["runs/first/stages/train", "runs/second/stages/train"]],
    )
    weights: list[Annotated[float, Field(gt=0)]] | None = Field(
        None, description="weights of the members, e.g. [2, 1]; equal if left out"
    )
    average: Literal["probabilities", "logits"] = Field("probabilities", description="what is averaged")
    beside: Annotated[list[str], Reference("network", if_made=True)] = Field(
        [],
        description="networks that are compared with the members and are no part of the ensemble, e.g. their teacher",
    )

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        if len(self.networks) == 1:
            for name in self.differs("weights", "average"):
                yield name, "there is one network"

    @model_validator(mode="after")
    def _each_once(self) -> Ensemble:
        if self.weights is not None and len(self.weights) != len(self.networks):
            problem = f"{len(self.weights)} weight(s) for {len(self.networks)} network(s)"
            raise SpecError(problem, ("weights",))
        seen: set[str] = set()
        for field, name, _weight in self._listed():
            if name in seen:
                raise SpecError(f"{name!r} stands here twice, {TWICE}", path_of(field))
            seen.add(name)
        return self

    def foresee(self, specs: Specs, context: Context) -> NetworkSpec | None:
        members = []
        for field, name, weight in self._listed():
            if field in specs:  # else it was left out
                spec = spec_for_data(field, name, specs, context, "trained", self.classes)
                if weight is not None:
                    members.append((spec, weight))
        known = [(spec, weight) for spec, weight in members if spec is not None]
        return self._written(known, context.data) if members and len(known) == len(members) else None

    def _written(self, members: Sequence[tuple[NetworkSpec, float]], data: Data) -> NetworkSpec:
        """The spec of the ensemble of networks with these weights."""
        from nasdistill.models.base import NetworkSpec
        from nasdistill.models.ensemble import EnsembleModel, Member

        parts = tuple(
            Member(model=spec.model, normalisation=spec.normalisation or data.normalisation, weight=weight)
            for spec, weight in members
        )
        images = parts[0].normalisation
        model = EnsembleModel(members=parts, average=self.average, normalisation=images)
        found = NetworkSpec.for_data(model, data)
        labels = next((spec.labels for spec, _weight in members if spec.labels), None)
        return found.model_copy(update={"labels": labels, "normalisation": images})

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        from nasdistill.data.loaders import batches_in_order
        from nasdistill.models.agreement import ENSEMBLE, Answers, compared, together
        from nasdistill.models.base import save_network
        from nasdistill.models.inspection import described
        from nasdistill.training.history import scores, validation_scores
        from nasdistill.training.metrics import logits_of, score

        data, engine = context.data, context.engine
        there = self._there(inputs)
        select = _selected_by([inputs[field] for field, _name, weight in there if weight is not None], context)
        answers, on_validation, members, modules = [], [], [], []
        for field, name, weight in there:
            spec, network = network_for_data(field, name, inputs, context, "trained", self.classes)
            own = spec.normalisation or data.normalisation
            placed = engine.place(network)
            batches = batches_in_order(data.test, own, engine)
            logits, truth = logits_of(placed, batches, engine, full_precision=True)
            answers.append(Answers(name, logits, weight))
            if select is not None and weight is not None:
                batches = batches_in_order(data.validation, own, engine)
                logits, validation_truth = logits_of(placed, batches, engine, full_precision=True)
                on_validation.append(Answers(name, logits, weight))
            if weight is not None:
                members.append((spec, weight))
                modules.append(network)

        written = self._written(members, data)
        network = engine.place(written.model.of(modules))
        save_network(context.folder, written, network)
        found = score(together(answers, self.average), truth)
        validation = {}
        if select is not None:
            curves = scores(score(together(on_validation, self.average), validation_truth), found)
            validation = {"validation": validation_scores(curves, select)}
        write_confusion(context.folder, data.classes, found)
        write_json(context.folder / ENSEMBLE, compared(answers, truth, self.average, found))
        return Outcome(
            {
                **found.without_epochs(),
                **validation,
                "images": len(truth),
                **described(network, data.shape, timed=True),
            }
        )

    def _listed(self) -> Iterator[tuple[Place, str, float | None]]:
        """Field, value and weight of each network: those beside the members first, then the members."""
        yield from ((("beside", number), name, None) for number, name in enumerate(self.beside))
        members = zip(self.networks, self.weights or [1.0] * len(self.networks), strict=True)
        yield from ((("networks", number), name, weight) for number, (name, weight) in enumerate(members))

    def _there(self, inputs: Inputs) -> list[tuple[Place, str, float | None]]:
        """Those of the listed networks that were made.

        Raises:
            SpecError: none of the members was, or two are one network under different names.
        """
        there = [(field, name, weight) for field, name, weight in self._listed() if field in inputs]
        if all(weight is None for _field, _name, weight in there):
            raise SpecError("none of the networks was made", ("networks",))
        seen: dict[str, str] = {}
        for field, name, _weight in there:
            other = seen.setdefault(inputs[field].content, name)
            if other != name:
                raise SpecError(f"{name!r} is the same network as {other!r}, {TWICE}", path_of(field))
        return there


def _selected_by(members: Sequence[Artifact], context: Context) -> Select | None:
    """The validation score that selected the weights of all members, where they had the validation images from here.

    Of a network from elsewhere, or of another seed, nobody knows whether it was trained on these.
    """
    here = (context.seed, sha256_of_json(dict(context.data_identity)))

    from nasdistill.training.history import SCORE_OF

    def of(member: Artifact) -> Select | None:
        manifest = member.manifest
        there = (manifest.seed, sha256_of_json(manifest.provenance.get("data")))
        select: Select | None = manifest.config.get("select")  # of a plug-in's stage it may be anything
        told = "score" in manifest.metrics.get("validation", {})
        return select if there == here and told and select in SCORE_OF else None

    found = {of(member) for member in members}
    return found.pop() if len(found) == 1 else None
