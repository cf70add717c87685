"""Classes of unequal size: what an image must count so that all classes count the same."""

from __future__ import annotations

import torch


def balanced_weights(labels: torch.Tensor) -> torch.Tensor:
    """N / (classes * images of the image's class), of each of N images: float64, [N].

    Their mean is 1 and each class has the same sum. Drawn with such probabilities, all classes are equally frequent.
    Classes without images do not count.

    Source: King, Zeng, Logistic Regression in Rare Events Data (2001), section 4.2, with shares of 1 / classes.

    Args:
        labels: int64, [N].
    """
    sizes = labels.bincount()
    return len(labels) / (sizes.count_nonzero() * sizes[labels]).double()
