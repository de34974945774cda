"""Claims about costs."""

from __future__ import annotations

import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexscope.analysis.conventions import EXPANDED, SERVED
from indexscope.analysis.efficiency import EfficiencySettings
from indexscope.analysis.efficiency import run as efficiency
from indexscope.analysis.efficiency.panel import COST, MEASURED
from indexscope.analysis.efficiency.run import observed_shape
from indexscope.analysis.flops import flops, shape
from tests.analysis import planted

SETTINGS = EfficiencySettings(resamples=100, project_lengths=(100, 1000, 10_000))


def values(result: dict[str, pl.DataFrame]) -> dict[str, float]:
    return dict(result["metrics"].select("metric", "value").iter_rows())


@given(st.integers(1, 60), st.integers(1, 30))
def test_attended_pairs_are_those_that_a_loop_counts(length: int, top_k: int) -> None:
    model = shape(planted.facts(layers=3, top_k=top_k))
    spent = flops(model, [length])
    pairs = sum(t + 1 for t in range(length))
    attended = sum(min(t + 1, top_k) for t in range(length))
    assert spent.attention[0] == 3 * attended * 2 * 4 * (16 + 8)
    assert spent.dense_attention[0] == 3 * pairs * 2 * 4 * (16 + 8)
    assert spent.indexer[0] == 2 * 500 * length + 3 * pairs * (2 * 2 * 32 + 2 * 2)


def test_layers_that_share_a_selection_are_sparse_too() -> None:
    """Two of three layers were seen to leave keys out, though the model has a single indexer."""
    facts = planted.facts(layers=3, top_k=8).with_columns(indexer_layers=pl.lit(1))
    attention = planted.features(layers=3)["attention"].with_columns(
        queries_in_effect=pl.when(pl.col("layer") == 0).then(0).otherwise("queries_in_effect")
    )
    assert observed_shape(facts, {"attention": attention}).sparse_layers == 2
    assert observed_shape(facts, {}).sparse_layers == 1


def test_the_score_is_the_perplexity_ratio_over_the_relative_cost() -> None:
    tables = planted.features(samples=5)
    found = values(efficiency.run(tables, SETTINGS))
    spent = flops(observed_shape(tables["facts"], tables), tables["samples"]["tokens"].to_numpy())
    cost = (spent.indexer + spent.attention).sum() / spent.dense_attention.sum()
    assert found["relative_cost"] == pytest.approx(cost)
    assert found["efficiency_score"] == pytest.approx(math.exp(-0.1) / cost)  # nll - dense_nll is planted at 0.1


def test_costs_are_as_served_and_the_indexer_s_flops_a_plain_count() -> None:
    """Sparse attention on latents of 40 and 32 channels against dense on 16 and 8; the FP8 indexer counts half."""
    tables = planted.features(samples=5)
    plain = efficiency.run(tables, SETTINGS)
    served = {"latent_key_width": 40, "latent_value_width": 32, "indexer_precision": pl.lit("fp8")}
    tables["facts"] = tables["facts"].with_columns(**served)
    result = efficiency.run(tables, SETTINGS)
    before, found = values(plain), values(result)
    assert found["indexer_flops"] == before["indexer_flops"]
    assert found["dense_attention_flops"] == before["dense_attention_flops"]
    assert found["attention_flops"] == pytest.approx(3 * before["attention_flops"])
    cost = (found["indexer_flops"] / 2 + found["attention_flops"]) / found["dense_attention_flops"]
    assert found["relative_cost"] == pytest.approx(cost)
    of = {row["convention"]: row for row in result["conventions"][:4].iter_rows(named=True)}
    assert of["as served"]["relative_cost"] == pytest.approx(cost)
    assert of["as served"]["break_even_length"] == found["break_even_length"]
    assert of["MHA against MHA"]["relative_cost"] == pytest.approx(before["relative_cost"])
    assert of["MHA against MHA"]["break_even_length"] == before["break_even_length"]
    whole = (found["indexer_flops"] + found["attention_flops"]) / found["dense_attention_flops"]
    assert of["MQA against MHA"]["relative_cost"] == pytest.approx(whole)


def test_the_report_names_both_conventions() -> None:
    tables = planted.features(samples=5)
    tables["facts"] = tables["facts"].with_columns(latent_key_width=40, latent_value_width=32)
    frames = efficiency.run(tables, SETTINGS)
    assert MEASURED.words is not None and COST.tables is not None
    told = " ".join(MEASURED.words(frames))
    lengths = dict(frames["conventions"][:4].select("convention", "break_even_length").iter_rows())
    assert f"As served ({SERVED.meaning})" in told and f"from {lengths['as served']:,} tokens on" in told
    assert f"counted as MHA against MHA ({EXPANDED.meaning})" in told and f"{lengths['MHA against MHA']:,}" in told
    assert "14,794 and 4,915 tokens" in told
    table = COST.tables(frames)[0]
    assert [row[0] for row in table.rows[:4]] == ["as served", "MHA against MHA", "MQA against MHA", "MQA against MQA"]
    assert table.rows[0][1] == f"{lengths['as served']:,}" and len(table.rows) == 8


def test_flops_are_per_token_of_the_study() -> None:
    tables = planted.features(samples=5)
    found = values(efficiency.run(tables, SETTINGS))
    tokens = tables["samples"]["tokens"].to_numpy()
    spent = flops(shape(tables["facts"]), tokens)
    assert found["indexer_flops"] == pytest.approx(spent.indexer.sum() / tokens.sum())
    assert found["attention_flops"] < found["dense_attention_flops"]


def test_counts_have_no_interval_and_latency_has_the_range_of_its_repeats() -> None:
    frame = efficiency.run(planted.features(), SETTINGS)["metrics"]
    rows = {row["metric"]: row for row in frame.iter_rows(named=True)}
    assert rows["indexer_parameters"]["value"] == 500
    assert rows["indexer_parameters"]["ci_low"] is rows["indexer_parameters"]["n"] is None
    latency = rows["indexer_latency_ms"]
    assert (latency["value"], latency["ci_low"], latency["ci_high"], latency["n"]) == (2.0, 1.5, 2.5, 5)


def test_what_was_timed_once_has_no_spread() -> None:
    tables = planted.features()
    tables["profile"] = tables["profile"].with_columns(repeats=pl.lit(1, pl.Int32))
    found = efficiency.run(tables, SETTINGS)
    row = found["metrics"].row(by_predicate=pl.col("metric") == "indexer_latency_ms", named=True)
    assert (row["value"], row["ci_low"], row["ci_high"], row["n"]) == (2.0, None, None, 1)
    assert found["latency"]["low"].null_count() == found["latency"].height


def test_a_dense_model_has_no_score_and_no_indexer() -> None:
    tables = planted.features(top_k=None)
    tables["profile"] = tables["profile"].filter(pl.col("component") != "indexer")
    result = efficiency.run(tables, SETTINGS)
    found = values(result)
    assert found["efficiency_score"] is None
    assert not set(found) & {"indexer_parameters", "indexer_flops", "indexer_latency_ms"}
    assert found["attention_flops"] == found["dense_attention_flops"]
    assert set(result["projection"]["component"]) == {"dense_attention"}
    assert found["relative_cost"] == 1.0, "which is what the cost is relative to"
    assert set(result["per_sample"]["metric"]) == {"relative_cost"}


def test_without_a_dense_reference_there_is_no_score() -> None:
    tables = planted.features()
    tables["tokens"] = tables["tokens"].with_columns(dense_nll=pl.lit(None, dtype=pl.Float64))
    found = values(efficiency.run(tables, SETTINGS))
    assert found["efficiency_score"] is None
    assert found["relative_cost"] > 0
    del tables["tokens"]
    assert values(efficiency.run(tables, SETTINGS))["efficiency_score"] is None


def test_sparse_attention_pays_off_at_length() -> None:
    """Attention falls from quadratic to linear; the indexer stays quadratic, at a lower price per pair."""
    rows = efficiency.run(planted.features(), SETTINGS)["projection"]
    own = rows.filter((pl.col("dimensions") == "this checkpoint") & (pl.col("convention") == "as served"))
    cost = {(length, component): value for _, _, length, component, value in own.iter_rows()}
    assert cost[10_000, "attention"] / cost[1000, "attention"] == pytest.approx(10, rel=0.01)
    assert cost[10_000, "indexer"] / cost[1000, "indexer"] == pytest.approx(100, rel=0.2)
    assert cost[10_000, "dense_attention"] > cost[10_000, "indexer"]


def test_empty_input_gives_empty_frames_with_the_same_columns() -> None:
    full, empty = efficiency.run(planted.features(), SETTINGS), efficiency.run({}, SETTINGS)
    for name, frame in full.items():
        assert empty[name].is_empty()
        assert empty[name].schema == frame.schema, name


def test_entries_that_are_not_tokens_have_no_formula() -> None:
    tables = planted.features()
    tables["facts"] = tables["facts"].with_columns(entry=pl.lit("pool"))
    result = efficiency.run(tables, SETTINGS)
    found = values(result)
    by_formula = ("indexer_flops", "attention_flops", "dense_attention_flops", "relative_cost", "efficiency_score")
    assert [found[name] for name in by_formula] == [None] * 5
    assert found["indexer_parameters"] == 500
    assert found["indexer_latency_ms"] == 2.0
    assert result["projection"].is_empty()
