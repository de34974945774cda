"""What only torch computes: groups that select for themselves, pooled entries, compressed keys."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from indexscope.analysis.capture.chunk import AttentionChunk, Entries
from indexscope.analysis.features.layer import LayerFeatures
from tests.analysis.features.drawn import SETTINGS, features_of, whole

SPATIAL = ("local_mass", "sink_mass", "self_mass", "previous_mass", "mean_distance", "induction_mass")


def grouped(n: int, seed: int) -> tuple[AttentionChunk, list[AttentionChunk]]:
    """A chunk whose two groups select for themselves, and each group as a chunk of its own."""
    both = whole(n, seed)
    other = whole(n, seed + 1)
    chunk = replace(
        both,
        selected=torch.cat([both.selected, other.selected], 1),
        scores=torch.stack([both.scores, other.scores], 1),
    )
    alone = [
        replace(
            both, query=both.query[:, 2 * g : 2 * g + 2], key=both.key[:, g : g + 1], value=both.value[:, g : g + 1],
            selected=chunk.selected[:, g : g + 1], scores=chunk.scores[:, g],
        )
        for g in range(2)
    ]  # fmt: skip
    return chunk, alone


def run(chunk: AttentionChunk) -> tuple[LayerFeatures, torch.Tensor]:
    batch, heads, n, _ = chunk.query.shape
    layer = LayerFeatures(SETTINGS, batch, heads, n, 6, torch.device("cpu"))
    ids = torch.randint(7, (batch, n), generator=torch.Generator().manual_seed(5))
    return layer, layer.add(chunk, ids)


def test_groups_have_the_mean_of_the_features_they_have_alone() -> None:
    chunk, alone = grouped(40, 7)
    together, output = run(chunk)
    apart = [run(one) for one in alone]
    torch.testing.assert_close(output, torch.cat([found for _, found in apart], 1), rtol=1e-4, atol=1e-5)
    for name, mean in together.per_query.means().items():
        expected = np.mean([layer.per_query.means()[name] for layer, _ in apart], axis=0)
        np.testing.assert_allclose(mean, expected, rtol=1e-4, atol=1e-5, err_msg=name)
    heads = np.concatenate([layer.per_head.sums for layer, _ in apart], axis=2)
    np.testing.assert_allclose(together.per_head.sums, heads, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(together.histogram, sum(layer.histogram for layer, _ in apart))
    both = [layer.positions[0].selections for layer, _ in apart]
    torch.testing.assert_close(together.positions[0].selections, (both[0] + both[1]) / 2)


def test_pooled_entries_are_judged_among_themselves() -> None:
    n, pool, k = 32, 4, 3
    chunk = whole(n, k=None)
    entries = n // pool
    t, e = torch.arange(n)[:, None], torch.arange(entries)
    complete = (e + 1) * pool - 1 <= t
    scores = torch.randn(1, n, entries, generator=torch.Generator().manual_seed(1)).masked_fill(~complete, -torch.inf)
    chosen = torch.zeros(1, n, entries, dtype=torch.bool).scatter_(-1, scores.topk(k, dim=-1).indices, True) & complete
    tail = torch.arange(n)[None, :] // pool == t // pool
    selected = (chosen.repeat_interleave(pool, -1) | tail).unsqueeze(1) & chunk.eligible
    first = (e * pool)[None]
    pooled = replace(
        chunk, selected=selected, scores=scores, chosen=chosen, entries=Entries("pool", first, first + pool - 1)
    )
    layer, _ = run(pooled)
    means = layer.per_query.means()
    assert np.isnan(means["indexer_kl"]).all()
    # Queries that leave a pool out: those that see more than k complete ones.
    rows = [u for u in range(n) if (u + 1) // pool > k]
    in_effect = [u for u in range(n) if int(selected[0, 0, u].sum()) < u + 1]
    assert rows == in_effect
    margins = []
    for u in rows:
        up = scores[0, u][complete[u]].double()
        ordered = up.sort(descending=True).values
        margins.append(float((ordered[k - 1] - ordered[k]) / up.std(correction=0)))
    place = layer.per_query.names.index("score_margin")
    assert layer.per_query.sums[place].sum() == pytest.approx(sum(margins), rel=1e-5)
    assert layer.per_query.counts[place].sum() == len(rows)
    assert layer.sketches[0]["selected"].count == k * len(rows)
    assert layer.sketches[0]["unselected"].count == sum((u + 1) // pool - k for u in rows)


def test_compressed_keys_leave_what_needs_distances_undefined() -> None:
    chunk = whole(30)
    positions = torch.arange(30)
    positions[:5] = -1
    layer, output = run(replace(chunk, positions=positions))
    expected, same = run(chunk)
    torch.testing.assert_close(output, same, rtol=1e-4, atol=1e-5)
    means, others = layer.per_head.means(), expected.per_head.means()
    for name in means:
        if name in SPATIAL:
            assert np.isnan(means[name]).all(), name
        else:
            np.testing.assert_allclose(means[name], others[name], rtol=2e-4, atol=2e-5, err_msg=name)
    assert layer.positions == [None]
    assert layer.shape.features(3)["slash_mass"].isnan().all()


def test_positions_in_their_usual_order_change_nothing() -> None:
    chunk = whole(30)
    given, _ = run(replace(chunk, positions=torch.arange(30)))
    usual, _ = features_of(chunk, False)
    np.testing.assert_allclose(given.per_head.sums, usual.per_head.sums, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(given.shape.by_distance, usual.shape.by_distance)


def test_probabilities_without_values_have_every_feature_but_the_output_error() -> None:
    chunk = whole(30)
    logits = chunk.logits().masked_fill(~chunk.eligible, -torch.inf)
    bare = replace(chunk, probabilities=logits.softmax(-1), value=chunk.value[..., :0])
    layer, output = run(bare)
    usual, _ = features_of(chunk, False)
    assert output.shape == (1, 4, 30, 0)
    for name, mean in layer.per_head.means().items():
        if name == "output_error":
            assert np.isnan(mean).all()
        else:
            np.testing.assert_allclose(mean, usual.per_head.means()[name], rtol=2e-4, atol=2e-5, err_msg=name)


def test_queries_may_select_different_numbers_of_keys() -> None:
    chunk = whole(30, k=4)
    tail = torch.arange(30)[None, :] > torch.arange(30)[:, None] - (torch.arange(30)[:, None] % 4)
    uneven = replace(chunk, selected=(chunk.selected | tail) & chunk.eligible, scores=None)
    torch_only, _ = features_of(uneven_part(uneven), False)
    kernels, _ = features_of(uneven_part(uneven), True)
    mean = (chunk.logits().masked_fill(~chunk.eligible, -torch.inf).softmax(-1)).mean(1)[0]
    best = 0.0
    for t in range(30):
        k = int(uneven.selected[0, 0, t].sum())
        best += float(mean[t].topk(k).values.sum()) if k < t + 1 else 0.0
    for layer in (torch_only, kernels):
        assert layer.per_query.sums[layer.per_query.names.index("oracle_recall")].sum() == pytest.approx(best, rel=1e-5)


def uneven_part(chunk: AttentionChunk) -> AttentionChunk:
    return replace(chunk, scores=torch.full((1, 30, 30), -torch.inf))
