"""What a close look keeps of a model that is read layer by layer lies where outputs of layers do."""

from __future__ import annotations

import gc
from dataclasses import fields
from typing import Any

import pytest
import torch
from polars.testing import assert_frame_equal

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.streaming.model import StreamedModel
from indexscope.analysis.capture.streaming.states import InMemory
from indexscope.analysis.closeup.collect import Look
from indexscope.analysis.closeup.looking import Looking, collect_samples
from indexscope.analysis.closeup.resting import Resting
from indexscope.analysis.closeup.rows import CloseupRows
from indexscope.analysis.closeup.run import makers_of
from indexscope.analysis.closeup.tables import TABLES
from indexscope.analysis.features import extract_samples
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.settings import CloseupSettings, ExtractSettings
from indexscope.storage.inputs.streamed.spilled import SpilledStates
from tests.analysis.capture.streaming.in_parts import InParts
from tests.analysis.capture.tiny_families import FAMILIES
from tests.analysis.closeup.head_rows import random_rows
from tests.analysis.samples import samples

CLOSE = CloseupSettings(queries=12)
SETTINGS = ExtractSettings(chunk=16)


class Counting(SpilledStates):
    """Writes everything to the file, and tells how much is in it at the end of each layer."""

    def __init__(self) -> None:
        super().__init__(0)
        self.after: list[int] = []

    def through(self, layer: int, *_: int) -> None:
        self.after.append(self.spilled)


def held(value: Any, seen: set[int]) -> int:
    """Bytes of tensors that something holds."""
    if id(value) in seen:
        return 0
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(held(one, seen) for one in value.values())
    if isinstance(value, (list, tuple)):
        return sum(held(one, seen) for one in value)
    return held(vars(value), seen) if isinstance(value, (Looking, Resting)) else 0


@pytest.mark.parametrize("name", ["deepseek_v32", "glm_moe_dsa", "minimax_m3"])
def test_rows_lie_in_the_file_between_layers_and_give_the_bits_of_those_in_memory(name: str) -> None:
    lookings, kept = [], []

    def run(states: InMemory | Counting, close: bool) -> dict[str, Any]:
        def through(layer: int, *more: int) -> None:
            if isinstance(states, Counting):
                states.through(layer, *more)
            kept.append([held(one._chunks, set()) for one in lookings])

        source, makers = StreamedModel(InParts(FAMILIES[name]()), states, through), makers_of(Look([0], CLOSE))

        def begin(one: Any) -> Looking | None:
            if not close or one.index:
                return None
            lookings.append(Looking(one, makers, CLOSE.queries, source.states))
            return lookings[-1]

        return extract_samples(source, samples(40, 33), SETTINGS, Journal(), beside=begin)

    expected = run(InMemory(), True)
    assert sum(len(expected[table]) for table in TABLES) > 0
    lookings.clear()
    kept.clear()
    plain, looked = Counting(), Counting()
    run(plain, False)
    kept.clear()
    found = run(looked, True)
    for table, frame in expected.items():
        assert_frame_equal(found[table], frame, check_exact=True)
    # Of each query and chunk its position, weight and n stay.
    assert all(most <= 12 * 3 * 8 * len(looked.after) for (most,) in kept), kept
    beside = [one - other for one, other in zip(looked.after, plain.after, strict=True)]
    each = [later - before for before, later in zip([0, *beside], beside, strict=False)]
    assert all(size > 12 * 20 * 4 for size in each), "at least the mean attention of 12 queries on half the keys"
    assert plain.spilled == looked.spilled == looked.in_memory == 0


def test_rows_come_back_as_they_were() -> None:
    rows, states = random_rows(3), SpilledStates(0)
    resting = Resting.of(rows, states)
    large = [value for value in vars(rows).values() if isinstance(value, torch.Tensor) and value.dim() > 1]
    assert states.spilled == sum(value.nbytes for value in large) > 0
    found = resting.taken()
    for field in fields(CloseupRows):
        one, other = getattr(found, field.name), getattr(rows, field.name)
        assert torch.equal(one, other) if isinstance(other, torch.Tensor) else one == other, field.name
    assert states.spilled == 0


def test_nothing_is_left_in_the_file_of_a_sample_that_has_to_run_again() -> None:
    states, failing = SpilledStates(0), {1}
    source = StreamedModel(InParts(FAMILIES["deepseek_v32"]()), states)
    makers = makers_of(Look([0, 1], CLOSE))
    own = Looking.observe

    class Tight(Looking):
        def observe(self, chunk: AttentionChunk) -> None:
            own(self, chunk)
            if chunk.layer == 1 and failing:
                failing.clear()
                raise MemoryError

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("indexscope.analysis.closeup.looking.Looking", Tight)
        attempt = Attempt(source, SETTINGS.model_copy(update={"chunk": 32}), Journal())
        found = collect_samples(source, samples(40, 40), makers, CLOSE.queries, attempt)
    assert not failing and len(found["logits"]) == 24
    gc.collect()
    assert states.spilled == states.in_memory == 0
