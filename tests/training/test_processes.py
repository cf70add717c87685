"""What processes that compute together tell each other."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from nasdistill.training.neighbours import LARGEST
from nasdistill.training.processes import all_gather, all_gather_rows, all_reduce_max, all_reduce_mean, all_reduce_sum
from tests.children import InAChild
from tests.together import together


def shares(rank: int) -> list[torch.Tensor | None]:
    drawn = torch.Generator().manual_seed(rank)
    image = torch.randn(2, 3, 4, 5, generator=drawn).to(memory_format=torch.channels_last)
    return [None, torch.randn((), generator=drawn), image, None, torch.empty(0, 2), torch.randn(7, generator=drawn)]


def test_means_are_taken_tensor_by_tensor_and_none_stays(in_a_child: InAChild, tmp_path: Path) -> None:
    def act(rank: int) -> None:
        torch.distributed.init_process_group("gloo")
        found = all_reduce_mean(shares(rank))
        assert all_reduce_mean([None, None]) == [None, None]
        assert [part.tolist() for part in all_gather_rows(torch.arange(4).view(2, 2)[rank:])] == [
            [[0, 1], [2, 3]],
            [[2, 3]],
        ]
        save_file({str(place): mean for place, mean in enumerate(found) if mean is not None}, tmp_path / str(rank))

    assert together(act) == [0, 0]
    found, other = (load_file(tmp_path / str(rank)) for rank in range(2))
    expected = {
        str(place): torch.stack([one, two]).mean(0)
        for place, (one, two) in enumerate(zip(shares(0), shares(1), strict=True))
        if one is not None and two is not None
    }
    assert found.keys() == other.keys() == expected.keys() == {"1", "2", "4", "5"}
    for place, mean in expected.items():
        assert torch.equal(found[place], other[place])
        torch.testing.assert_close(found[place], mean)


def test_small_messages_are_not_gloos(in_a_child: InAChild) -> None:
    """Which takes a hundred times as long."""

    def act(rank: int) -> None:
        torch.distributed.init_process_group("gloo")
        large = torch.arange(LARGEST) + rank
        assert torch.equal(all_gather(large), torch.stack([large - rank, large - rank + 1]))
        assert all_reduce_max(rank, -rank) == [1, 0]
        torch.distributed.all_gather = torch.distributed.all_reduce = None
        assert all_gather(torch.tensor([rank])).tolist() == [[0], [1]]
        total = all_reduce_sum(torch.tensor([0.5, 1 + rank]))
        assert (total.dtype, total.tolist()) == (torch.float32, [1, 3])
        assert all_reduce_max(rank, -rank) == [1, 0]

    assert together(act) == [0, 0]


def test_alone_a_process_keeps_what_it_has() -> None:
    alone = shares(0)
    assert all(mean is tensor for mean, tensor in zip(all_reduce_mean(alone), alone, strict=True))
