"""Stage `born-again`: generations of students, each taught by the one before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from nasdistill.component import listed
from nasdistill.errors import SpecError
from nasdistill.registry import ComponentOf, build
from nasdistill.stages.base import STAGES, Reference, Stage
from nasdistill.stages.class_names import MatchesClasses
from nasdistill.stages.distill import Distill
from nasdistill.stages.ensemble import Ensemble
from nasdistill.stages.train import Train
from nasdistill.training.settings import TrainingSettings


@STAGES.register("born-again")
class BornAgain(MatchesClasses, TrainingSettings, Stage):
    """Train generations of students, each taught by the one before, and make an ensemble of them.

    It stands for stages that could be written by hand. Called `ban`: `ban-0` trains the teacher, where none is given;
    `ban-1` to `ban-N` are the generations, each with new weights, another order and other augmentation, and a network
    of its own; `ban` is the ensemble of the generations. A later run with more generations starts where this one ended.
    """

    source = "Furlanello et al., Born-Again Neural Networks (2018, arXiv:1805.04770)"
    makes = "network"
    command: ClassVar[str] = "ban"

    model: Annotated[
        list[str | dict[str, Any]] | None, BeforeValidator(listed), Reference("architecture", or_model=True)
    ] = Field(
        None,
        min_length=1,
        description="the model of every generation: a name such as wrn-28-1, a stage, or an artifact's folder; or one "
        "for each generation. The first one is also the teacher's, where none is given; if left out, all have the "
        "teacher's model",
        examples=["wrn-28-1"],
    )
    teacher: Annotated[str | None, Reference("network")] = Field(
        None,
        description="who teaches the first generation: a stage or an artifact's folder with a trained network; if left "
        "out, one is trained first, on the labels",
    )
    generations: int = Field(3, gt=0, le=1000, description="how many students, one after another")
    patience: Annotated[list[Annotated[int | None, Field(gt=0)]] | None, BeforeValidator(listed)] = Field(  # type: ignore[assignment]
        None,
        min_length=1,
        description="stop a network's training after this many evaluations of which none would be selected: one number "
        "for all, or a list, e.g. [8, 12]: of the teacher, where it is trained here, and of each generation; the last "
        "one is that of all further generations",
    )
    taught_by: Literal["previous", "all"] = Field(
        "previous", description="who teaches a generation: the one before it, or all before it together"
    )
    objectives: list[Annotated[Any, ComponentOf("objectives")]] = Field(
        ["ban"],
        min_length=1,
        validate_default=True,
        description="what each generation minimises: ban (the teacher's outputs alone), ban+label, cwtm, dkpp, "
        "{name: kd, weight: 1, temperature: 4}, logits-mse, or any others; with a weight under 1 the labels get the "
        "rest, e.g. {name: ban, weight: 0.7} for a ground-truth weight of 0.3",
    )
    while_better: bool = Field(
        False,
        description="go on only while a generation scores better on the validation images than all before it (a "
        "given teacher need not be beaten); the rest is left out",
    )
    ensemble: Literal["generations", "with-teacher"] = Field(
        "generations",
        description="who makes up the ensemble: the generations, with their teacher beside it, or all of them",
    )
    average: Literal["probabilities", "logits"] = Field(
        "probabilities", description="what the ensemble averages, and what is averaged over several teachers"
    )

    @model_validator(mode="after")
    def _someone_to_begin_with(self) -> BornAgain:
        if self.model is None and self.teacher is None:
            raise SpecError("give a model such as wrn-28-1, or a trained teacher to begin with", ("model",))
        if self.model is not None and len(self.model) not in (1, self.generations):
            problem = f"{len(self.model)} model(s) for {self.generations} generation(s); one model alone is for all"
            raise SpecError(problem, ("model",))
        trained = self.generations + (self.teacher is None)
        if self.patience is not None and len(self.patience) > trained:
            raise SpecError(f"{len(self.patience)} numbers for {trained} network(s) to train", ("patience",))
        return self

    def parts(self, name: str) -> Mapping[str, Stage]:
        shared = (*TrainingSettings.model_fields, *MatchesClasses.model_fields)
        settings = {option: getattr(self, option) for option in shared}
        patience = [None] if self.patience is None else self.patience
        patience += patience[-1:] * (1 + self.generations - len(patience))
        named = self.model or [self.teacher or ""]
        models = named * self.generations if len(named) == 1 else named
        parts: dict[str, Stage] = {}
        if self.teacher is None:
            own = {"model": models[0], "fresh": True, "patience": patience.pop(0)}
            parts[f"{name}-0"] = build(Train, {**settings, **own})
        made = [*parts]
        teachers = [self.teacher or f"{name}-0"]
        for number, (model, patient) in enumerate(zip(models, patience, strict=False), 1):
            options = {
                "student": model,
                "patience": patient,
                "fresh": True,
                "replicate": self.replicate + number,
                "teacher": [*teachers] if self.taught_by == "all" and number > 1 else teachers[-1],
                "average": self.average,
                "objectives": self.objectives,
                "better_than": made[:-1] if self.while_better and len(made) > 1 else None,
            }
            student = f"{name}-{number}"
            parts[student] = build(Distill, {**settings, **options})
            made.append(student)
            teachers.append(student)
        beside = 1 if self.ensemble == "generations" else 0
        parts[name] = Ensemble(
            networks=teachers[beside:], beside=teachers[:beside], average=self.average, classes=self.classes
        )
        return parts
