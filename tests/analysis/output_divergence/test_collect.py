"""Claims about the next-token distributions that a close-up keeps, against a plain forward of the model."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from indexscope.analysis.capture import own_attention
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.protocol import as_source
from indexscope.analysis.closeup.classes import CLASSES
from indexscope.analysis.closeup.looking import collect_samples
from indexscope.analysis.closeup.rows import closeup_queries
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.output_divergence.collect import prediction_collector
from indexscope.analysis.output_divergence.predictions import LOGITS, unpacked
from indexscope.analysis.settings import ExtractSettings
from tests.analysis.samples import samples

KINDS = (np.arange(60) % 6).astype(np.int8)


def looked(model, top: int, chunk: int = 16, classes=KINDS) -> pl.DataFrame:
    attempt = Attempt(as_source(model), ExtractSettings(chunk=chunk, device="cpu"), Journal())
    makers = [prediction_collector(top, classes)]
    return collect_samples(as_source(model), samples(50, 33, 8), makers, 10, attempt)["logits"]


def plain(model) -> tuple[np.ndarray, list[int], list[int]]:
    """Log-probabilities of every sampled query in float64, [Q, V]; true next tokens, -1 after the last; positions."""
    parts, truth, positions = [], [], []
    for sample in samples(50, 33, 8):
        places, _ = closeup_queries(len(sample.input_ids), 10, sample.index)
        with own_attention(model), torch.no_grad():
            parts.append(model(torch.tensor([sample.input_ids])).logits[0, places].double().log_softmax(-1).numpy())
        truth += [[*sample.input_ids[1:], -1][place] for place in places]
        positions += places.tolist()
    return np.concatenate(parts), truth, positions


@pytest.mark.parametrize("kind", ["dsa", "llama"])
def test_what_is_kept_is_what_the_model_predicts(kind: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(kind)
    expected, truth, positions = plain(model)
    table = looked(model, 4096)
    assert dict(table.schema) == LOGITS.schema
    assert table["query"].to_list() == positions
    assert table["next_token"].to_list() == [None if token < 0 else token for token in truth]
    assert table["top_token"].to_list() == expected.argmax(-1).tolist()
    nll = [None if token < 0 else -row[token] for row, token in zip(expected, truth, strict=True)]
    assert table["nll"].to_list() == [None if value is None else pytest.approx(value, abs=1e-4) for value in nll]
    classes = [None if token < 0 else CLASSES[KINDS[token]] for token in truth]
    assert table["token_class"].to_list() == classes
    assert table["vocabulary"].unique().to_list() == table["kept"].unique().to_list() == [97]
    assert table["rest"].to_list() == [0.0] * len(table)
    read = unpacked(table)
    assert read.tokens.reshape(len(table), 97).tolist() == [list(range(97))] * len(table)
    assert np.abs(read.log_probs - expected.ravel()).max() < 2e-3 * np.abs(expected).max()
    assert np.exp(read.log_probs).reshape(len(table), 97).sum(-1) == pytest.approx(1.0, abs=1e-12)


def test_the_likeliest_tokens_are_kept_and_the_others_summed(dsa) -> None:
    expected, _, _ = plain(dsa)
    table = looked(dsa, 7)
    read = unpacked(table)
    kept = np.sort(np.argsort(-expected, axis=-1)[:, :7], axis=-1)
    assert read.tokens.reshape(-1, 7).tolist() == kept.tolist()
    inside = np.take_along_axis(np.exp(expected), kept, axis=-1)
    assert table["rest"].to_numpy() == pytest.approx(1 - inside.sum(-1), abs=1e-6)
    assert np.exp(read.log_probs) == pytest.approx(inside.ravel(), rel=2e-3)
    columns = ("query", "nll", "top_token", "next_token")
    assert table.select(columns).equals(looked(dsa, 0).select(columns)), "these need no stored token"


def test_chunks_change_nothing_but_rounding(dsa) -> None:
    one, other = looked(dsa, 97, chunk=16), looked(dsa, 97, chunk=50)
    exact = ("sample", "query", "weight", "next_token", "top_token")
    assert one.select(exact).equals(other.select(exact))
    assert (one["nll"] - other["nll"]).abs().max() < 1e-4  # type: ignore[operator]


def test_weights_are_the_queries_that_each_stands_for(dsa) -> None:
    weights = looked(dsa, 0).group_by("sample").agg(pl.col("weight").sum(), pl.len()).sort("sample")
    assert weights["weight"].to_list() == [50, 33, 8] and weights["len"].to_list() == [10, 10, 8]


def test_without_a_tokenizer_tokens_have_no_class(dsa) -> None:
    assert looked(dsa, 0, classes=None)["token_class"].null_count() == 28
