"""Stage `distill`: train a student on labels and on its teacher's outputs and attention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from nasdistill.artifacts import Artifact
from nasdistill.component import Facts, classes_in
from nasdistill.data.augmentations import mixing
from nasdistill.errors import SpecError
from nasdistill.registry import ComponentOf
from nasdistill.stages.base import STAGES, Context, Inputs, Outcome, Place, Reference, Specs, path_of
from nasdistill.stages.networks import network_for_data, spec_for_data
from nasdistill.stages.teaching import FreshOptions, FromAnyWeights, TaughtBy, TeachingOptions
from nasdistill.stages.training import (
    ShownOptions,
    TrainsOnLabels,
    batches_to_train_on,
    foreseen,
    train_task,
    training_data,
    validation_score,
    write_attention,
)
from nasdistill.training.settings import TrainingSettings
from nasdistill.versions import version

if TYPE_CHECKING:
    from torch import nn

    from nasdistill.data.base import Data, DataSet
    from nasdistill.data.loaders import ImageBatches
    from nasdistill.distill.cached_outputs import BatchesWithOutputs
    from nasdistill.distill.teacher import TeacherEnsemble
    from nasdistill.models.base import Network, NetworkSpec

UNLABELLED = "the images have no labels, so that every score tells how often the student answers as its teacher does"


class TaughtOptions(TeachingOptions, ShownOptions, TrainingSettings):
    """How a student is taught on images."""

    objectives: list[Annotated[Any, ComponentOf("objectives")]] = Field(
        ["kd"],
        min_length=1,
        validate_default=True,
        description="what the student minimises, e.g. [{name: kd, temperature: 4, weight: 0.9}, attention]",
    )
    views: int | None = Field(
        None,
        gt=0,
        description="how many epochs differ in order and augmentation; the one after them repeats the first; by "
        "default all differ",
    )
    cache_outputs: bool = Field(
        False,
        description="write the teachers' outputs on each view to cache/ of the run's folder, in half precision. "
        "Pays where a view is seen again: by later epochs (views under epochs), by other students, by a sweep over "
        "anything but the teachers, the seed, the data and the batch size. Costs 2 bytes for each image, view and "
        "class (10 classes, 30 views of 50000 images: 30 MB), and 2 for each value of the layers that objectives read "
        "(the three groups of a WRN-40-2: 5.7 GB for one view of them)",
    )

    @model_validator(mode="after")
    def _consistent(self) -> TaughtOptions:
        counting = [objective for objective in self._with_label_term() if objective.weight]
        if self.balance == "loss" and counting and not any(objective.weighs_images for objective in counting):
            names = ", ".join(objective.registered_name for objective in counting)
            problem = (
                f"none of the objectives that count ({names}) weighs images; take `sampling`, or list cross-entropy"
            )
            raise SpecError(problem, ("balance",))
        for number, objective in enumerate(self.objectives):
            if objective.warmup > self.epochs:
                problem = f"the warm-up of {objective.warmup:g} epochs exceeds `epochs: {self.epochs}`"
                raise SpecError(problem, ("objectives", number, "warmup"))
        return self

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        if self.views and self.views >= self.epochs:
            yield "views", f"all {self.epochs} epochs differ anyway"
        reads_labels = any(objective.registered_name == "cross-entropy" for objective in self._with_label_term())
        token_is_taught = any(objective.teaches_token and objective.weight for objective in self.objectives)
        if self.label_smoothing and not reads_labels and (token_is_taught or facts.auxiliary() is False):
            yield "label_smoothing", "the objectives leave no weight to the labels"
        if token_is_taught:
            for name in self.differs("auxiliary_weight"):
                yield name, "an objective teaches the token, which learns nothing from the labels then"

    def _with_label_term(self) -> list[Any]:
        from nasdistill.distill.objectives.cross_entropy import with_label_term

        return with_label_term(self.objectives, self.label_smoothing)


class Teaches(TaughtBy, TaughtOptions, TrainsOnLabels):
    """Base of the stages in which a student learns on images from a frozen teacher; the artifact holds it alone."""

    makes = "network"

    def learner(self, network: nn.Module, spec: NetworkSpec, context: Context) -> nn.Module:
        """What computes for the student while it learns, and is scored; by default the student itself."""
        return network

    def caveat(self) -> str | None:
        for objective in self.objectives:
            for option in objective.counts_epochs:
                if objective.weight and getattr(objective, option) > self.epochs:
                    lasting = f"{objective.registered_name}'s `{option}` of {getattr(objective, option):g} epochs"
                    return f"{lasting} is not over after the {self.epochs} that are trained"
        return None

    def check_data(self, dataset: DataSet) -> None:
        """Refuse objectives that read one class of each image where the training images have mixed ones.

        It learns from images without labels too.
        """
        mixed = mixing(dataset.augmentations) if self.augment else []
        for number, objective in enumerate(self.objectives):
            if mixed and objective.weight and objective.needs_classes:
                problem = (
                    f"{objective.registered_name} needs one class for each image, which the data's augmentation "
                    f"{mixed[0]!r} mixes; leave out one of the two, or set `augment: false`"
                )
                raise SpecError(problem, ("objectives", number))

    def _objectives_for(self, data: Data) -> list[Any]:
        """What the student minimises on these images; the labels have no part in it where there are none.

        Raises:
            SpecError: an option reads labels, and images have none.
        """
        from nasdistill.data.base import has_labels

        labelled = has_labels(data.train)
        if labelled and data.unlabelled is None:
            return self._with_label_term()
        for number, objective in enumerate(self.objectives):
            only_labels = objective.registered_name == "cross-entropy" and not labelled
            if objective.weight and (objective.needs_classes or objective.needs_labels or only_labels):
                problem = f"{objective.registered_name} needs a label for each image, and these images have none"
                raise SpecError(problem if not labelled else f"{problem} in part", ("objectives", number))
        for option in self.differs("balance", *(() if labelled else ("images_per_class",))):
            raise SpecError("images without labels are of no class that could be counted", (option,))
        return self._with_label_term() if labelled else self.objectives

    def foresee(self, specs: Specs, context: Context) -> NetworkSpec | None:
        from nasdistill.data.base import has_labels

        objectives = self._objectives_for(context.data)
        if not has_labels(context.data.train):
            context.caveats.append(UNLABELLED)
        spec = self.foresee_pair(
            objectives,
            lambda field, value: spec_for_data(
                *(field, value, specs, context),
                self.student_weights if field == "student" else "trained",
                self.classes,
            ),
        )
        return foreseen(self, spec, context)

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        from nasdistill.data.base import has_labels
        from nasdistill.data.loaders import evaluation_batches
        from nasdistill.distill.attention_maps import images_to_show
        from nasdistill.distill.task import Distillation
        from nasdistill.distill.unlabelled import with_answers

        objectives = self._objectives_for(context.data)
        data, engine = training_data(self, context), context.engine
        show = images_to_show(self.show, data.test.labels)

        # The teachers first, so that the student is drawn from the seed alone.
        teachers = self.load_teachers(
            lambda field, value: network_for_data(field, value, inputs, context, "trained", self.classes)
        )
        spec, student = network_for_data(
            "student", self.student, inputs, context, self.student_weights, self.classes, learns=True
        )
        task = Distillation(
            self.learner(student, spec, context),
            teachers,
            objectives,
            spec.shape,
            normalisation=data.normalisation,
            average=self.average,
            auxiliary_weight=self.auxiliary_weight,
            label_smoothing=self.label_smoothing,
        )
        engine.place(task)
        labelled = has_labels(data.train)
        if not labelled:
            data = with_answers(data, task.teacher_ensemble, engine)
            context = replace(context, shared=replace(context.shared, split=(context.seed, data)))
            show = images_to_show(self.show, data.test.labels)
        batches = batches_to_train_on(self, context, self.views, self.balance, unlabelled=True)
        taught = self._cached(batches, task.teacher_ensemble, inputs, context) if self.cache_outputs else batches
        task.prepare(evaluation_batches(data.train, data, engine), context.replicate_seed)
        outcome = train_task(task, spec, self, context, taught, student)
        student.requires_grad_(True)  # as it comes from the disk, whatever an objective froze
        outcome.metrics.update(write_attention(show, context, student, teachers, self.objectives))
        if not labelled:
            outcome.metrics["scored_by"] = "teacher"
        return outcome

    def _cached(
        self, batches: ImageBatches, teacher_ensemble: TeacherEnsemble, inputs: Inputs, context: Context
    ) -> BatchesWithOutputs:
        """The batches with the teachers' outputs, which any stage of the run may have cached."""
        from nasdistill.distill.cached_outputs import BatchesWithOutputs
        from nasdistill.models.base import load_spec

        engine = context.engine
        every: dict[Place, Artifact | Network] = {**inputs, **context.networks}
        teachers = [each for field, each in every.items() if path_of(field)[0] == "teacher"]
        specs = [load_spec(each.folder) if isinstance(each, Artifact) else each.spec for each in teachers]
        identity = {
            "teachers": [each.content for each in teachers],
            "classes": [context.data.classes, self.classes],
            "points": [sorted(teacher.points) for teacher in teacher_ensemble.teachers],
            "weights": self.teacher_weights,
            "average": self.average,
            "data": dict(context.data_identity),
            "normalisation": context.data.normalisation.model_dump(mode="json"),
            "augment": self.augment,
            "images": [self.images_per_class, batches.samples, self.balance == "sampling"],
            "batch_size": self.batch_size,
            "seed": [context.seed, context.replicate],
            "engine": [engine.device.type, engine.precision, str(engine.memory_format)],
            "code": version(classes_in([specs, context.dataset]), "nasdistill.distill.cached_outputs"),
        }
        cache = context.cache or context.scratch / "cache"
        return BatchesWithOutputs(batches, teacher_ensemble, engine, cache, identity, self.epochs)


class DistillOptions(FreshOptions, TaughtOptions):
    """Options of the stage beside student and teachers."""


@STAGES.register("distill")
class Distill(FromAnyWeights, DistillOptions, Teaches):
    """Train a student on the labels and on a frozen teacher; the artifact holds the student alone.

    Objectives are a weighted list. Where it holds no `cross-entropy`, the labels keep the weight 1 - (sum of the
    weights of the objectives that replace them, such as `kd`): `kd` of weight a trains on the published
    (1-a)*CE + a*T^2*KL, `attention` alone on CE + beta*AT, both on (1-a)*CE + a*T^2*KL + beta*AT. A listed
    `{name: cross-entropy, weight: ...}` takes precedence. The resulting sum is logged.
    """

    source = "Hinton, Vinyals, Dean 2015; Zagoruyko, Komodakis 2017"

    better_than: Annotated[list[str] | None, Reference("network", condition=True)] = Field(
        None,
        description="leave this stage out, and those that need it, unless the teacher (the last of several) scores "
        "better on the validation images than each of these networks, or with `select: loss` has a lower loss there; "
        "this ends a chain of generations",
    )

    def reason_to_leave_out(self, inputs: Inputs) -> str | None:
        last = self.teacher_fields[-1][0]
        for number, name in enumerate(self.better_than or ()):
            ours, theirs = (validation_score(inputs, field) for field in (last, ("better_than", number)))
            if self.select == "loss":
                if ours[1] <= theirs[1]:
                    losses = f"of {-ours[1]:.4g} on the validation images is not below {-theirs[1]:.4g} of {name!r}"
                    return f"{self.teachers[-1]!r} with a loss {losses}"
                continue
            if ours[2] != theirs[2]:
                problem = (
                    f"its score is the {theirs[2]}, that of {self.teachers[-1]!r} the {ours[2]}: give both one `select`"
                )
                raise SpecError(problem, ("better_than", number))
            if ours <= theirs:
                scores = f"{ours[0]:.2f} on the validation images is not better than {name!r} with {theirs[0]:.2f}"
                return f"{self.teachers[-1]!r} with {scores}"
        return None
