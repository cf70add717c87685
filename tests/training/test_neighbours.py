"""Sockets between processes of one machine, here between threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from nasdistill.training.neighbours import LARGEST, Neighbours, connect

COUNT = 3


@pytest.fixture
def three() -> Iterator[tuple[ThreadPoolExecutor, list[Neighbours]]]:
    told, all_told = [torch.empty(0)] * COUNT, threading.Barrier(COUNT)

    def connected(rank: int) -> Neighbours:
        def all_gather(tensor: torch.Tensor) -> torch.Tensor:
            told[rank] = tensor
            all_told.wait(10)
            return torch.stack(told)

        return connect(rank, all_gather)

    with ThreadPoolExecutor(COUNT) as threads:
        yield threads, list(threads.map(connected, range(COUNT)))


@pytest.mark.parametrize("shape", [(), (1,), (2, 3, 5), (LARGEST // 8,)])
@pytest.mark.parametrize("dtype", [torch.bool, torch.bfloat16, torch.int64, torch.float64])
def test_all_get_the_rows_of_all_in_their_order(
    three: tuple[ThreadPoolExecutor, list[Neighbours]], shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    """Again and again, with whatever layout, and with gradients, which end here."""
    threads, neighbours = three
    for _ in range(3):
        rows = [torch.randn(shape).to(dtype).T if len(shape) == 2 else torch.randn(shape).to(dtype) for _ in range(3)]
        if dtype.is_floating_point:
            rows[0].requires_grad_()
        for found in threads.map(Neighbours.all_gather, neighbours, rows):
            assert found.dtype == dtype
            assert not found.requires_grad
            assert torch.equal(found, torch.stack(rows))


def test_nobody_waits_for_one_that_is_gone(three: tuple[ThreadPoolExecutor, list[Neighbours]]) -> None:
    threads, neighbours = three
    waiting = [threads.submit(each.all_gather, torch.ones(2)) for each in neighbours[1:]]
    for connection in neighbours[0]._connections:
        connection.close()
    for each in waiting:
        with pytest.raises(torch.distributed.DistNetworkError, match="another process closed"):
            each.result(10)
