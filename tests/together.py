"""Several processes that compute together: started by torchrun, or forked as it starts them, which spares seconds."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from tests.children import forked

ROOT = Path(__file__).parents[1]
DIED = 1


def torchrun(module: str, *arguments: str | Path, folder: Path = ROOT) -> str:
    """Run a module in two processes of torchrun's, in `folder`, to its good end; what they print."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", module, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


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
