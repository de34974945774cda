"""Tensors of zeros whose memory is taken page by page, when something is written to it."""

from __future__ import annotations

import mmap

import torch

#: Bytes from which on a tensor has pages of its own.
LEAST = 1 << 20


def zeros(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """As `torch.zeros`; on the CPU what nobody writes to takes no memory, where the system does so.

    Raises:
        MemoryError: There is no room for all of it.
    """
    size = shape.numel() * dtype.itemsize
    if device.type != "cpu" or size < LEAST or not hasattr(mmap, "MAP_ANONYMOUS"):
        return torch.zeros(shape, dtype=dtype, device=device)
    try:
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(str(error)) from error
    return torch.frombuffer(pages, dtype=dtype).view(shape)
