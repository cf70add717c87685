"""Derived seeds: SHA-256 of what identifies a use."""

import hashlib

import torch

from nasdistill.data.seeds import derived_seed, generator_for


def test_a_seed_is_the_sha256_of_its_parts() -> None:
    digest = hashlib.sha256(b"3/'order'/7").digest()
    assert derived_seed(3, "order", 7) == int.from_bytes(digest[:8], "little") // 2


def test_neighbouring_uses_do_not_share_seeds() -> None:
    seeds = {derived_seed(seed, "order", epoch) for seed in range(50) for epoch in range(50)}
    assert len(seeds) == 2500


def test_a_number_is_not_its_text() -> None:
    assert derived_seed(1) != derived_seed("1")


def test_generators_of_one_use_draw_the_same() -> None:
    first, second = (torch.rand(4, generator=generator_for(0, "a", 1)) for _ in range(2))
    assert torch.equal(first, second)
