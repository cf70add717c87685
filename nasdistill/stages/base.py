"""What a stage is: a typed config whose fields may refer to earlier artifacts, and `run`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Union

from nasdistill.artifacts import Artifact
from nasdistill.errors import SpecError, UserError
from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    from nasdistill.data.base import Data, DataSet, RawData
    from nasdistill.models.base import Network, NetworkSpec
    from nasdistill.training.checkpoints import Checkpoints
    from nasdistill.training.engine import Engine, EngineSettings
    from nasdistill.training.records import Records


@dataclass(frozen=True)
class Like:
    """Of a network that is yet to be found: the spec of another one of the same model."""

    spec: NetworkSpec


Foreseen = Union["NetworkSpec", Like, None]
"""What is known of the network that a stage will write; None where there is none, or where only the run will know."""
Place = str | tuple[str, int]
"""A field of a stage's config that names a stage or an artifact, or an item of one: `student`, `("teacher", 0)`."""
Inputs = Mapping[Place, Artifact]
"""What a stage reads."""
Specs = Mapping[Place, Foreseen]
"""What is known of the networks that a stage reads."""


@dataclass(frozen=True)
class Reference:
    """Annotation of a config field that reads an artifact: `student: Annotated[str, Reference("architecture")]`.

    The value is the name of an earlier stage, the folder of an artifact, or, where `or_model` is set, a model's name
    or shorthand such as `wrn-16-1`. A field that takes several has a list of such values.

    Attributes:
        condition: what is read decides whether the stage runs, not what it makes, so that it is no part of its key.
        if_made: the stage can do without those of a list that were left out, and without all where the list may be
            empty; otherwise it is left out as well.
    """

    kind: str
    or_model: bool = False
    condition: bool = False
    if_made: bool = False


@dataclass
class Outcome:
    """What a stage hands back; its payload lies in `Context.folder`.

    Attributes:
        metrics: plain data; `accuracy` (`last`, `best`, `selected`, in percent), `parameters`, `multiply_adds`,
            `samples_per_second`, `evaluation_share` and `latency_ms` where they make sense.
        network: the one in the payload, where there is one, for a caller who wants it in memory.
    """

    metrics: dict[str, Any] = field(default_factory=dict)
    network: Network | None = None


@dataclass
class Shared:
    """What the stages of one run need only once.

    Attributes:
        images: all of the data set's, before any split.
        split: the seed that was asked for last, and its data; of the others nothing stays in memory.
    """

    images: RawData | None = None
    split: tuple[int, Data] | None = None
    engine: Engine | None = None

    def kept(self, data: bool, engine: bool) -> Shared:
        """What a run can go on with that has the same data, or the same engine."""
        if data and engine:
            return self
        return Shared(*((self.images, self.split) if data else (None, None)), self.engine if engine else None)


@dataclass
class Context:
    """What surrounds a running stage.

    Attributes:
        stage: the stage's name in the recipe.
        folder: where the payload goes; it becomes the artifact when `run` returns.
        scratch: survives kills until the artifact is published; checkpoints live here.
        seed: of this run, which decides the split and which images are taken.
        replicate: another number means other randomness at the same seed and split.
        cache: for what is costly to compute and serves several stages; see `nasdistill.distill.cached_outputs`.
        data_identity: the data set's options and the fingerprint of its bytes, which decide what it holds.
        networks: those that are given in memory, in place of `inputs`.
        records: of what is told while it runs.
        caveats: what a plan warns of, a sentence each; `Stage.foresee` adds to them.
    """

    stage: str
    folder: Path
    scratch: Path
    records: Records
    seed: int
    dataset: DataSet
    engine_settings: EngineSettings
    replicate: int = 0
    checkpoint_seconds: float = 30.0
    cache: Path | None = None
    data_identity: Mapping[str, Any] = field(default_factory=dict)
    shared: Shared = field(default_factory=Shared)
    networks: Mapping[Place, Network] = field(default_factory=dict)
    caveats: list[str] = field(default_factory=list)

    @property
    def replicate_seed(self) -> int:
        """Decides initial weights, the order of images, their augmentation, and dropout."""
        from nasdistill.data.seeds import derived_seed

        return derived_seed(self.seed, "replicate", self.replicate) if self.replicate else self.seed

    @property
    def source(self) -> RawData:
        """All images as the files hold them, before any split."""
        if self.shared.images is None:
            self.shared.images = self.dataset.read()  # once for all seeds: only the split differs
        return self.shared.images

    @property
    def data(self) -> Data:
        if self.shared.split is None or self.shared.split[0] != self.seed:
            from nasdistill.data.preparation import prepare

            source = self.source
            self.shared.split = None
            try:
                self.shared.split = self.seed, prepare(source, self.dataset, self.seed)
            except SpecError as error:  # its path leads through the data set's options, not the stage's
                raise UserError(f"data.{'.'.join(map(str, error.path))}: {error.problem}") from None
        return self.shared.split[1]

    @property
    def engine(self) -> Engine:
        from nasdistill.training.engine import Engine

        if self.shared.engine is None:
            self.shared.engine = Engine(self.engine_settings)
        return self.shared.engine

    def checkpoints(self, name: str = "checkpoints", begin: dict[str, Any] | None = None) -> Checkpoints:
        from nasdistill.training.checkpoints import Checkpoints

        return Checkpoints(self.scratch / name, self.checkpoint_seconds, begin)


class Stage(Component):
    """Base of all stages."""

    makes: ClassVar[str]
    """The kind of artifact that `run` writes."""
    reads_data: ClassVar[bool] = True
    """Whether the data set decides what `run` writes."""
    positional: ClassVar[tuple[str, ...]] = ()
    """Fields that read networks and are words without flags on the command line, in this order."""
    default_data: ClassVar[str] = "digits"
    """The data set of the stage's command, where none is named."""
    command: ClassVar[str] = ""
    """The stage's command, where it is not the name that the stage is registered with."""

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        """Write the payload into `context.folder`."""
        raise NotImplementedError(type(self).__name__)

    def is_scored(self) -> bool:
        """Whether its metrics tell `validation`, the `score` and the `loss` of its network on the validation images."""
        return False

    def score_curve(self) -> str | None:
        """The curve in which that score is told while it trains; None where nothing is told before it ends."""
        return None

    def replicate_number(self) -> int:
        """Which replicate it asks for, see `Context.replicate`."""
        return 0

    def check_data(self, dataset: DataSet) -> None:
        """Called before anything runs, with the data set's options alone.

        Raises:
            SpecError: at a field of this stage that does not go with them, or at none: it learns from labels alone.
        """
        if self.reads_data and not dataset.has_labels:
            raise SpecError(
                f"the stage {self.registered_name!r} needs labels, which images of {dataset.registered_name!r} have "
                "not; `distill` learns from what a teacher says of them"
            )

    def parts(self, name: str) -> Mapping[str, Stage]:
        """The stages that this one stands for, by name: itself, unless it is made of others, and then needs no `run`.

        The last of them has the stage's own name, and is what others read under it.

        Args:
            name: of this stage in its recipe.

        Raises:
            SpecError: at a field of this stage.
        """
        return {name: self}

    def foresee(self, specs: Specs, context: Context) -> Foreseen:
        """Refuse what cannot work, before any stage runs, and tell what is known of the network that `run` will write.

        Called for a stage that is not done and will not be left out. It may read the data set, and writes nothing.

        Raises:
            SpecError: at a field of this stage.
        """
        return None

    def reason_to_leave_out(self, inputs: Inputs) -> str | None:
        """Why there is nothing to do, now that all of what is read is there, or None.

        Raises:
            SpecError: that cannot be told.
        """
        return None


STAGES: Registry[Stage] = Registry("stages", Stage, "nasdistill.stages")


def references(stage: type[Stage]) -> dict[str, Reference]:
    """The fields of a stage's config that read artifacts."""
    return {
        name: reference
        for name, info in stage.model_fields.items()
        for reference in info.metadata
        if isinstance(reference, Reference)
    }


def references_in(stage: Stage) -> Iterator[tuple[Place, Reference, Any]]:
    """What a stage's config refers to: (place, reference, value)."""
    for name, reference in references(type(stage)).items():
        value = getattr(stage, name)
        if isinstance(value, list | tuple):
            yield from (((name, number), reference, item) for number, item in enumerate(value))
        elif value is not None:
            yield name, reference, value


def path_of(place: Place) -> tuple[str | int, ...]:
    """The path of an error there."""
    return (place,) if isinstance(place, str) else place


def in_words(place: Place) -> str:
    """As people and artifacts write it: `student`, `teacher.0`."""
    return ".".join(map(str, path_of(place)))
