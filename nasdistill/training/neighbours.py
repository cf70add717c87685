"""Small messages between the processes of one machine, in some ten microseconds where gloo's take a thousand.

In gloo, each message wakes a thread of its own in each process, which waits for a core where these are busy. Here the
thread that needs the numbers reads them from a socket, and lends its core to others until they are there.
"""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Callable

import torch

LARGEST = 1 << 15
"""Bytes of a message: the buffers of a connection hold two, so that all processes may write before they read."""

Connection = socket.socket


class Neighbours:
    """A connection to each of the other processes, all on this machine.

    Args:
        connections: in the order of the processes, this one's left out.
        rank: this process's place in it.
    """

    def __init__(self, connections: list[Connection], rank: int) -> None:
        self._connections = connections
        self._rank = rank

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """What each process has, under each other: [processes, *shape].

        Args:
            tensor: of the same shape and type in all processes, on the CPU, of 1 to `LARGEST` bytes.

        Raises:
            DistNetworkError: another process is gone.
        """
        tensor = tensor.contiguous()
        rows = torch.empty(len(self._connections) + 1, *tensor.shape, dtype=tensor.dtype)
        mine, all_of_them, size = _memory(tensor), _memory(rows), tensor.nbytes
        messages = [all_of_them[start : start + size] for start in range(0, len(all_of_them), size)]
        messages.pop(self._rank)[:] = mine
        try:
            for connection in self._connections:
                connection.sendall(mine)
            for connection, message in zip(self._connections, messages, strict=True):
                _read(connection, message)
        except OSError as error:
            raise torch.distributed.DistNetworkError("another process closed its connection") from error
        return rows


def _memory(tensor: torch.Tensor) -> memoryview:
    """The bytes of a contiguous tensor, which must outlive them; by torch's own operations it takes ten times as long.

    These are slow where a convolution has just filled the processor's caches.
    """
    return memoryview((ctypes.c_char * tensor.nbytes).from_address(tensor.data_ptr())).cast("B")


def _read(connection: Connection, message: memoryview) -> None:
    while message:
        count = connection.recv_into(message, 0, socket.MSG_WAITALL)
        if not count:
            raise ConnectionResetError
        message = message[count:]


def connect(rank: int, all_gather: Callable[[torch.Tensor], torch.Tensor]) -> Neighbours:
    """Connect this process with all others; all call it at the same time.

    Args:
        all_gather: as the method, by other means.
    """
    with socket.create_server(("127.0.0.1", 0)) as door:
        ports = all_gather(torch.tensor(door.getsockname()[1])).tolist()
        connections = {}
        for other in range(rank):
            connections[other] = socket.create_connection(("127.0.0.1", ports[other]))
            connections[other].sendall(rank.to_bytes(4, "big"))
        for _ in range(rank + 1, len(ports)):
            connection, _address = door.accept()
            connections[int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "big")] = connection
    for connection in connections.values():
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * LARGEST)
    return Neighbours([connections[other] for other in sorted(connections)], rank)
