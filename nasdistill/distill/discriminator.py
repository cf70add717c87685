"""A discriminator: tells a student's logits from its teacher's."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from nasdistill.distill.learned import reinitialise

Fooling = Literal["published", "non-saturating"]
IMAGES_PER_STEP = 256


class Discriminator(nn.Module):
    """A perceptron from logits to one score u, where sigmoid(u) is the probability that a student said them.

    Logits are standardised first, class by class, so that neither network's scale decides how well it trains.

    Args:
        classes: of the logits that it reads.
        hidden: units of each hidden layer; none makes it linear.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, classes: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(classes))
        self.register_buffer("std", torch.ones(classes))
        self.hidden = nn.ModuleList(
            nn.Linear(before, after) for before, after in zip((classes, *hidden), hidden, strict=False)
        )
        self.score = nn.Linear(hidden[-1] if hidden else classes, 1)

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        """Scores, [N], of logits, [N, classes]."""
        features = (logits - self.mean) / self.std
        for layer in self.hidden:
            features = functional.relu(layer(features))
        scores: torch.Tensor = self.score(features).squeeze(1)
        return scores

    @torch.no_grad()
    def standardise(self, logits: torch.Tensor) -> None:
        """Standardise all that comes by the mean and the deviation of these logits, [N, classes]."""
        self.mean.copy_(logits.mean(dim=0))
        self.std.copy_(logits.std(dim=0).clamp_min(1e-6))


def telling_loss(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """What a discriminator minimises: mean of -log(1 - D(teacher)) and -log D(student), D = sigmoid of scores [N].

    Source: Goodfellow et al., Generative Adversarial Nets (2014), equation 1; teacher 0, student 1.
    """
    return (functional.softplus(teacher).mean() + functional.softplus(-student).mean()) / 2


def fooling_loss(student: torch.Tensor, fooling: Fooling) -> torch.Tensor:
    """What a student minimises that wants to be taken for its teacher, from its scores u, [N]; D = sigmoid(u).

    `published`: -L_class(student's logits | label student) = mean of log D. Unbounded below, and its gradient by u,
    1 - D, is small where the discriminator is sure, and tends to 1 where it is fooled already: the further the logits
    have run, the larger the student's gradients become.
    `non-saturating`: L_class(student's logits | label teacher) = mean of -log(1 - D). Bounded by 0, with the gradient
    D, which is large where the discriminator is sure and vanishes where it is fooled. D < -log(1 - D): what drives the
    student is smaller than its loss, and ends with it.

    Source: Goodfellow et al., Generative Adversarial Nets (2014), section 3 (both).
    """
    return functional.softplus(student).mean() if fooling == "non-saturating" else -functional.softplus(-student).mean()


def told_apart(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """How many of the scores, [N] each, are on their network's side: int64, of 2N."""
    return (teacher < 0).sum() + (student >= 0).sum()


def train_discriminator(
    discriminator: Discriminator,
    teacher: torch.Tensor,
    student: torch.Tensor,
    *,
    steps: int,
    lr: float,
    held_out: float,
    generator: torch.Generator,
) -> float:
    """Train it anew, with Adam, on both networks' outputs for the same images.

    Args:
        teacher: logits [N, classes].
        student: logits [N, classes] of the same images.
        steps: of `IMAGES_PER_STEP` images each, drawn with replacement.
        held_out: share of the images that it does not see.
        generator: on the CPU; decides its weights, the images held out, and those of each step.

    Returns:
        the share of the outputs of images held out that it tells apart; 0.5 is chance.
    """
    order = torch.randperm(len(teacher), generator=generator)
    held = min(max(1, round(held_out * len(order))), len(order) - 1)
    unseen, seen = order[:held].to(teacher.device), order[held:].to(teacher.device)
    reinitialise(discriminator, generator)
    discriminator.standardise(torch.cat([teacher[seen], student[seen]]))
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=lr)
    for _ in range(steps):
        drawn = seen[torch.randint(len(seen), (IMAGES_PER_STEP,), generator=generator).to(seen.device)]
        loss = telling_loss(discriminator(teacher[drawn]), discriminator(student[drawn]))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    optimizer.zero_grad()  # or the first step of a training that goes on with it would add to these gradients
    with torch.no_grad():
        right = told_apart(discriminator(teacher[unseen]), discriminator(student[unseen]))
    return float(right) / (2 * held)
