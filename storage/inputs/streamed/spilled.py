"""Outputs of layers and what is seen of them, between two layers: in memory up to a limit, else in a nameless file."""

from __future__ import annotations

import os
import tempfile
import threading
from typing import IO

import torch

from indexscope.errors import IndexscopeError
from indexscope.foreign import words


class SpilledStates:
    """Takes tensors and gives them back bit by bit as they were; see `indexscope.analysis.capture.streaming.states`.

    Args:
        limit: Bytes that are kept in memory at most.
        folder: Where the file lies; None for the system's temporary folder (TMPDIR).

    Attributes:
        in_memory: Bytes that are kept in memory now.
        spilled: Bytes that are in the file now.
    """

    def __init__(self, limit: int, folder: str | None = None) -> None:
        self.limit, self._folder = limit, folder
        self.in_memory = self.spilled = 0
        self._file: IO[bytes] | None = None
        self._end = 0
        self._free: dict[int, list[int]] = {}
        self._lock = threading.RLock()  # what nobody holds any more may be let go of at any moment

    def put(self, tensor: torch.Tensor) -> _Kept:
        """Keep a tensor; what is not laid out in one piece stays in memory whatever the limit.

        Raises:
            IndexscopeError: The disk has no room for it.
        """
        size = tensor.numel() * tensor.element_size()
        with self._lock:
            if not size or not tensor.is_contiguous() or self.in_memory + size <= self.limit:
                self.in_memory += size
                return _InMemory(self, tensor, size)
            return _InFile(self, tensor, size)

    def write(self, values: memoryview) -> int:
        """Write bytes to a free place of the file, and tell where."""
        size = len(values)
        places = self._free.setdefault(size, [])
        place = places.pop() if places else self._end
        self._end = max(self._end, place + size)
        try:
            done = 0
            while done < size:
                done += os.pwrite(self._opened().fileno(), values[done:], place + done)
        except OSError as error:
            remedy = "set TMPDIR to a folder with room for them, or use fewer samples a shard (shard_size)"
            raise IndexscopeError(self._folder or tempfile.gettempdir(), _reason(error), remedy) from error
        self.spilled += size
        return place

    def read(self, place: int, into: memoryview) -> None:
        """Read bytes from a place of the file."""
        done = 0
        while done < len(into):
            got = os.preadv(self._opened().fileno(), [into[done:]], place + done)
            if not got:
                raise IndexscopeError(self._folder or tempfile.gettempdir(), "lost what was written to it", "try again")
            done += got

    def let_go(self, place: int, size: int) -> None:
        """Give a place of the file back."""
        with self._lock:
            self._free.setdefault(size, []).append(place)
            self.spilled -= size

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115  # as long as this lives
        return self._file


class _Kept:
    def get(self) -> torch.Tensor:
        raise NotImplementedError

    def free(self) -> None:
        raise NotImplementedError

    def __del__(self) -> None:
        self.free()  # of a run that was given up, too


class _InMemory(_Kept):
    def __init__(self, states: SpilledStates, tensor: torch.Tensor, size: int) -> None:
        self._states, self._size = states, size
        self._tensor: torch.Tensor | None = tensor

    def get(self) -> torch.Tensor:
        assert self._tensor is not None
        return self._tensor

    def free(self) -> None:
        if self._tensor is not None:
            self._tensor = None
            self._states.in_memory -= self._size


class _InFile(_Kept):
    def __init__(self, states: SpilledStates, tensor: torch.Tensor, size: int) -> None:
        self._states, self._size = states, size
        self._place: int | None = None
        self._like = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta"), tensor.device
        self._place = states.write(_bytes(tensor.detach().cpu()))

    def get(self) -> torch.Tensor:
        assert self._place is not None
        like, device = self._like
        values = torch.empty(like.shape, dtype=like.dtype)
        self._states.read(self._place, _bytes(values))
        return values.to(device)

    def free(self) -> None:
        if self._place is not None:
            self._states.let_go(self._place, self._size)
            self._place = None


def _bytes(tensor: torch.Tensor) -> memoryview:
    return tensor.flatten().view(torch.uint8).numpy().data


def _reason(error: OSError) -> str:
    return f"cannot hold the hidden states of a streamed model ({words(error)})"
