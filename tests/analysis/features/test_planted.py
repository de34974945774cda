"""Planted attention with answers that can be written down."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indexscope.analysis.capture import AttentionChunk
from indexscope.analysis.features.metrics.concentration import concentration
from indexscope.analysis.features.metrics.entropy import entropy
from indexscope.analysis.features.metrics.locality import locality
from indexscope.analysis.features.metrics.recall import attend
from indexscope.analysis.features.metrics.scores import score_features
from indexscope.analysis.features.metrics.sparsity import sparsity
from indexscope.analysis.features.positions import distance_bins, relative_bins
from indexscope.analysis.features.rows import AttentionRows
from indexscope.analysis.features.score_rows import ScoreRows
from indexscope.analysis.features.shape import MapShape


def rows_of(p: torch.Tensor, selected: torch.Tensor | None = None, start: int = 0) -> AttentionRows:
    """Rows whose attention is p [heads, queries, keys]: one-hot queries read the logits off the keys."""
    heads, queries, keys = p.shape
    eligible = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
    logits = torch.where(p > 0, p.log(), -80.0)
    chunk = AttentionChunk(
        layer=0, start=start, query=torch.eye(queries).expand(1, heads, -1, -1),
        key=logits.transpose(1, 2).unsqueeze(0),
        value=torch.eye(keys).expand(1, heads, -1, -1), eligible=eligible[None, None],
        selected=None if selected is None else selected[None, None] & eligible, scores=None, scaling=1.0,
    )  # fmt: skip
    return AttentionRows(chunk)


def uniform(n: int) -> torch.Tensor:
    return (torch.ones(n, n).tril() / torch.arange(1, n + 1)[:, None]).unsqueeze(0)


def test_uniform_attention_has_the_entropy_of_its_keys() -> None:
    rows = rows_of(uniform(32))
    found = entropy(rows)
    n = torch.arange(1, 33.0)
    torch.testing.assert_close(found["attention_entropy"][0, 0], n.log(), atol=1e-5, rtol=0)
    torch.testing.assert_close(found["normalized_entropy"][0, 0, 1:], torch.ones(31), atol=1e-5, rtol=0)
    assert found["normalized_entropy"][0, 0, 0].isnan()
    torch.testing.assert_close(found["participation"][0, 0], n, atol=1e-3, rtol=0)
    few = concentration(rows, top_k=4)
    assert few["top_5_mass"][0, 0, 31] == pytest.approx(5 / 32)
    assert few["top_k_mass"][0, 0, 1] == pytest.approx(1.0), "fewer keys than the budget hold everything"
    assert few["keys_for_95"][0, 0, 31] == pytest.approx(31 / 32)
    assert sparsity(rows, 0.04)["sparsity_ratio"][0, 0].tolist() == [float(n > 25) for n in range(1, 33)]


def test_one_key_attention_has_none() -> None:
    p = torch.zeros(1, 16, 16)
    p[0, :, 0] = 1
    rows = rows_of(p)
    assert entropy(rows)["attention_entropy"].abs().max() < 1e-6
    where = locality(rows, window=4, sink_keys=4)
    assert where["sink_mass"][0, 0].tolist() == pytest.approx([1.0] * 16)
    assert where["mean_distance"][0, 0].tolist() == pytest.approx(list(range(16)))
    assert where["local_mass"][0, 0].tolist() == pytest.approx([1.0] * 4 + [0.0] * 12)
    assert where["previous_mass"][0, 0].tolist() == pytest.approx([0, 1, *[0] * 14])
    assert sparsity(rows, 0.01)["sparsity_ratio"][0, 0, 15] == pytest.approx(15 / 16)


def test_recall_and_output_of_a_selection_that_misses_a_quarter() -> None:
    p = torch.tensor([[[0.5, 0.25, 0.25]]])
    outcome = attend(rows_of(p, torch.tensor([[True, True, False]]), start=2))
    assert outcome.features["head_recall"].item() == pytest.approx(0.75)
    assert outcome.features["selection_recall"].item() == pytest.approx(0.75)
    assert outcome.features["oracle_recall"].item() == pytest.approx(0.75)
    assert outcome.features["random_recall"].item() == pytest.approx(2 / 3)
    torch.testing.assert_close(outcome.output[0, 0, 0], torch.tensor([2 / 3, 1 / 3, 0.0]))
    gap, norm = math.hypot(1 / 6, 1 / 12, 1 / 4), math.hypot(0.5, 0.25, 0.25)
    assert outcome.features["output_error"].item() == pytest.approx(gap / norm)


def test_a_selection_of_keys_that_nobody_attends_to_still_gives_a_finite_output() -> None:
    p = torch.tensor([[[1.0, 0.0, 0.0]]])  # the logits of the others are 80 lower
    outcome = attend(rows_of(p, torch.tensor([[False, True, True]]), start=2))
    torch.testing.assert_close(outcome.output[0, 0, 0], torch.tensor([0.0, 0.5, 0.5]))


@pytest.mark.parametrize(("taken", "kept"), [([1, 0, 0], 0.0), ([0, 1, 0], 1.0), ([0, 0, 1], 0.0), ([1, 0, 1], 0.0)])
def test_the_top_key_is_that_of_the_mean_over_heads(taken: list[int], kept: float) -> None:
    """The heads look most at keys 0 and 2, and together most at key 1."""
    p = torch.tensor([[[0.6, 0.4, 0.0]], [[0.0, 0.45, 0.55]]])
    found = attend(rows_of(p, torch.tensor([taken]).bool(), start=2)).features
    assert found["top_key_kept"].tolist() == [[kept]]


def test_of_keys_that_share_the_largest_attention_one_is_enough() -> None:
    p = torch.tensor([[[0.4, 0.4, 0.2]]])
    for taken, kept in (([1, 0, 0], 1.0), ([0, 1, 0], 1.0), ([0, 0, 1], 0.0), ([0, 0, 0], 0.0)):
        found = attend(rows_of(p, torch.tensor([taken]).bool(), start=2)).features
        assert found["top_key_kept"].item() == kept


def gap_of(scores: list[float], selected: list[int]) -> float:
    n = len(scores)
    rows = rows_of(uniform(n)[:, n - 1 :], start=n - 1)
    masks = ScoreRows.from_masks(torch.tensor([[scores]]), torch.tensor([[selected]]).bool(), rows.eligible)
    return score_features(rows, masks)["score_gap"].item()


def test_the_gap_is_that_of_the_means_in_deviations_of_the_row() -> None:
    assert gap_of([3.0, 2.0, 1.0, 0.0], [1, 1, 0, 0]) == pytest.approx(2 / math.sqrt(1.25))
    assert gap_of([7.0, 5.0, 5.0, 5.0], [1, 0, 0, 0]) == pytest.approx(4 / math.sqrt(3)), "the largest of k = 1, n = 4"
    assert gap_of([1000.5, 1000.0, 1000.0, 1000.5], [1, 0, 0, 1]) == pytest.approx(2), "wherever the scores lie"
    assert gap_of([3.0, 2.0, 1.0, 0.0], [0, 0, 1, 1]) == pytest.approx(-2 / math.sqrt(1.25)), "not by score"
    assert gap_of([0.3] * 4, [1, 0, 0, 0]) == 0.0, "equal scores are not apart"
    assert math.isnan(gap_of([3.0, 2.0, 1.0, 0.0], [1, 1, 1, 1])), "nothing is left out"


def test_a_gap_may_be_wide_where_the_margin_is_narrow() -> None:
    scores = [9.0, 8.0, 5.01, 5.0, 1.0, 0.0]
    rows = rows_of(uniform(6)[:, 5:], start=5)
    chosen = torch.tensor([[[True] * 3 + [False] * 3]])
    found = score_features(rows, ScoreRows.from_masks(torch.tensor([[scores]]), chosen, rows.eligible))
    assert found["score_margin"].item() < 0.01
    assert found["score_gap"].item() > 1.5


def test_ties_at_the_kth_score_are_counted_and_distinct_scores_are_not() -> None:
    rows = rows_of(uniform(4)[:, 3:], start=3)
    selected = torch.tensor([[[True, True, False, False]]])
    tied = score_features(rows, ScoreRows.from_masks(torch.tensor([[[2.0, 0.0, 0.0, 0.0]]]), selected, rows.eligible))
    assert tied["tie_share"].item() == pytest.approx(0.5)
    assert tied["score_margin"].item() == 0.0
    assert tied["zero_share"].item() == pytest.approx(0.75)
    clear = score_features(rows, ScoreRows.from_masks(torch.tensor([[[3.0, 2.0, 1.0, 0.0]]]), selected, rows.eligible))
    assert clear["tie_share"].item() == 0.0
    assert clear["score_margin"].item() == pytest.approx(1 / math.sqrt(1.25))
    all_keys = torch.ones(1, 1, 4, dtype=torch.bool)
    everything = score_features(rows, ScoreRows.from_masks(torch.tensor([[[3.0, 2, 1, 0]]]), all_keys, rows.eligible))
    assert everything["tie_share"].isnan().all()


def test_scores_equal_to_the_log_attention_do_not_diverge() -> None:
    p = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0)).tril() + torch.eye(8)
    p = p / p.sum(-1, keepdim=True)
    rows = rows_of(p)
    scores = torch.where(p > 0, p.log(), -torch.inf)
    selected = torch.ones(1, 8, 8, dtype=torch.bool).tril()
    torch.testing.assert_close(
        score_features(rows, ScoreRows.from_masks(scores, selected, rows.eligible))["indexer_kl"],
        torch.zeros(1, 8),
        atol=1e-6,
        rtol=0,
    )


@pytest.mark.parametrize("chunk", [5, 16, 64])
def test_stripes_are_found_where_they_were_planted(chunk: int) -> None:
    n = 64
    p = torch.zeros(2, n, n)
    for t in range(n):
        p[0, t, max(0, t - 7)] = 0.6  # a slash at distance 7
        p[0, t, t] += 0.4
        p[1, t, 9 if t > 9 else t] = 0.8  # a column at key 9
        p[1, t, t] += 0.2
    shape = MapShape(1, 2, n, torch.device("cpu"))
    for start in range(0, n, chunk):
        last = min(n, start + chunk)
        shape.add(rows_of(p[:, start:last, :last], start=start))
    found = shape.features(sink_keys=4)
    assert found["slash_mass"][0].tolist()[0] == pytest.approx(0.6, abs=1e-5)
    assert found["slash_distance"][0, 0] == 7
    # Column 9 holds 0.8 of each row, the next three strongest 0.2 of one row each.
    assert found["vertical_mass"][0, 1] == pytest.approx((0.8 * 48 + 3 * 0.2) / 48, abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(0, 10**6))
def test_invariants_of_any_attention(n: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    p = torch.rand(1, n, n, generator=generator).pow(4).tril() + torch.eye(n) * 1e-3
    rows = rows_of(p / p.sum(-1, keepdim=True))
    found = entropy(rows) | concentration(rows, 8) | locality(rows, 8, 4) | sparsity(rows, 0.01)
    h = found["attention_entropy"]
    assert (h >= 0).all()
    assert (h <= rows.n.log() + 1e-5).all()
    # Renyi entropies fall with their order: e^H >= 1 / sum p^2 >= 1 / max p.
    assert (found["effective_keys"] >= found["participation"] * (1 - 1e-4)).all()
    assert (found["participation"] >= (1 - 1e-4) / found["max_weight"]).all()
    masses = [found[f"top_{k}_mass"] for k in (5, 10, 20, 64)]
    assert all((a <= b + 1e-6).all() for a, b in pairwise(masses))
    assert ((found["keys_for_95"] > 0) & (found["keys_for_95"] <= 1 + 1e-6)).all()
    assert (found["self_mass"] + found["previous_mass"] <= found["local_mass"] + 1e-5).all()


def test_bins_cover_every_key_once() -> None:
    assert distance_bins(torch.arange(9)).tolist() == [0, 1, 2, 2, 3, 3, 3, 3, 4]
    eligible = torch.ones(25, 25, dtype=torch.bool).tril()
    bins = relative_bins(eligible)
    assert bins[24].tolist() == [s * 10 // 25 for s in range(25)]
    assert bins[0, 0] == 0
