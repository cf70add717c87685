"""What a contrast over the whole training set needs: a vector of each image, and images of other classes."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from nasdistill.errors import UserError


class MemoryBank(nn.Module):
    """The last embedding of each training image, averaged with earlier ones; what others are contrasted with.

    Args:
        images: how many.
        dimensions: of an embedding.
        generator: of the vectors at first: uniform, of mean squared length 1.

    Source: Tian, Krishnan, Isola, Contrastive Representation Distillation (2020), its released code.
    """

    entries: torch.Tensor
    log_constant: torch.Tensor
    estimated: torch.Tensor

    def __init__(self, images: int, dimensions: int, generator: torch.Generator) -> None:
        super().__init__()
        bound = math.sqrt(3 / dimensions)
        self.register_buffer("entries", torch.empty(images, dimensions).uniform_(-bound, bound, generator=generator))
        # log Z of the first batch.
        self.register_buffer("log_constant", torch.tensor(0.0))
        self.register_buffer("estimated", torch.tensor(False))

    def contrast(self, embeddings: torch.Tensor, candidates: torch.Tensor, temperature: float) -> torch.Tensor:
        """The loss of telling each embedding's own image from K others, mean over the batch.

        -log h(own) - sum over the others of log(1 - h), with h = P / (P + K/M), P = exp(v.m / T) / Z for the memory m
        of an image, M images in all, and Z = M * mean of exp(v.m / T) in the first batch.

        Without the 1e-7 that the released code adds to denominators, which logarithms do not need.

        Args:
            embeddings: v of length 1, [N, D]; alone they have gradients.
            candidates: int64, [N, 1 + K], each embedding's own image first.

        Source: Tian, Krishnan, Isola, Contrastive Representation Distillation (2020), section 3, and its released code.
        """
        # All products at once: one matrix product is much quicker than gathering K vectors for each image.
        exponents = (embeddings @ self.entries.T).gather(1, candidates) / temperature
        images, others = len(self.entries), candidates.shape[1] - 1
        estimate = exponents.detach().logsumexp(dim=(0, 1)) + math.log(images / exponents.numel())
        self.log_constant.copy_(torch.where(self.estimated, self.log_constant, estimate))
        self.estimated.fill_(True)
        # h = sigmoid of log P - log(K/M).
        odds = exponents - self.log_constant - math.log(others / images)
        right = functional.logsigmoid(odds[:, 0]) + functional.logsigmoid(-odds[:, 1:]).sum(dim=1)
        return -right.mean()

    @torch.no_grad()
    def update(self, indices: torch.Tensor, embeddings: torch.Tensor, momentum: float) -> None:
        """m <- momentum * m + (1 - momentum) * v, of length 1 again, for the images at `indices`, int64, [N]."""
        blended = momentum * self.entries[indices] + (1 - momentum) * embeddings
        # A new tensor, because the backward pass of this step still reads the old one.
        self.entries = self.entries.index_copy(0, indices, functional.normalize(blended, dim=1))


class OtherClasses(nn.Module):
    """Draws images of other classes than given ones.

    Args:
        labels: of all images, int64, [M].

    Raises:
        UserError: all images are of one class.
    """

    by_class: torch.Tensor
    counts: torch.Tensor
    starts: torch.Tensor

    def __init__(self, labels: torch.Tensor) -> None:
        super().__init__()
        counts = labels.bincount()
        if int(counts.max()) == len(labels):
            raise UserError(
                f"there is nothing to contrast an image with: all {len(labels)} training images have the "
                f"label {int(labels[0])}, and crd needs images of other classes"
            )
        # Not in checkpoints: they follow from the data.
        self.register_buffer("by_class", labels.argsort(stable=True), persistent=False)
        self.register_buffer("counts", counts, persistent=False)
        self.register_buffer("starts", counts.cumsum(0) - counts, persistent=False)

    def sample(self, labels: torch.Tensor, count: int) -> torch.Tensor:
        """Indices of `count` images for each of `labels` ([N]), uniform with replacement, int64, [N, count].

        Drawn from torch's global generator, whose state checkpoints keep.
        """
        own, start = self.counts[labels].unsqueeze(1), self.starts[labels].unsqueeze(1)
        # The remainder of a much larger number is uniform for any number of images.
        numbers = torch.randint(1 << 62, (len(labels), count), device=labels.device)
        places = numbers % (len(self.by_class) - own)
        # Sorted by class, an image's own class is one stretch, which is stepped over.
        return self.by_class[places + own * (places >= start)]
