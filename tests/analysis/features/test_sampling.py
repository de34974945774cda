"""Looking at every q-th block of queries: which ones, that they are measured rightly, and how far off a mean may be."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from indexscope.analysis.capture import CapturedModel, capture_sparse
from indexscope.analysis.features import extract_samples
from indexscope.analysis.features.sampling import BLOCK, measured_parts
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.samples import Sample
from tests.analysis.conftest import tiny_dsa, tiny_llama

LENGTH = 500
SAMPLES = [
    Sample(i, "s", tuple(torch.randint(97, (LENGTH,), generator=torch.Generator().manual_seed(i)).tolist()))
    for i in range(4)
]


def entropies(model, sample: Sample) -> np.ndarray:
    """Attention entropy [layers, heads, queries] in float64."""
    found: dict[int, torch.Tensor] = {}

    def observe(chunk):
        p = chunk.logits().double().masked_fill(~chunk.eligible, -torch.inf).softmax(-1)
        found[chunk.layer] = -torch.special.xlogy(p, p).sum(-1)[0]
        return capture_sparse(chunk)

    for _ in CapturedModel(model).run(torch.tensor([sample.input_ids]), observer=observe, chunk=LENGTH):
        pass
    return torch.stack([found[layer] for layer in sorted(found)]).numpy()


@pytest.mark.parametrize("chunk", [16, 40, 64, 512])
def test_the_same_queries_are_measured_whatever_the_chunk(chunk: int) -> None:
    seen: list[int] = []

    def observe(piece):
        for part in measured_parts(piece, LENGTH, 4):
            queries = part.query.shape[2]
            assert part.key.shape[2] == part.eligible.shape[3] == part.start + queries
            if piece.layer == 0:
                seen.extend(range(part.start, part.start + queries))
        return capture_sparse(piece)

    for _ in CapturedModel(tiny_dsa(layers=1)).run(torch.tensor([SAMPLES[0].input_ids]), observe, chunk):
        pass
    assert seen == [t for t in range(LENGTH) if t // BLOCK % 4 == 2]


@pytest.mark.parametrize("length", [2, 15, 16, 17, 40, 64, 100])
def test_a_short_sequence_is_never_left_unmeasured(length: int) -> None:
    sample = Sample(0, "s", SAMPLES[0].input_ids[:length])
    tables = extract_samples(tiny_dsa(layers=1), [sample], ExtractSettings(chunk=32, query_every=8))
    assert 0 < tables["attention"].filter(head=0)["queries"].sum() <= length
    assert tables["tokens"]["tokens"].sum() == length - 1, "every token is predicted all the same"


def test_measured_queries_have_the_features_that_they_have_among_all() -> None:
    model = tiny_llama()
    settings = ExtractSettings(chunk=64, query_every=4)
    table = extract_samples(model, SAMPLES[:1], settings)["attention"]
    expected = entropies(model, SAMPLES[0])
    for row in table.iter_rows(named=True):
        start, stop = 2 ** row["bucket"] - 1, 2 ** (row["bucket"] + 1) - 1
        seen = [t for t in range(start, min(stop, LENGTH)) if t // BLOCK % 4 == 2]
        assert row["queries"] == len(seen)
        assert row["attention_entropy"] == pytest.approx(expected[row["layer"], row["head"], seen].mean(), abs=1e-4)


def test_unmeasured_queries_run_and_change_no_logit() -> None:
    settings = ExtractSettings(chunk=64)
    every = extract_samples(tiny_llama(), SAMPLES[:1], settings)["tokens"]
    fourth = extract_samples(tiny_llama(), SAMPLES[:1], settings.model_copy(update={"query_every": 4}))["tokens"]
    assert (every["nll"] - fourth["nll"]).abs().max() < 1e-4  # type: ignore[operator]


@pytest.mark.parametrize("every", [2, 4, 8])
def test_the_mean_is_within_the_stated_standard_error(every: int) -> None:
    model = tiny_llama()
    errors = []
    sampled = extract_samples(model, SAMPLES, ExtractSettings(chunk=64, query_every=every))["attention"]
    means = sampled.group_by("sample", "layer", "head").agg(
        mean=(pl.col("attention_entropy") * pl.col("queries")).sum() / pl.col("queries").sum()
    )
    for sample in SAMPLES:
        truth = entropies(model, sample)
        blocks = np.stack([truth[..., t : t + BLOCK].mean(-1) for t in range(0, LENGTH, BLOCK)], axis=-1)
        seen = len([block for block in range(blocks.shape[-1]) if block % every == every // 2])
        standard_error = blocks.std(-1, ddof=1) / np.sqrt(seen) * np.sqrt(1 - 1 / every)
        for row in means.filter(sample=sample.index).iter_rows(named=True):
            place = row["layer"], row["head"]
            errors.append((row["mean"] - truth[place].mean()) / standard_error[place])
    assert np.abs(errors).max() < 3
    assert np.sqrt(np.mean(np.square(errors))) < 1.2
