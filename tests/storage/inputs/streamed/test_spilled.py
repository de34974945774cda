from __future__ import annotations

import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indexscope import IndexscopeError
from indexscope.storage.inputs.streamed.spilled import SpilledStates

TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.bool)


@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from(TYPES), st.booleans()), max_size=30), st.integers(0, 300))
@settings(max_examples=60, deadline=None)
def test_every_tensor_comes_back_bit_by_bit_wherever_it_lay(
    puts: list[tuple[int, torch.dtype, bool]], limit: int
) -> None:
    states, held = SpilledStates(limit), []
    for number, (size, dtype, freed) in enumerate(puts):
        tensor = (torch.randn(2, size, generator=torch.Generator().manual_seed(number)) * 100).to(dtype)
        held.append((tensor.clone(), states.put(tensor)))
        assert states.in_memory <= limit
        if freed:
            held.pop(number % len(held))[1].free()
    for tensor, kept in held:
        assert kept.get().dtype == tensor.dtype
        assert torch.equal(kept.get(), tensor)
    for _, kept in held:
        kept.free()
    assert states.in_memory == states.spilled == 0


def test_places_of_the_file_are_used_again(tmp_path) -> None:
    states = SpilledStates(0, str(tmp_path))
    for _ in range(50):
        kept = [states.put(torch.rand(1000)) for _ in range(2)]
        for one in kept:
            one.free()
    assert states._file is not None
    assert os.fstat(states._file.fileno()).st_size == 2 * 4000
    assert list(tmp_path.iterdir()) == [], "the file has no name, so that nothing is left of a killed run"


def test_what_is_no_single_piece_of_memory_keeps_its_strides() -> None:
    states = SpilledStates(0)
    tensor = torch.rand(4, 6).t()
    assert states.put(tensor).get().stride() == tensor.stride()


def test_a_folder_without_room_is_one_line_that_names_it(tmp_path) -> None:
    with pytest.raises(IndexscopeError, match=r"nowhere: cannot hold the hidden states .* set TMPDIR"):
        SpilledStates(0, str(tmp_path / "nowhere")).put(torch.rand(10))
