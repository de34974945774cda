"""Claims about projected costs and where sparse attention begins to pay."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AXK2Config, DeepseekV32Config, GlmMoeDsaConfig, HYV4Config

from indexscope.analysis.conventions import EXPANDED, LATENT, MIXED, SERVED, Convention
from indexscope.analysis.efficiency import EfficiencySettings, reference
from indexscope.analysis.efficiency import run as efficiency
from indexscope.analysis.efficiency.projection import break_even_length, conventions, projection, relative_cost
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
    assert config.kv_lora_rank == reference.LATENT_WIDTH
    assert (config.index_n_heads, config.index_head_dim) == (reference.INDEXER_HEADS, reference.INDEXER_WIDTH)


@pytest.mark.parametrize(
    ("convention", "first", "relative"),
    [(EXPANDED, 4915, 0.4775), (MIXED, 17_261, 1.0400), (LATENT, 3153, 0.3059), (SERVED, 14_794, 0.9184)],
)
def test_break_even_and_cost_of_the_published_model_are_those_of_a_count_by_hand(
    convention: Convention, first: int, relative: float
) -> None:
    """Whole numbers a layer, each convention written out; L = 16,384 for the cost."""
    mha, mqa = 2 * 128 * (128 + 64 + 128), 2 * 128 * (512 + 64 + 512)
    pair, token = 2 * 64 * 128 + 2 * 64, 2 * (1536 * 64 * 128 + 7168 * 128 + 7168 * 64 + 2 * 128)
    sparse, dense, halves = {
        EXPANDED: (mha, mha, 2), MIXED: (mqa, mha, 2), LATENT: (mqa, mqa, 2), SERVED: (mqa, mha, 1)
    }[convention]  # fmt: skip

    def costs(length: int) -> tuple[int, int]:
        pairs = length * (length + 1) // 2
        left_out = max(length - 2048, 0) * (max(length - 2048, 0) + 1) // 2
        indexer = (pair * pairs + token * length) * halves // 2
        return indexer + sparse * (pairs - left_out), dense * pairs

    by_hand = next(length for length in range(1, 20_000) if costs(length)[0] < costs(length)[1])
    assert break_even_length(reference.deepseek_v32(), convention) == by_hand == first
    cost, dense_cost = costs(16_384)
    found = relative_cost(reference.deepseek_v32(), np.array([16_384.0]), convention)
    assert found == pytest.approx(cost / dense_cost) == pytest.approx(relative, abs=5e-5)


@pytest.mark.parametrize("convention", [SERVED, EXPANDED, MIXED, LATENT])
@pytest.mark.parametrize("kind", [GlmMoeDsaConfig, AXK2Config, HYV4Config])
def test_other_families_break_even_where_a_loop_over_their_configuration_does(
    kind: type, convention: Convention
) -> None:
    """At the default dimensions of the family's configuration: GLM-5 is GlmMoeDsaConfig."""
    config = kind()
    layers, precise = config.num_hidden_layers, kind is GlmMoeDsaConfig
    scoring = (config.indexer_types or ["full"] * layers).count("full") if hasattr(config, "indexer_types") else layers
    rank, rotary = config.kv_lora_rank, config.qk_rope_head_dim
    heads, width, k = config.index_n_heads, config.index_head_dim, config.index_topk
    own = config.qk_nope_head_dim + rotary, config.v_head_dim
    parameters = scoring * (config.q_lora_rank * heads * width + config.hidden_size * (width + heads) + 2 * width)
    facts = planted.facts(layers, k).with_columns(
        attention_heads=config.num_attention_heads, key_width=own[0], value_width=own[1],
        latent_key_width=rank + rotary, latent_value_width=rank, indexer_layers=scoring, indexer_heads=heads,
        indexer_dim=width, indexer_parameters=parameters, indexer_precision=pl.lit("fp8" if precise else None),
    )  # fmt: skip
    found = break_even_length(shape(facts, sparse=layers), convention)

    expanded, latent = (2 * config.num_attention_heads * each for each in (sum(own), 2 * rank + rotary))
    sparse = expanded if convention is EXPANDED else latent
    dense = latent if convention is LATENT else expanded
    weight = 0.5 if precise and convention is SERVED else 1.0

    def saves(length: int) -> bool:
        pairs, left_out = length * (length + 1) / 2, max(length - k, 0) * (max(length - k, 0) + 1) / 2
        indexer = weight * (scoring * 2 * heads * (width + 1) * pairs + 2 * parameters * length)
        return layers * sparse * (pairs - left_out) + indexer < layers * dense * pairs

    assert found == next((length for length in range(1, 100_000) if saves(length)), None)
    assert found is not None


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 120), st.integers(0, 50), st.integers(0, 3000))
def test_as_served_it_is_the_first_length_too_whichever_mode_is_the_dearer(
    top_k: int, expanded: int, latent: int, indexer_pair: int, token: int
) -> None:
    layer = AttentionLayer(float(expanded), None, True, latent=float(latent))
    model = Shape((layer,), float(indexer_pair), float(token), top_k, indexer_time=0.5)

    def cheaper(length: int) -> bool:
        cost = relative_cost(model, np.array([float(length)]))
        return cost is not None and cost < 1 - 1e-12

    found = break_even_length(model)
    if found is None:
        assert not cheaper(10**6)
        return
    assert cheaper(found)
    assert not any(cheaper(length) for length in range(1, min(found, 3000)))


def test_a_projection_holds_both_dimensions_and_each_by_its_own_formula() -> None:
    model = shape(planted.facts(layers=3, top_k=8))
    rows = projection(model, LENGTHS)
    assert rows.group_by("dimensions", maintain_order=True).len()["len"].to_list() == [2 * 9, 4 * 9]
    for name, own in (("this checkpoint", model), ("DeepSeek-V3.2", reference.deepseek_v32())):
        for convention in own.conventions:
            found = rows.filter(
                (pl.col("dimensions") == name)
                & (pl.col("convention") == convention.name)
                & (pl.col("component") == "attention")
            )
            assert found["flops"].to_list() == flops(own, LENGTHS, convention).attention.tolist()
    table = conventions(model, np.array([100.0, 200.0]))
    assert table["convention"].to_list() == [one.name for one in (SERVED, EXPANDED, SERVED, EXPANDED, MIXED, LATENT)]
    assert table["break_even_length"][1:3].to_list() == [break_even_length(model, EXPANDED), 14_794]
    assert conventions(model, np.zeros(0))["relative_cost"].null_count() == 6


def test_windowed_and_chunked_layers_cost_what_they_see_in_the_metrics() -> None:
    tables = planted.features(layers=3, top_k=8)
    tables["layers"] = pl.DataFrame(
        {
            "layer": [0, 1, 2],
            "attention_heads": [4, 4, 4],
            "key_width": [16, 16, 16],
            "value_width": [8, 8, 8],
            "latent_key_width": [None, 40, None],
            "latent_value_width": [None, 32, None],
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
    assert found["attention_flops"] == pytest.approx(2 * 4 * (24 * slid + 72 * chosen + 24 * in_chunk) / sum(tokens))
