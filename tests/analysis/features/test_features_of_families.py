"""Features of every indexer family, one query at a time in float64 from what the capture shows.

That the capture shows what the model itself computed is proven in tests/analysis/capture/test_families.py.
"""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import polars as pl
import pytest
import torch

from indexscope.analysis.capture import AttentionChunk
from indexscope.analysis.features import extract_samples
from indexscope.analysis.features.uniform import UNIFORM
from indexscope.analysis.settings import ExtractSettings
from tests.analysis.capture.tiny_families import FAMILIES, record
from tests.analysis.features.reference import uniform_row
from tests.analysis.samples import samples

LENGTH = 40
SETTINGS = ExtractSettings(chunk=16, dense_reference=False, sparsity_threshold=0.02)
PER_HEAD = ("attention_entropy", "participation", "sparsity_ratio", "max_weight", "top_5_mass", "keys_for_95")
OF_TOKENS = ("local_mass", "sink_mass", "self_mass", "previous_mass", "mean_distance", "induction_mass")


def attention(chunk: AttentionChunk, head: int, t: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Eligible keys of query t, its dense p over them and Z relative to the largest logit, without the sink."""
    keys = chunk.eligible[0, 0, t].nonzero().flatten().numpy()
    logits = chunk.logits()[0, head, t].double().numpy()[keys]
    weights = np.exp(logits - logits.max())
    return keys, weights / weights.sum(), float(weights.sum())


def of_head(p: np.ndarray) -> dict[str, float]:
    largest, held, count = sorted(p, reverse=True), 0.0, 0
    while held < 0.95:
        held += largest[count]
        count += 1
    return {
        "attention_entropy": -sum(x * math.log(x) for x in p if x > 0),
        "participation": 1 / sum(x * x for x in p),
        "sparsity_ratio": sum(x < 0.02 for x in p) / len(p),
        "max_weight": largest[0],
        "top_5_mass": sum(largest[:5]),
        "keys_for_95": count / len(p),
    }


def of_selection(chunk: AttentionChunk, t: int) -> dict[str, float] | None:
    """Recall and its neighbours by group of heads, averaged over groups; None where nothing is left out."""
    groups, heads = chunk.selected.shape[1], chunk.query.shape[1]
    found = defaultdict(list)
    left_out = False
    for group in range(groups):
        own = range(group * heads // groups, (group + 1) * heads // groups)
        keys = attention(chunk, 0, t)[0]
        mean = np.mean([attention(chunk, head, t)[1] for head in own], axis=0)
        taken = chunk.selected[0, group, t].numpy()[keys]
        k = int(taken.sum())
        left_out |= k < len(keys)
        oracle = np.argsort(-mean, kind="stable")[:k]
        found["selection_recall"].append(mean[taken].sum())
        found["oracle_recall"].append(mean[oracle].sum())
        found["random_recall"].append(k / len(keys))
        found["oracle_overlap"].append(taken[oracle].mean())
        found["top_key_kept"].append(float(taken[np.argmax(mean)]))
        own, before = (chunk.selected[0, group, place].numpy() for place in (t, max(t - 1, 0)))
        found["selection_reuse"].append((own & before).sum() / k if k and chunk.positions is None else math.nan)
    return {name: float(np.mean(values)) for name, values in found.items()} if left_out else None


def of_scores(chunk: AttentionChunk, t: int) -> dict[str, float]:
    """Margin, gap and zero share over the entries that were up for selection, averaged over groups."""
    scores = chunk.scores if chunk.scores.ndim == 4 else chunk.scores.unsqueeze(1)
    chosen = chunk.selected if chunk.chosen is None else chunk.chosen
    chosen = chosen if chosen.ndim == 4 else chosen.unsqueeze(1)
    margins, gaps, zeros = [], [], []
    for group in range(scores.shape[1]):
        row = scores[0, group, t].double().numpy()
        up = np.isfinite(row)
        taken = chosen[0, group, t].numpy() & up
        if up.any():
            zeros.append((row[up] == 0).mean())
        if taken.any() and (up & ~taken).any():
            kth, rival = row[taken].min(), row[up & ~taken].max()
            margins.append(0.0 if kth == rival else (kth - rival) / row[up].std())
            apart = row[taken].mean() - row[up & ~taken].mean()
            gaps.append(apart / row[up].std() if np.ptp(row[up]) > 0 else 0.0)
    return {
        "score_margin": float(np.mean(margins)) if margins else math.nan,
        "score_gap": float(np.mean(gaps)) if gaps else math.nan,
        "zero_share": float(np.mean(zeros)) if zeros else math.nan,
    }


def by_bucket(rows: dict[int, dict[str, float]]) -> pl.DataFrame:
    listed = [{"bucket": (t + 1).bit_length() - 1, **row} for t, row in rows.items()]
    return pl.DataFrame(listed).fill_nan(None).group_by("bucket").mean().sort("bucket")


def agree(found: pl.DataFrame, expected: pl.DataFrame, names: tuple[str, ...]) -> None:
    both = expected.join(found.with_columns(pl.col("bucket").cast(pl.Int64)), on="bucket", suffix="_found")
    assert len(both) == len(expected)
    for name in names:
        wanted, got = both[name], both[f"{name}_found"]
        assert wanted.is_null().to_list() == got.is_null().to_list(), name
        np.testing.assert_allclose(
            got.cast(pl.Float64).to_numpy(), wanted.cast(pl.Float64).to_numpy(), rtol=2e-3, atol=2e-4, err_msg=name
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_features_equal_a_slow_float64_reference(family: str) -> None:
    model, one = FAMILIES[family](), samples(LENGTH)
    tables = extract_samples(model, one, SETTINGS)
    _, layers = record(FAMILIES[family](), torch.tensor([one[0].input_ids]), LENGTH)
    assert sorted(layers) == tables["attention"]["layer"].unique().sort().to_list()
    for layer, (chunk,) in layers.items():
        table = tables["attention"].filter(layer=layer)
        for head in range(chunk.query.shape[1]):
            rows = {t: of_head(attention(chunk, head, t)[1]) for t in range(LENGTH)}
            agree(table.filter(head=head), by_bucket(rows), PER_HEAD)
        compressed = chunk.positions is not None and bool((chunk.positions < 0).any())
        for name in (*OF_TOKENS, *UNIFORM):
            assert table[name].is_null().all() == compressed, name
        if not compressed:
            places = range(LENGTH) if chunk.positions is None else chunk.positions.tolist()
            seen = {t: [places[key] for key in attention(chunk, 0, t)[0]] for t in range(LENGTH)}
            ids = list(one[0].input_ids)
            uniform = by_bucket({t: uniform_row(keys, t, 32, 4, ids) for t, keys in seen.items()})
            agree(table.filter(head=0), uniform, UNIFORM)
        indexer = tables["indexer"].filter(layer=layer)
        if chunk.selected is None:
            assert indexer.is_empty()
            continue
        selections = {t: of_selection(chunk, t) for t in range(LENGTH)}
        counted = indexer.sort("bucket").select("bucket", "queries_in_effect")
        in_effect = {t: row for t, row in selections.items() if row is not None}
        assert in_effect, "the sequence is long enough for the selection to leave keys out"
        assert int(counted["queries_in_effect"].sum()) == len(in_effect)
        expected = by_bucket(in_effect)
        agree(indexer, expected, tuple(expected.columns[1:]))
        if chunk.scores is None:
            assert indexer["score_margin"].is_null().all()
            continue
        scored = by_bucket({t: of_scores(chunk, t) for t in range(1, LENGTH)})
        agree(indexer, scored, ("score_margin", "score_gap", "zero_share"))
        assert indexer["indexer_kl"].is_null().all() == (chunk.entries is not None)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_score_sketches_hold_each_entry_that_was_up_for_selection(family: str) -> None:
    one = samples(LENGTH)
    table = extract_samples(FAMILIES[family](), one, SETTINGS)["scores"]
    _, layers = record(FAMILIES[family](), torch.tensor([one[0].input_ids]), LENGTH)
    for layer, (chunk,) in layers.items():
        own = table.filter(layer=layer)
        if chunk.scores is None:
            assert own.is_empty()
            continue
        scores = chunk.scores if chunk.scores.ndim == 4 else chunk.scores.unsqueeze(1)
        queries = [t for t in range(LENGTH) if of_selection(chunk, t) is not None]
        held = scores[0, :, queries].double().numpy()
        held = held[np.isfinite(held)]
        assert own["count"].sum() == len(held)
        total = (own["mean"] * own["count"]).sum()
        assert total == pytest.approx(held.sum(), rel=1e-4, abs=1e-3)
