"""Whether a generator and its losses fit teachers that nobody has trained yet."""

from __future__ import annotations

from collections.abc import Sequence

from nasdistill.data.base import Normalisation, Shape
from nasdistill.distill.taps import Taps
from nasdistill.distill.teacher import Teacher
from nasdistill.errors import found_at
from nasdistill.zero_shot.bank import check_rememberable
from nasdistill.zero_shot.generation import bound_losses, built
from nasdistill.zero_shot.generator_losses import GeneratorLoss
from nasdistill.zero_shot.generators import Generator
from nasdistill.zero_shot.settings import TransferSettings


def check_generation(
    generator: Generator,
    losses: Sequence[GeneratorLoss],
    settings: TransferSettings,
    teachers: Sequence[Teacher],
    shape: Shape,
    classes: int,
    labels: Sequence[str] | None,
    normalisation: Normalisation | None,
) -> None:
    """Build the generator and bind its losses to the teachers, whose weights do not matter.

    Arguments are as of `Generation`, on one process.

    Raises:
        SpecError: at an option of the stage: the generator makes no such images, a loss does not apply to a teacher, or
            a bank cannot hold what is made.
    """
    built(generator, settings.batch_size, shape, classes, labels, normalisation, settings.latent_speed)
    for each in bound_losses(losses, teachers, shape):
        with found_at("generator_losses", by=each.loss.registered_name):
            Taps(teachers[max(each.place - 1, 0)].network, each.term.teacher_points, "teacher")
    if settings.bank:
        with found_at("bank"):
            check_rememberable(generator, normalisation)
