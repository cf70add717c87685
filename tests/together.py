"""Several processes that compute together, as torchrun starts them, but forked, which spares seconds each."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable

from tests.children import forked

DIED = 1


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def together(act: Callable[[int], object], nodes: int = 1, processes: int = 2) -> list[int]:
    """Call `act` with its number in each process; their exit statuses. Tests that use it take `in_a_child` too.

    Args:
        act: may return its status, and may exit.
        nodes: machines that the processes believe to be on, equally many on each.
    """
    on_each = processes // nodes
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(on_each),
        "TORCHELASTIC_RUN_ID": "test",
    }
    statuses = [DIED] * processes

    def start(rank: int) -> None:
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank % on_each), "GROUP_RANK": str(rank // on_each)}

        def child() -> None:
            os.environ.update(shared | place)
            try:
                status = act(rank)
            except SystemExit as end:
                status = end.code
            os._exit(int(status or 0))  # type: ignore[call-overload]

        statuses[rank] = os.waitstatus_to_exitcode(forked(child, seconds=120))

    threads = [threading.Thread(target=start, args=(rank,)) for rank in range(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses
