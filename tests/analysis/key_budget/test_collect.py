"""Claims about the key budget."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indexscope.analysis.capture import CapturedModel
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.closeup.looking import collect_samples
from indexscope.analysis.closeup.order import held
from indexscope.analysis.features import extract_samples
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.key_budget.collect import TARGETS, budget_collector, budget_grid, drift_collector
from indexscope.analysis.metrics.sums import table_sums
from indexscope.analysis.settings import ExtractSettings
from tests.analysis.capture.tiny_architectures import tiny
from tests.analysis.capture.tiny_families import dots3_note, minimax_m3
from tests.analysis.closeup.made_rows import made, sample, topk
from tests.analysis.samples import samples

LENGTH = 40


def tables(*layers, length: int = LENGTH) -> dict[str, pl.DataFrame]:
    collector = budget_collector()(sample(length))
    for rows in layers:
        collector.add([rows])
    return collector.tables()


def geometric(order: torch.Tensor) -> torch.Tensor:
    """Attention 1/2, 1/4, 1/8 ... on the keys of an order, the last two equal, so that it adds up to one."""
    weights = 0.5 ** torch.arange(1, len(order) + 1, dtype=torch.float64)
    weights[-1] *= 2
    return torch.zeros(len(order), dtype=torch.float64).scatter(0, order, weights)


def random_rows(seed: int, queries: int = 6, keys: int = 20, levels: int = 4, k: int = 5):
    random = torch.Generator().manual_seed(seed)
    p = torch.rand(queries, keys, generator=random, dtype=torch.float64) ** 4
    query = torch.arange(keys - queries, keys)
    p = torch.where(torch.arange(keys) <= query[:, None], p, 0.0)
    p = p / p.sum(-1, keepdim=True)
    scores = torch.randint(levels, (queries, keys), generator=random).float()
    return made(p, scores, topk(scores, query, k), query, torch.arange(1.0, queries + 1).double())


def test_geometric_attention_needs_a_known_number_of_keys() -> None:
    """1 - 2^-m >= target: 4 keys for 90 %, 5 for 95 %, 7 for 99 %; scores in reverse need nearly all."""
    order = torch.randperm(LENGTH, generator=torch.Generator().manual_seed(0))
    p = geometric(order)[None]
    scores = torch.zeros(LENGTH, dtype=torch.float64).scatter(0, order, torch.arange(LENGTH, 0, -1.0).double())[None]
    best = tables(made(p, scores, topk(scores, torch.tensor([LENGTH - 1]), 3)))["keys_needed"].sort("target")
    assert best["oracle_keys"].to_list() == [4, 5, 7] == best["indexer_keys"].to_list()
    assert best["oracle_mass"].to_list() == pytest.approx([1 - 2**-4, 1 - 2**-5, 1 - 2**-7])
    assert best["own_recall"].to_list() == pytest.approx([7 / 8] * 3) and best["own_k"].to_list() == [3] * 3
    worst = tables(made(p, -scores, topk(-scores, torch.tensor([LENGTH - 1]), 3)))["keys_needed"].sort("target")
    assert worst["oracle_keys"].to_list() == [4, 5, 7]
    # In reverse, the mass is reached only with the strongest key, whose half is missing until the end.
    assert worst["indexer_keys"].to_list() == [LENGTH] * 3


def test_scores_that_say_nothing_hold_what_chance_holds() -> None:
    p = geometric(torch.arange(LENGTH))[None]
    found = tables(made(p, torch.zeros(1, LENGTH)))
    curve = found["recall_at_k"]
    assert curve["indexer_recall"].to_list() == pytest.approx([min(1, k / LENGTH) for k in budget_grid(LENGTH)])
    assert found["keys_needed"].sort("target")["indexer_keys"].to_list() == [36, 38, 40]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_ties_count_as_the_mean_over_all_ways_to_break_them(seed: int) -> None:
    random = np.random.default_rng(seed)
    p, scores = random.dirichlet(np.ones(6)), random.integers(0, 3, 6)
    orders = [order for order in itertools.permutations(range(6)) if all(np.diff(scores[list(order)]) <= 0)]
    expected = np.mean([np.cumsum(p[list(order)]) for order in orders], axis=0)
    everything = torch.ones(6, dtype=torch.bool)
    got = held(torch.from_numpy(p), everything, torch.from_numpy(scores).float())
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-12)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_the_oracle_needs_fewest_keys_and_recall_grows_with_k(seed: int, levels: int) -> None:
    found = tables(random_rows(seed, levels=levels), length=20)
    needed, curve = found["keys_needed"], found["recall_at_k"].sort("k")
    assert (needed["oracle_keys"] <= needed["indexer_keys"]).all()
    assert (needed["oracle_mass"] >= needed["target"] - 1e-9).all()
    assert (needed["indexer_mass"] >= needed["target"] - 1e-9).all()
    for name in ("indexer_recall", "oracle_recall", "kept"):
        assert (np.diff(curve[name].to_numpy()) >= -1e-12).all()
    assert (curve["oracle_recall"] >= curve["indexer_recall"] - 1e-12).all()
    assert curve["indexer_recall"][-1] == pytest.approx(1.0)


def test_everything_agrees_with_a_slow_reference() -> None:
    """Key by key in float64, scores without ties."""
    rows = random_rows(3, levels=10_000)
    found = tables(rows, length=20)
    weights, p, scores = rows.weight.numpy(), rows.p.double().numpy(), rows.scores.double().numpy()  # type: ignore[union-attr]

    def keys_for(q: int, target: float, order: np.ndarray) -> int:
        total, mass = p[q].sum(), 0.0
        for count, key in enumerate(order, 1):
            mass += p[q, key]
            if mass / total >= target:
                return count
        raise AssertionError

    for target in TARGETS:
        own = found["keys_needed"].filter(pl.col("target") == target)
        for name, by in (("oracle_keys", p), ("indexer_keys", scores)):
            counts = [keys_for(q, target, np.argsort(-by[q], kind="stable")) for q in range(6)]
            expected = np.average(counts, weights=weights)
            assert np.average(own[name], weights=own["weight"]) == pytest.approx(expected)
    for k, recall, kept in found["recall_at_k"].select("k", "indexer_recall", "kept").iter_rows():
        shares = [p[q, np.argsort(-scores[q])[:k]].sum() / p[q].sum() for q in range(6)]
        assert recall == pytest.approx(np.average(shares, weights=weights))
        assert kept == pytest.approx(np.average(np.minimum(rows.n.numpy(), k), weights=weights))


def test_a_dense_model_has_an_oracle_only(llama) -> None:
    source = CapturedModel(llama)
    attempt = Attempt(source, ExtractSettings(chunk=16), Journal())
    found = collect_samples(source, samples(50), [budget_collector(), drift_collector()], 8, attempt)
    assert found["keys_needed"]["indexer_keys"].null_count() == found["keys_needed"].height > 0
    assert (found["keys_needed"]["attended"] == found["keys_needed"]["eligible"]).all()
    assert found["recall_at_k"]["indexer_recall"].null_count() == found["recall_at_k"].height
    assert found["score_drift"].is_empty()


def test_a_real_model_gives_the_same_whatever_the_chunk_and_the_features_recall(dsa) -> None:
    """All queries sampled: own_recall and margins of queries in effect are those of the extraction."""
    source, many = CapturedModel(dsa), samples(60)
    makers = [budget_collector(), drift_collector()]
    by_chunk = [
        collect_samples(source, many, makers, 60 * 60, Attempt(source, ExtractSettings(chunk=chunk), Journal()))
        for chunk in (60, 7)
    ]
    for name in ("keys_needed", "recall_at_k", "score_drift"):
        one, other = (found[name].select(pl.col(pl.Float64)).to_numpy() for found in by_chunk)
        np.testing.assert_allclose(one, other, atol=1e-4)
    features = extract_samples(dsa, many, ExtractSettings(chunk=16))["indexer"]
    drift = by_chunk[0]["score_drift"].filter(pl.col("queries_in_effect") > 0)
    both = features.join(drift, on=["sample", "layer", "bucket"], suffix="_drift")
    assert both.height == drift.height > 0
    np.testing.assert_allclose(both["score_margin"], both["margin"], rtol=1e-4)
    needed = by_chunk[0]["keys_needed"].filter(pl.col("target") == 0.95)
    both = features.join(needed, on=["sample", "layer", "bucket"], suffix="_probe")
    short = both["queries"] - both["queries_in_effect"]
    expected = (both["selection_recall"].fill_null(0.0) * both["queries_in_effect"] + short) / both["queries"]
    np.testing.assert_allclose(both["own_recall"], expected, rtol=1e-4)
    assert table_sums({"indexer": features}, "indexer").cells


def test_groups_that_select_for_themselves_have_no_budget_in_common_but_an_oracle() -> None:
    source = CapturedModel(minimax_m3())
    attempt = Attempt(source, ExtractSettings(chunk=16), Journal())
    found = collect_samples(source, samples(40), [budget_collector()], 8, attempt)["keys_needed"]
    grouped = found.filter(pl.col("layer") > 0)
    assert grouped["attended"].null_count() == grouped["own_recall"].null_count() == grouped.height > 0
    assert grouped["oracle_keys"].null_count() == 0
    assert found.filter(pl.col("layer") == 0)["own_recall"].to_list() == pytest.approx([1.0] * (found.height // 3))


def test_a_layer_that_is_seen_at_early_queries_only_is_left_out() -> None:
    early = [made(torch.ones(1, 4), query=torch.tensor([3]), layer=layer) for layer in (0, 1)]
    late = made(torch.ones(1, 16), query=torch.tensor([15]))
    collector = budget_collector()(sample(16))
    collector.add(early)
    collector.add([late])
    found = collector.tables()
    assert found["keys_needed"]["layer"].unique().to_list() == [0] == found["recall_at_k"]["layer"].unique().to_list()


@pytest.mark.parametrize("chunk", [40, 8])
def test_sliding_layers_are_left_out_whatever_the_chunk(chunk: int) -> None:
    source = CapturedModel(dots3_note())
    attempt = Attempt(source, ExtractSettings(chunk=chunk), Journal())
    found = collect_samples(source, samples(40), [budget_collector()], 8, attempt)
    assert found["keys_needed"]["layer"].unique().to_list() == [0, 3]


def test_a_model_that_takes_its_sequence_at_once_is_probed_at_every_query() -> None:
    source = CapturedModel(tiny("bamba"))
    attempt = Attempt(source, ExtractSettings(chunk=8), Journal())
    found = collect_samples(source, samples(40), [budget_collector()], 12, attempt)["recall_at_k"]
    assert set(found["weight"]) == {40.0} and set(found["queries"]) == {12}


def test_drift_is_that_of_the_planted_scores() -> None:
    """Scores 0 .. t at query t, the k largest selected: every moment is known."""
    query = torch.tensor([3, 15])
    scores = torch.arange(16.0).expand(2, 16)
    rows = made(torch.ones(2, 16), scores, topk(scores, query, 4), query)
    collector = drift_collector()(sample(16))
    collector.add([rows])
    first, second = collector.tables()["score_drift"].sort("bucket").iter_rows(named=True)
    assert (first["queries_in_effect"], first["threshold"], first["margin"]) == (0, None, None)
    assert (first["mean"], first["zero_share"]) == (1.5, 0.25)
    assert second["mean"] == 7.5 and second["sd"] == pytest.approx(np.arange(16).std())
    assert (second["threshold"], second["selected_mean"], second["unselected_mean"]) == (12, 13.5, 5.5)
    assert second["margin"] == pytest.approx(1 / np.arange(16).std())
    assert second["selected_sd"] == pytest.approx(np.arange(4).std())
    assert (second["queries"], second["queries_in_effect"], second["weight_in_effect"]) == (1, 1, 1.0)
