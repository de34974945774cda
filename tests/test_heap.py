"""Freed memory that a process gives back."""

from __future__ import annotations

import ctypes
import sys

import pytest
import torch

from indexscope.analysis.capture import CapturedModel, capture_sparse
from indexscope.analysis.capture import model as captured
from indexscope.heap import give_back
from tests.analysis.conftest import tiny_dsa

GLIBC = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim")


def own_memory() -> int:
    """Bytes of this process alone that lie in memory."""
    with open("/proc/self/status") as file:
        (line,) = (line for line in file if line.startswith("RssAnon"))
    return int(line.split()[1]) << 10


@pytest.mark.skipif(not GLIBC, reason="another allocator")
def test_holes_between_what_lives_are_given_back() -> None:
    blocks = [bytearray(64 << 10) for _ in range(4096)]  # too small to be mapped by themselves
    lives = blocks[::64]
    full = own_memory()
    del blocks
    give_back()
    assert full - own_memory() > 200 << 20, "of 256 MiB a 64th lives"
    assert len(lives) == 64


@pytest.mark.parametrize(("length", "times"), [(40, 2), (15, 0), (16, 1)])
def test_a_long_sequence_gives_back_every_so_many_tokens_and_a_short_one_never(
    length: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[int] = []
    monkeypatch.setattr(captured, "GIVEN_BACK", 16)
    monkeypatch.setattr(captured, "give_back", lambda: called.append(1))
    ids = torch.arange(length).unsqueeze(0)
    for _ in CapturedModel(tiny_dsa()).run(ids, capture_sparse, 6):
        pass
    assert len(called) == times
