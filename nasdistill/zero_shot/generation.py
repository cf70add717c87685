"""What the generator minimises, as one module: pseudo-images, the networks that judge them, and the weighted losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from nasdistill.data.augmentations import Augmentation
from nasdistill.data.base import Normalisation, Shape
from nasdistill.data.seeds import derived_seed, generator_for
from nasdistill.distill.objectives import Outputs
from nasdistill.distill.teacher import Teacher, TeacherEnsemble, bindings
from nasdistill.errors import SpecError, UserError, found_at
from nasdistill.models.ensemble import Average
from nasdistill.models.renormalisation import renormalisation
from nasdistill.training.losses import checked_loss
from nasdistill.zero_shot.generator_losses import GeneratorLoss, GeneratorTerm, Pseudo, Remembering
from nasdistill.zero_shot.generators import Generator
from nasdistill.zero_shot.of_one_batch import LearnedLatents


class BoundLoss(NamedTuple):
    """A loss of the sum, its term, and which of the teachers' outputs that reads, see `bindings`."""

    loss: GeneratorLoss
    term: GeneratorTerm
    place: int
    weight: float


def bound_losses(losses: Sequence[GeneratorLoss], teachers: Sequence[Teacher], shape: Shape) -> list[BoundLoss]:
    """The losses bound to the teachers, those of weight 0 left out; weights are multiplied by the teachers' shares.

    Raises:
        SpecError: a loss does not apply to a teacher.
    """
    total = sum(teacher.weight for teacher in teachers)
    counting = [loss for loss in losses if loss.weight]
    with found_at("generator_losses"):
        return [
            BoundLoss(loss, term, place, loss.weight * teachers[place - 1].weight / total if place else loss.weight)
            for loss, term, place in bindings(counting, lambda each, teacher: each.bind(teacher, shape), teachers)
        ]


def built(
    generator: Generator,
    batch_size: int,
    shape: Shape,
    classes: int,
    labels: Sequence[str] | None,
    normalisation: Normalisation | None,
    latent_speed: float,
) -> nn.Module:
    """The generator's network; arguments as of `Generation`.

    Raises:
        SpecError: at an option of the stage: it makes no such images, or of no such classes, has no latents that could
            learn, or makes pixels that nobody knows how to normalise.
    """
    if latent_speed and not generator.latent(shape):
        raise SpecError(
            f"the generator {generator.registered_name!r} has no latents that could learn", ("latent_speed",)
        )
    with found_at("generator"):
        if generator.makes_pixels and normalisation is None:
            raise UserError(
                "the generator makes pixels, and nobody knows what the teacher's images were normalised with; "
                "import it with its normalisation"
            )
        generator.check_classes(classes, labels)
        return generator.build(shape, batch_size, classes)


class Generation(nn.Module):
    """A generator and the weighted losses of what it makes.

    Student and teachers judge but are none of its modules: its parameters are the generator's. The student judges in
    the mode that it is in.

    Args:
        generator: is built here, with weights from torch's global generator.
        batch_size: pseudo-images of an iteration, on this process.
        student: gets no gradients here.
        teachers: at least one; copies of them judge.
        losses: those of weight 0 are left out.
        shape: channels, height and width of the images.
        classes: of the networks.
        labels: names of the classes, in order; None where they are not known.
        normalisation: of the images; None where it is not known.
        average: of several teachers, see `nasdistill.models.ensemble.average_logits`.
        augmentations: of the images, drawn anew each time; of the kind that needs neither bytes, epochs nor labels.
        latent_speed: see `LearnedLatents`; 0 leaves latents as they are drawn.
        best_images: see `outcome`.

    Raises:
        UserError: the generator makes no such images, or nobody knows how to normalise them, or a loss does not apply
            to a teacher.
    """

    def __init__(
        self,
        generator: Generator,
        batch_size: int,
        student: nn.Module,
        teachers: Sequence[Teacher],
        losses: Sequence[GeneratorLoss],
        shape: Shape,
        classes: int,
        *,
        labels: Sequence[str] | None = None,
        normalisation: Normalisation | None = None,
        average: Average = "probabilities",
        augmentations: Sequence[Augmentation] = (),
        latent_speed: float = 0.0,
        best_images: bool = False,
    ) -> None:
        super().__init__()
        self.component = generator
        self.batch_size = batch_size
        self.shape = shape
        self.classes = classes
        self.normalisation = normalisation
        self.augmentations = tuple(augmentations)
        self.generator = built(generator, batch_size, shape, classes, labels, normalisation, latent_speed)
        numbers = generator.latent(shape)
        self._learned = LearnedLatents(batch_size, numbers, latent_speed) if latent_speed else nn.Identity()
        pixels = Normalisation(mean=(0.0,) * shape[0], std=(1.0,) * shape[0])
        self._normalise = renormalisation(pixels if generator.makes_pixels else None, normalisation)
        self._keeps_best = best_images
        self._best: tuple[torch.Tensor, torch.Tensor] | None = None  # the least loss of a step, and its images
        self._student = (student,)  # in a tuple, so that it does not become a module of this one

        self._losses = bound_losses(losses, teachers, shape)
        self._asks_student = any(each.loss.asks_student for each in self._losses)
        terms = [(each.term, each.place) for each in self._losses]
        self._remembering = nn.ModuleList(
            term.loss for term, _place in terms if isinstance(term.loss, nn.Module)
        )  # so that what these losses remember moves along
        self.teacher_ensemble = TeacherEnsemble(teachers, terms, shape, normalisation, average)

    def sample(self, *place: int, rank: int = 0, processes: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents, [batch_size, latent], and target classes, int64, [batch_size]: a function of the place alone.

        They are drawn for all processes together; this is the share of one. Classes are drawn one by one, or, for a
        generator of `even_classes`, round by round.
        """
        chance = generator_for("pseudo-batch", *place)
        together = self.batch_size * processes
        latents = torch.randn(together, self.component.latent(self.shape), generator=chance)
        if self.component.even_classes:
            rounds = range(-(-together // self.classes))
            targets = torch.cat([torch.randperm(self.classes, generator=chance) for _ in rounds])[:together]
        else:
            targets = torch.randint(self.classes, (together,), generator=chance)
        return latents[rank::processes], targets[rank::processes]

    def start_over(self, *place: int) -> None:
        """Draw the generator's weights anew: a function of the place alone."""
        with torch.random.fork_rng(devices=[]):
            # Weights are drawn on the CPU. To seed GPUs as well would be to wake all of them and to restore them.
            torch.default_generator.manual_seed(derived_seed("generator", *place))
            self.generator.load_state_dict(self.component.build(self.shape, self.batch_size, self.classes).state_dict())

    def remember(self) -> None:
        """Let losses that remember do so, after the generator's steps on a pseudo-batch."""
        for loss in self._remembering:
            if isinstance(loss, Remembering):
                loss.remember()

    def images(self, latents: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """What the generator makes: float, [N, C, H, W], normalised."""
        latents = self._learned(latents)
        made = self.generator(latents, targets) if self.component.told_classes else self.generator(latents)
        normalised: torch.Tensor = self._normalise(made.float())
        return normalised

    @torch.no_grad()
    def outcome(self, latents: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """What the generator's steps on a pseudo-batch led to, [N, C, H, W], normalised: the images after the last of
        them, or, with `best_images`, those that a step had its least loss on, of this process alone."""
        if self._best is None:
            return self.images(latents, targets)
        images, self._best = self._best[1], None
        return images

    def augmented(self, images: torch.Tensor) -> torch.Tensor:
        """Images, [N, C, H, W], as networks are to see them; those that were given where nothing augments them.

        Drawn on the CPU from the generator that checkpoints hold.
        """
        for augmentation in self.augmentations:
            drawn = augmentation.sample(len(images), self.shape[1:], torch.default_generator)
            images = augmentation.apply(images, drawn)
        return images

    def forward(self, latents: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """The named losses of the images that latents [N, latent] become, each weighted already."""
        made = self.images(latents, targets)
        images = self.augmented(self.component.moved(made))
        teacher_outputs = self.teacher_ensemble(images)
        student = self._student[0](images).float() if self._asks_student else None
        named: dict[str, torch.Tensor] = {}
        for loss, term, place, weight in self._losses:
            name = loss.registered_name
            pseudo = Pseudo(images, targets, student, teacher_outputs[place], partial(self._ask, place))
            found = term.loss(pseudo)
            value = weight * checked_loss(found, f"generator loss {name!r}", type(loss))
            named[name] = named[name] + value if name in named else value
        if self._keeps_best:
            self._keep(made.detach(), torch.stack([value.detach() for value in named.values()]).sum())
        return named

    def _keep(self, images: torch.Tensor, loss: torch.Tensor) -> None:
        """Remember the images if their loss is the least so far; the device is not waited for."""
        if self._best is not None:
            least, best = self._best
            loss, images = torch.minimum(loss, least), torch.where(loss < least, images, best)
        self._best = loss, images

    def _ask(self, place: int, images: torch.Tensor) -> Outputs:
        return self.teacher_ensemble(images)[place]

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        """Device, precision and memory format: the teachers go along."""
        self.teacher_ensemble.apply(fn)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
