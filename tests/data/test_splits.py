"""Stratified choices against the definition of the largest remainder, and splits that lose and double nothing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nasdistill.data.splits import proportional_counts, stratified


def test_largest_remainder_by_hand() -> None:
    # Shares of 10 seats for 53, 24, 23 votes: 5.3, 2.4, 2.3; the seat left over goes to the remainder 0.4.
    assert proportional_counts([53, 24, 23], 10, [53, 24, 23]) == [5, 3, 2]


def test_a_bound_sends_the_rest_elsewhere() -> None:
    assert proportional_counts([2, 2, 2], 4, [1, 2, 2]) == [1, 2, 1]


def test_more_than_there_is_cannot_be_taken() -> None:
    with pytest.raises(ValueError, match="at most 3"):
        proportional_counts([2, 2], 4, [1, 2])


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.floats(0, 1))
def test_counts_add_up_and_stay_within_one_of_the_exact_share(sizes: list[int], fraction: float) -> None:
    total = round(fraction * sum(sizes))
    counts = proportional_counts(sizes, total, sizes)
    assert sum(counts) == total
    for size, count in zip(sizes, counts, strict=True):
        assert abs(count - total * size / sum(sizes)) < 1


def test_chosen_and_others_partition_the_samples_and_keep_the_shares() -> None:
    labels = torch.tensor([0] * 100 + [1] * 50 + [2] * 50)[
        torch.randperm(200, generator=torch.Generator().manual_seed(1))
    ]
    chosen, others = stratified(labels, 40, seed=3)
    assert sorted([*chosen.tolist(), *others.tolist()]) == list(range(200))
    assert labels[chosen].bincount().tolist() == [20, 10, 10]


def test_the_seed_decides() -> None:
    labels = torch.arange(300) % 3
    first, again, other = (stratified(labels, 30, seed)[0].tolist() for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_every_sample_is_chosen_as_often() -> None:
    labels = torch.tensor([0] * 10 + [1] * 10)
    times = torch.zeros(20)
    for seed in range(1000):
        times[stratified(labels, 6, seed)[0]] += 1
    # Binomial(1000, 0.3): mean 300, deviation 14.5; five deviations either way.
    assert times.min() > 227
    assert times.max() < 373


def test_some_of_each_class_can_be_kept_back() -> None:
    labels = torch.tensor([0, 0, 1, 1, 1, 1])
    chosen, others = stratified(labels, 4, seed=0, keep=1)
    assert labels[others].bincount().tolist() == [1, 1]
    assert len(chosen) == 4
