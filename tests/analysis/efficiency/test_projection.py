"""Claims about projected costs and where sparse attention begins to pay."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DeepseekV32Config

from indexscope.analysis.efficiency import EfficiencySettings, reference
from indexscope.analysis.efficiency import run as efficiency
from indexscope.analysis.efficiency.projection import break_even, break_even_length, projection
from indexscope.analysis.flops import AttentionLayer, Shape, attended_pairs, flops, shape
from tests.analysis import planted

LENGTHS = (4096, 65_536, 1_048_576)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 50), st.integers(1, 60), st.integers(1, 20), st.integers(1, 60))
def test_pairs_of_windows_chunks_and_selections_are_those_that_a_loop_counts(
    length: int, window: int, top_k: int, chunk: int
) -> None:
    layers = (AttentionLayer(3.0, window), AttentionLayer(5.0, None, True))
    chunked = (AttentionLayer(11.0, chunk=chunk), AttentionLayer(13.0, None, True, chunk))
    model = Shape((*layers, *chunked), 2.0, 7.0, top_k)
    spent = flops(model, length)
    slid = sum(min(t + 1, window) for t in range(length))
    chosen = sum(min(t + 1, top_k) for t in range(length))
    full = length * (length + 1) // 2
    in_chunk = sum(t % chunk + 1 for t in range(length))
    chosen_in_chunk = sum(min(t % chunk + 1, top_k) for t in range(length))
    assert attended_pairs(length, window) == slid
    assert spent.attention == 3 * slid + 5 * chosen + 11 * in_chunk + 13 * chosen_in_chunk
    assert spent.dense_attention == 3 * slid + 5 * full + 24 * in_chunk
    assert spent.indexer == 2 * full + 7 * length


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 50), st.integers(0, 3000), st.integers(1, 4))
def test_the_break_even_length_is_the_first_at_which_sparse_attention_is_cheaper(
    top_k: int, pair: int, indexer_pair: int, indexer_token: int, layers: int
) -> None:
    model = Shape((AttentionLayer(float(pair), None, True),) * layers, float(indexer_pair), float(indexer_token), top_k)
    found = break_even_length(model)
    if found is None:
        assert layers * pair <= indexer_pair
        assert flops(model, 10**6).indexer + flops(model, 10**6).attention >= flops(model, 10**6).dense_attention
        return

    def cheaper(length: int) -> bool:
        spent = flops(model, length)
        return bool(spent.indexer + spent.attention < spent.dense_attention)

    assert cheaper(found)
    assert not cheaper(found - 1)
    assert not any(cheaper(length) for length in range(1, min(found, 3000)))


def test_the_break_even_of_a_free_indexer_is_the_first_length_that_leaves_a_key_out() -> None:
    assert break_even_length(Shape((AttentionLayer(2.0, None, True),), 0.0, 0.0, 64)) == 65


def test_an_indexer_that_costs_more_than_attention_never_pays() -> None:
    assert break_even_length(Shape((AttentionLayer(2.0, None, True),), 2.0, 1.0, 64)) is None
    assert break_even_length(Shape((AttentionLayer(2.0),), 0.0, 0.0, None)) is None


def test_the_reference_has_the_dimensions_of_the_published_configuration() -> None:
    config = DeepseekV32Config()
    assert (config.num_hidden_layers, config.num_attention_heads) == (reference.LAYERS, reference.HEADS)
    assert (config.qk_nope_head_dim, config.qk_rope_head_dim) == (reference.QK_NOPE_WIDTH, reference.QK_ROPE_WIDTH)
    assert (config.v_head_dim, config.hidden_size) == (reference.VALUE_WIDTH, reference.HIDDEN)
    assert (config.q_lora_rank, config.index_topk) == (reference.QUERY_RANK, reference.TOP_K)
    assert (config.index_n_heads, config.index_head_dim) == (reference.INDEXER_HEADS, reference.INDEXER_WIDTH)


def test_the_published_model_breaks_even_at_a_few_thousand_tokens() -> None:
    """By hand: 82,304 m (m + 1) / 2 > 27.9 M L + 16,512 L (L + 1) / 2 per layer, m = L - 2048."""
    pair, indexer = 2 * 128 * 320, 2 * 64 * 129
    token = 2 * (1536 * 8192 + 7168 * 128 + 7168 * 64 + 256)
    first = next(
        length
        for length in range(2049, 20_000)
        if pair * (length - 2048) * (length - 2047) / 2 > token * length + indexer * length * (length + 1) / 2
    )
    assert break_even_length(reference.deepseek_v32()) == first
    assert 4000 < first < 6000


def test_a_projection_holds_both_dimensions_and_each_by_its_own_formula() -> None:
    model = shape(planted.facts(layers=3, top_k=8))
    rows = projection(model, LENGTHS)
    assert rows.group_by("dimensions").len()["len"].to_list() == [9, 9]
    for name, own in (("this checkpoint", model), ("DeepSeek-V3.2", reference.deepseek_v32())):
        found = rows.filter((pl.col("dimensions") == name) & (pl.col("component") == "indexer"))
        assert found["flops"].to_list() == flops(own, LENGTHS).indexer.tolist()
    assert break_even(model)["length"].to_list() == [
        break_even_length(model),
        break_even_length(reference.deepseek_v32()),
    ]


def test_windowed_and_chunked_layers_cost_what_they_see_in_the_metrics() -> None:
    tables = planted.features(layers=3, top_k=8)
    tables["layers"] = pl.DataFrame(
        {
            "layer": [0, 1, 2],
            "attention_heads": [4, 4, 4],
            "key_width": [16, 16, 16],
            "value_width": [8, 8, 8],
            "window": [5, None, None],
            "attention_chunk": [None, None, 7],
            "selects": [False, True, False],
        }
    )
    found = dict(
        efficiency.run(tables, EfficiencySettings(resamples=20))["metrics"].select("metric", "value").iter_rows()
    )
    tokens = tables["samples"]["tokens"].to_list()
    slid = sum(min(t + 1, 5) for length in tokens for t in range(length))
    chosen = sum(min(t + 1, 8) for length in tokens for t in range(length))
    in_chunk = sum(t % 7 + 1 for length in tokens for t in range(length))
    assert found["attention_flops"] == pytest.approx(2 * 4 * 24 * (slid + chosen + in_chunk) / sum(tokens))
