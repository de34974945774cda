"""What benchmarks/scale.py reckons: the published model's size, and the arithmetic beside a slow count of its own."""

from __future__ import annotations

import pytest

from benchmarks import scale

HEADS, LAYERS, LENGTH, INDEXERS, WIDTH = 4, 3, 37, 2, 8
TINY = {
    **scale.PUBLISHED,
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 48,
    "moe_intermediate_size": 16,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "index_n_heads": INDEXERS,
    "index_head_dim": WIDTH,
    "index_topk": 5,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}


def test_the_published_configuration_has_the_parameters_that_its_authors_tell() -> None:
    model = scale.published()
    assert model.parameters == pytest.approx(671e9, rel=0.01)
    assert model.sizes.token == pytest.approx(37e9, rel=0.03)
    assert len(model.shape.attention) == 61 and model.shape.top_k == 2048
    assert scale.fits(model, scale.MACHINES[0]), "two layers in bf16 fit into 80 GB"


def test_the_work_of_a_tiny_model_is_what_counting_pair_by_pair_gives() -> None:
    model = scale.published(TINY)
    found = scale.work(model, samples=6, length=LENGTH, dense=2, ratio=1.5)
    attention = indexer = 0.0
    for query in range(LENGTH):
        for _ in range(query + 1):
            attention += LAYERS * HEADS * (2 * (8 + 4) + 2 * 8)
            indexer += LAYERS * (INDEXERS * 2 * WIDTH + 2 * INDEXERS)
    projected = LAYERS * (24 * INDEXERS * WIDTH + 32 * WIDTH + 32 * INDEXERS + 2 * WIDTH)
    indexer += 2 * projected * LENGTH
    assert found.attention == pytest.approx(attention * (6 + 2))
    assert found.indexer == pytest.approx(indexer * 6)
    assert found.features == pytest.approx(0.5 * (attention + indexer) * 6)
    expert = 3 * 32 * 16
    attended = 32 * 24 + 24 + 24 * HEADS * 12 + 32 * (16 + 4) + 16 + 16 * HEADS * (8 + 8) + HEADS * 8 * 32
    dense = 3 * 32 * 48
    sparse = 2 * expert + expert + 32 * 8
    norms = 2 * 32
    token = LAYERS * (attended + norms) + dense + 2 * sparse + 100 * 32
    assert found.projections == pytest.approx(2 * token * LENGTH * (6 + 2), rel=0.01)
    assert found.total == found.projections + found.attention + found.indexer + found.features


def test_workers_share_shards_a_node_reads_for_its_own_and_hidden_states_bound_a_shard() -> None:
    model = scale.published(TINY)
    todo = scale.work(model, 100, LENGTH, 0, 1.0)
    one = scale.Machine("one", 1e6, 1e6, 1e9, 1e9)
    many = scale.Machine("many", 1e6, 1e6, 1e9, 1e9, devices=2, nodes=5)
    alone, spread = (scale.estimate(model, machine, 100, LENGTH, todo) for machine in (one, many))
    assert (alone.shard, alone.passes, spread.shard, spread.passes) == (100, 2, 10, 3)
    assert alone.computing == pytest.approx(todo.total / 1e6) and spread.computing == pytest.approx(todo.total / 1e7)
    assert alone.reading == pytest.approx(2 * model.parameters / 1e6)
    assert alone.most == alone.reading + alone.computing and alone.least == max(alone.reading, alone.computing)
    state = 2 * 2 * 32 * LENGTH * 2
    cramped = scale.estimate(model, scale.Machine("small", 1e6, 1e6, 1e9, 7 * state * 4), 100, LENGTH, todo)
    assert (cramped.shard, cramped.passes) == (7, 16)


def test_a_time_is_told_in_words_and_the_ratio_is_that_of_the_longest_length() -> None:
    assert [scale.hours(seconds) for seconds in (5400, 40 * 3600, 8766 * 3600 * 12)] == ["1.5 h", "40 h", "12 years"]
    assert 1 < scale.measured_ratio() < 2
