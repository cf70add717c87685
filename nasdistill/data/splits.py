"""Choices by class: as large a share of each class as of the whole, or as many of each."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nasdistill.data.seeds import generator_for


def proportional_counts(sizes: Sequence[int], total: int, most: Sequence[int]) -> list[int]:
    """How many to take of each class so that the counts add up to `total` and follow `sizes`.

    Method of the largest remainder (Hamilton): floor(total * size / sum) each, and what is left over to the largest
    remainders, the earlier class first where they are equal.

    Args:
        sizes: of the classes.
        most: upper bound for each class.

    Raises:
        ValueError: the bounds leave no room for `total`.
    """
    if total > sum(most):
        raise ValueError(f"cannot take {total}: at most {sum(most)} are there to take")
    shares = [total * size / sum(sizes) for size in sizes]
    counts = [min(int(share), bound) for share, bound in zip(shares, most, strict=True)]
    by_remainder = sorted(range(len(sizes)), key=lambda k: int(shares[k]) - shares[k])
    while sum(counts) < total:
        for k in by_remainder:
            if counts[k] < most[k] and sum(counts) < total:
                counts[k] += 1
    return counts


def stratified(labels: torch.Tensor, count: int, seed: int, keep: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose `count` of the samples, the same share of each class.

    Args:
        labels: int64, [N].
        keep: so many of each class are never chosen.

    Returns:
        indices of the chosen and of the others, int64, each ascending.

    Raises:
        ValueError: `keep` leaves fewer than `count`.
    """
    classes = [torch.nonzero(labels == label).flatten() for label in torch.unique(labels).tolist()]
    sizes = [len(members) for members in classes]
    counts = proportional_counts(sizes, count, [max(size - keep, 0) for size in sizes])
    generator = generator_for(seed, "stratified", count)
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for members, taken in zip(classes, counts, strict=True):
        chosen[members[torch.randperm(len(members), generator=generator)[:taken]]] = True
    return chosen.nonzero().flatten(), (~chosen).nonzero().flatten()


def few_of_each(labels: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """Choose `count` of the samples of each class; those of a smaller `count` are among them.

    Args:
        labels: int64, [N]; each class has at least `count`.

    Returns:
        indices, int64, [count * classes], ascending.
    """
    chosen = []
    for label in torch.unique(labels).tolist():
        members = torch.nonzero(labels == label).flatten()
        # A permutation for each class: were they drawn one after the other, all would depend on the sizes before.
        order = torch.randperm(len(members), generator=generator_for(seed, "few of each", label))
        chosen.append(members[order[:count]])
    return torch.cat(chosen).sort().values
