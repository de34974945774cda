"""Claims about lengths: one pass gives the tables of the first tokens, whatever positions depend on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from transformers import (
    DeepseekV32ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
)

from indexscope.analysis.capture import capture_dense
from indexscope.analysis.capture.model import CapturedModel, own_attention
from indexscope.analysis.capture.trace import Trace
from indexscope.analysis.features import extract_samples
from indexscope.analysis.features.at_lengths import at_lengths
from indexscope.analysis.features.columns import AT_LENGTHS, FEATURES, at_length
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.samples import Sample
from tests.analysis.capture.research_model import ResearchModel
from tests.analysis.conftest import sharpened
from tests.analysis.samples import samples

SETTINGS = ExtractSettings(selection_queries=0, chunk=32, dense_reference=True)
LENGTHS = (20, 48, 64, 100, 128)


def longrope() -> Phi3ForCausalLM:
    config = Phi3Config(
        vocab_size=97, hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, original_max_position_embeddings=64, pad_token_id=0,
        rope_parameters={"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 64,
                         "short_factor": [1.0] * 6, "long_factor": [3.0, 4.0, 5.0, 6.0, 7.0, 8.0]},
    )  # fmt: skip
    return sharpened(Phi3ForCausalLM(config))  # type: ignore[return-value]


def dynamic() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=97, hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=32,
        rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0},
    )  # fmt: skip
    return sharpened(LlamaForCausalLM(config))  # type: ignore[return-value]


class LengthSensitive(ResearchModel):
    """Sharper the more tokens it is given."""

    def trace(self, input_ids: torch.Tensor, select: bool = True) -> Trace:
        found = super().trace(input_ids, select)
        return Trace(found.logits * input_ids.shape[1] ** 0.5, found.layers)


def cut(own: Sequence[Sample], length: int) -> list[Sample]:
    return [
        Sample(sample.index, sample.name, sample.input_ids[:length])
        for sample in own
        if len(sample.input_ids) >= length
    ]


def alike(first: pl.DataFrame, second: pl.DataFrame) -> None:
    """Equal but for rounding; sketches are of numbers that are."""
    names = [name for name in first.columns if name != "sketch"]
    assert_frame_equal(first.select(names), second.select(names), rel_tol=1e-4, abs_tol=1e-5)


def compare(model: PreTrainedModel, own: list[Sample], settings: ExtractSettings = SETTINGS) -> dict[str, pl.DataFrame]:
    whole = extract_samples(model, own, settings, lengths=LENGTHS)
    read = at_lengths(whole)
    assert tuple(read) == LENGTHS
    for length in LENGTHS:
        alone = extract_samples(model, cut(own, length), settings)
        tables = [name for name in FEATURES if name in alone and name != "selections"]
        (found,) = read[length].shards(tables)
        assert set(found) == set(tables)
        for name in tables:
            alike(found[name], alone[name])
    return whole


@pytest.fixture
def mixed() -> list[Sample]:
    return samples(128, 100, 40, 128)


def test_one_pass_gives_the_tables_of_every_length(dsa: DeepseekV32ForCausalLM, mixed: list[Sample]) -> None:
    whole = compare(dsa, mixed)
    counts = whole["samples_at_length"].group_by("length").len().sort("length").rows()
    assert counts == [(20, 4), (48, 3), (64, 3), (100, 3)], "a sample that is shorter has no part in a length"


def test_lengths_are_told_apart_whatever_chunks_batches_and_kernels(
    dsa: DeepseekV32ForCausalLM, mixed: list[Sample]
) -> None:
    compare(dsa, mixed, SETTINGS.model_copy(update={"chunk": 128, "batch": 2}))
    compare(dsa, mixed, SETTINGS.model_copy(update={"chunk": 24}))


@pytest.mark.parametrize(("make", "alone"), [(longrope, (20, 48, 64)), (dynamic, (20, 48, 64, 100))])
def test_lengths_of_scaled_positions_are_those_of_runs_of_their_own(
    make: Any, alone: tuple[int, ...], mixed: list[Sample]
) -> None:
    model = make()
    (scaling,) = CapturedModel(model).scalings
    assert tuple(length for length in LENGTHS if scaling.apart(length, 128)) == alone
    compare(model, mixed)


@pytest.mark.parametrize("make", [longrope, dynamic])
@pytest.mark.parametrize("chunk", [7, 128])
def test_every_chunk_is_turned_by_the_frequencies_of_the_whole_sequence(make: Any, chunk: int) -> None:
    """As the model's own forward at once; and of a longer sequence that ran before nothing is left."""
    model = make()
    captured = CapturedModel(model)
    random = torch.Generator().manual_seed(0)
    for length in (128, 50, 100):
        ids = torch.randint(97, (1, length), generator=random)
        logits = torch.cat([part for _, part in captured.run(ids, capture_dense, chunk)], 1)
        fresh = make()
        with torch.inference_mode(), own_attention(fresh):
            expected = fresh(input_ids=ids, use_cache=False).logits
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_sampled_queries_of_a_length_are_those_of_the_whole(dsa: DeepseekV32ForCausalLM) -> None:
    compare(dsa, samples(128, 128), SETTINGS.model_copy(update={"query_every": 2}))


def test_code_that_nobody_knows_runs_every_length_by_itself(mixed: list[Sample]) -> None:
    """A research model adds the length of what it is given to its logits: no pass over longer samples has that."""
    model = LengthSensitive()
    whole = extract_samples(model, mixed, SETTINGS, lengths=LENGTHS)
    for length, read in at_lengths(whole).items():
        (found,) = read.shards(["tokens"])
        alone = extract_samples(model, cut(mixed, length), SETTINGS)
        alike(found["tokens"], alone["tokens"])


def test_lengths_that_no_sample_of_a_shard_reaches_leave_empty_tables(dsa: DeepseekV32ForCausalLM) -> None:
    found = extract_samples(dsa, samples(30), SETTINGS, lengths=(48, 64))
    assert {name for name in found if found[name].is_empty()} == {
        at_length(name) for name in found if at_length(name) in AT_LENGTHS
    }
    assert at_length("indexer") in found
    assert not any("length" in name for name in extract_samples(dsa, samples(30), SETTINGS))
