"""Choices by class against their definitions, and splits that lose and double nothing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nasdistill.data.splits import few_of_each, proportional_counts, stratified


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


UNEVEN = torch.tensor([0] * 30 + [1] * 12 + [2] * 50)[torch.randperm(92, generator=torch.Generator().manual_seed(2))]


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**31))
def test_a_few_are_as_many_of_each_class_and_fewer_are_among_more(one: int, other: int, seed: int) -> None:
    few, more = (few_of_each(UNEVEN, count, seed).tolist() for count in sorted((one, other)))
    assert set(few) <= set(more)
    for chosen, count in ((few, min(one, other)), (more, max(one, other))):
        assert chosen == sorted(set(chosen))
        assert UNEVEN[chosen].bincount().tolist() == [count] * 3


def test_all_of_each_class_are_all() -> None:
    assert few_of_each(torch.arange(30) % 3, 10, seed=1).tolist() == list(range(30))


def test_a_few_differ_by_seed_and_are_drawn_evenly() -> None:
    times = torch.zeros(92)
    drawn = [few_of_each(UNEVEN, 6, seed) for seed in range(1000)]
    assert len({tuple(chosen.tolist()) for chosen in drawn}) == 1000
    for chosen in drawn:
        times[chosen] += 1
    for label, size in enumerate((30, 12, 50)):
        # Binomial(1000, 6 / size); five deviations either way.
        share = 6 / size
        apart = (times[label == UNEVEN] - 1000 * share).abs().max()
        assert apart < 5 * (1000 * share * (1 - share)) ** 0.5


def test_a_class_keeps_its_few_when_another_grows() -> None:
    before, after = (few_of_each(labels, 4, 0) for labels in (UNEVEN, torch.cat([UNEVEN, torch.zeros(9).long()])))
    of_others = [chosen[torch.cat([UNEVEN, torch.zeros(9).long()])[chosen] > 0].tolist() for chosen in (before, after)]
    assert of_others[0] == of_others[1]
