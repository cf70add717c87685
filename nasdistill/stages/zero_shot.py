"""Stage `zero-shot`: teach a student without data, on what a generator makes up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, model_validator

from nasdistill.component import Facts
from nasdistill.errors import SpecError, UserError, found_at
from nasdistill.registry import ComponentOf
from nasdistill.stages.base import STAGES, Context, Inputs, Outcome, Place, Specs, Stage, path_of
from nasdistill.stages.class_names import Labels
from nasdistill.stages.mistakes import write_confusion
from nasdistill.stages.networks import (
    Weights,
    images_in_words,
    matched_network,
    matched_spec,
    network_for,
    spec_for,
    untrained,
)
from nasdistill.stages.teaching import FreshOptions, FromAnyWeights, TeachingOptions
from nasdistill.stages.training import HISTORY
from nasdistill.storage import write_json
from nasdistill.zero_shot.settings import TransferSettings

if TYPE_CHECKING:
    from torch import nn

    from nasdistill.data.loaders import ImageBatches
    from nasdistill.models.base import NetworkSpec

PSEUDO = "pseudo.json"


class ZeroShotOptions(FreshOptions, TeachingOptions, TransferSettings):
    """Options of the stage beside student and teachers."""

    generator: Annotated[Any, ComponentOf("generators")] = Field(
        "convolutional", validate_default=True, description="what makes pseudo-images out of noise"
    )
    generator_losses: list[Annotated[Any, ComponentOf("generator-losses")]] = Field(
        ["adversarial"],
        validate_default=True,
        description="what the generator minimises, e.g. [{name: adversarial, divergence: l1}]",
    )
    objectives: list[Annotated[Any, ComponentOf("objectives")]] = Field(
        [{"name": "divergence", "divergence": "kl"}, {"name": "attention", "beta": 250}],
        validate_default=True,
        description="what the student minimises on pseudo-images; labels, where read, are the teacher's likeliest "
        "classes. An attention of 250 is published beside a KL that is a mean over images and classes; beside one that "
        "is a mean over images, {name: kl, reduction: batchmean}, the same is 250 times the classes",
    )

    @model_validator(mode="after")
    def _something_to_learn(self) -> ZeroShotOptions:
        for name in ("generator_losses", "objectives"):
            if not any(part.weight for part in getattr(self, name)):
                raise SpecError("at least one must have a weight over 0", (name,))
        if self.adapt != "none" and self.generator.starts_over:
            name = self.generator.registered_name
            raise SpecError(f"{name!r} starts over for each pseudo-batch, and has no common weights", ("adapt",))
        for number, objective in enumerate(self.objectives):
            if objective.needs_training_set:
                problem = f"{objective.registered_name!r} looks at all training images, and here are none"
                raise SpecError(problem, ("objectives", number))
            for option in objective.counts_epochs:
                if getattr(objective, option):
                    problem = f"`{option}` counts epochs, and here are none; 0 does without"
                    raise SpecError(problem, ("objectives", number, option))
        return self

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        if self.generator.starts_over:
            for name in self.differs("start_over_every"):
                yield name, f"{self.generator.registered_name!r} starts over for each pseudo-batch anyway"


@STAGES.register("zero-shot")
class ZeroShot(FromAnyWeights, ZeroShotOptions, Stage):
    """Teach a student what a trained network knows, where its data are gone.

    A generator makes images on which student and teacher disagree; the student learns the teacher's outputs on them and
    sees no others. Of a data set, only the test images are used, for the accuracy along the way; they select nothing.
    The last weights are kept.
    """

    source = "Micaelli, Storkey 2019, Zero-shot Knowledge Transfer via Adversarial Belief Matching (arXiv:1905.09768)"
    makes = "network"
    default_data: ClassVar[str] = "none"

    def caveat(self) -> str | None:
        generator = self.generator.registered_name
        asking = [each.registered_name for each in self.generator_losses if each.weight and each.asks_classes]
        if self.generator.told_classes and not asking:
            return f"the generator {generator!r} is told classes, and no loss asks for them; `class-prior` does"
        for_one_batch = self.generator.starts_over or self.start_over_every or self.adapt != "none" or self.latent_speed
        if asking and not (self.generator.told_classes or for_one_batch):
            return (
                f"the generator {generator!r} is not told the classes that {asking[0]!r} asks for, and learns over all "
                "pseudo-batches: unless it takes many steps on each, that loss only makes the teacher unsure; "
                "`conditional` is told them, and `information-entropy` asks for all classes alike"
            )
        return None

    def foresee(self, specs: Specs, context: Context) -> NetworkSpec | None:
        from nasdistill.distill.teacher import Teacher
        from nasdistill.models.foresight import tentatively
        from nasdistill.zero_shot.foresight import check_generation

        field, name = self.teacher_fields[0]
        first = spec_for(field, name, specs, context)
        if first is None:
            return None
        self._check_test_images(first, context)
        found: dict[Place, NetworkSpec] = {}

        def of_one_kind(field: Place, value: str | dict[str, Any]) -> NetworkSpec | None:
            spec = spec_for(field, value, specs, context, first)
            if spec is None:
                return None
            _check_alike(field, value, spec, first)
            if field == "student" and self.fresh:
                spec = untrained(spec)
            names = self._names([*found.values(), spec], context)
            found[field] = matched_spec(field, value, spec, names, context, self.classes)
            return found[field]

        spec = self.foresee_pair(self.objectives, of_one_kind)
        with tentatively():
            teachers = [found.get(place, first).build() for place, _ in self.teacher_fields]
            if spec is not None:
                self._share(first, spec.build(), teachers)
            if all(place in found for place, _ in self.teacher_fields):
                check_generation(
                    *(self.generator, self.generator_losses, self, [Teacher(each) for each in teachers]),
                    *(first.shape, first.classes, found[field].labels, first.normalisation),
                )
        return spec and _taught_by(found[field], spec)

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        import torch

        from nasdistill.distill.learned import Preview
        from nasdistill.distill.task import Distillation
        from nasdistill.models.base import Network, save_network
        from nasdistill.models.inspection import described as description
        from nasdistill.training.metrics import evaluate
        from nasdistill.zero_shot.collapse import AGREEMENT
        from nasdistill.zero_shot.generation import Generation
        from nasdistill.zero_shot.pictures import described
        from nasdistill.zero_shot.transfer import TEST, transfer

        engine = context.engine
        specs: list[NetworkSpec] = []

        def of_one_kind(field: Place, value: Any, weights: Weights = "trained") -> tuple[NetworkSpec, nn.Module]:
            """As `network_for`, checked to read the same images as the first teacher, with the classes in one order."""
            spec, network = network_for(field, value, inputs, context, weights, specs[0] if specs else None)
            if specs:
                _check_alike(field, value, spec, specs[0])
            else:
                self._check_test_images(spec, context)
            names = self._names([*specs, spec], context)
            spec, network = matched_network(field, value, spec, network, names, self.classes)
            specs.append(spec)
            return spec, network

        # The teachers first, so that the student is drawn from the seed alone.
        teachers = self.load_teachers(of_one_kind)
        first = specs[0]
        spec, student = of_one_kind("student", self.student, self.student_weights)
        self._share(first, student, [teacher.network for teacher in teachers])
        task = Distillation(
            student, teachers, self.objectives, first.shape, normalisation=first.normalisation, average=self.average
        )
        engine.place(task)
        for _name, loss in task.learned_losses():
            loss.prepare(Preview(torch.empty(0, dtype=torch.int64), lambda: iter(()), context.seed))
        torch.manual_seed(context.seed)  # the generator and dropout must not depend on what this process did before
        generation = Generation(
            self.generator,
            -(-self.batch_size // engine.processes),
            student,
            teachers,
            self.generator_losses,
            first.shape,
            first.classes,
            labels=first.labels,
            normalisation=first.normalisation,
            average=self.average,
            augmentations=self.augmentations,
            latent_speed=self.latent_speed,
            best_images=self.images == "best",
        )
        test = self._test_images(first, context)
        course = transfer(task, generation, self, engine, context.seed, test, context.checkpoints(), context.records)
        network = task.network
        network.requires_grad_(True)  # as it comes from the disk, whatever an objective froze
        labels = first.labels or tuple(map(str, range(first.classes)))
        scored = {}
        if test is not None:
            accuracies = [value for _done, value in course.curves[TEST]]
            score = evaluate(network, test, engine)
            scored = {"accuracy": {"last": accuracies[-1], "best": max(accuracies)}, **score.plain()}
            scored["over_time"] = course.over_time
            if len(teachers) == 1:
                scored["taught_by_accuracy"] = evaluate(teachers[0].network, test, engine).accuracy
            write_confusion(context.folder, labels, score)
        written = _taught_by(first, spec)
        save_network(context.folder, written, network)
        write_json(context.folder / HISTORY, {"x": "pseudo-batches", "curves": course.curves})
        write_json(context.folder / PSEUDO, described(course.pictures, labels))
        return Outcome(
            {
                **scored,
                "agreement": course.curves[AGREEMENT][-1][1],
                "pseudo_batches": course.done,
                "collapses": course.collapses,
                **({} if course.stopped is None else {"stopped": course.stopped}),
                **description(network, spec.reads, timed=True),
                "samples_per_second": course.learned / course.seconds,
            },
            Network(written, network),
        )

    def _share(self, first: NetworkSpec, student: nn.Module, teachers: Sequence[nn.Module]) -> None:
        """Give the student what the generator needs it to have of its teachers, see `Generator.share`."""
        with found_at("generator"):
            if first.vocabulary is not None and not self.generator.makes_embeddings:
                name = self.generator.registered_name
                raise UserError(
                    f"{name!r} makes images, and the teacher reads texts; the generator `embeddings` is theirs"
                )
            self.generator.share(student, teachers)

    def _test_images(self, spec: NetworkSpec, context: Context) -> ImageBatches | None:
        """The data set's test images as the first teacher reads them, where there is a data set."""
        from nasdistill.data.loaders import batches_in_order
        from nasdistill.data.words import read_with

        if spec.normalisation is None or not context.dataset.has_images:
            return None
        source = context.source
        test = source.test
        if source.words is not None and spec.vocabulary is not None:
            test, _words = read_with(test, source.words, spec.vocabulary)
        return batches_in_order(test, spec.normalisation, context.engine)

    def _names(self, specs: Sequence[NetworkSpec], context: Context) -> Labels | None:
        """Those of the classes that all networks share: the data set's, or else those that the first of them knows."""
        if context.dataset.has_images:
            return context.source.classes
        return next((spec.labels for spec in specs if spec.labels), None)

    def _check_test_images(self, spec: NetworkSpec, context: Context) -> None:
        if not context.dataset.has_images:
            return
        source = context.source
        found = images_in_words(source.test.shape, len(source.classes))
        wanted = images_in_words(spec.shape, spec.classes)
        if found != wanted:
            raise UserError(f"the data set has {found}, the teacher reads {wanted}; without test images: `data: none`")
        if spec.normalisation is None:
            raise UserError(
                "nobody knows what the teacher's images were normalised with, so that test images cannot be scored; "
                "import it with its normalisation, or leave the data set out with `data: none`"
            )


def _taught_by(first: NetworkSpec, student: NetworkSpec) -> NetworkSpec:
    """The student's spec, which reads images and names classes as the first teacher does."""
    return student.model_copy(update={"normalisation": first.normalisation, "labels": first.labels})


def _check_alike(field: Place, value: object, spec: NetworkSpec, first: NetworkSpec) -> None:
    """Refuse a network that reads other images, or knows another number of classes, than the first teacher."""
    ours, theirs = (images_in_words(each.shape, each.classes) for each in (spec, first))
    if ours != theirs:
        raise SpecError(f"{value!r} reads {ours}, the first teacher {theirs}", path_of(field))
