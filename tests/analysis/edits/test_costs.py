"""What an edited model is said to cost: of every layer what is left of its indexer and its selection."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexscope.analysis.capture.facts import model_facts
from indexscope.analysis.capture.layers import layer_facts
from indexscope.analysis.capture.profile import profile_model
from indexscope.analysis.conventions import EXPANDED, SERVED
from indexscope.analysis.edits.apply import apply_edit
from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.efficiency.projection import break_even_length
from indexscope.analysis.fitting.fitted import FittedIndexer, weights_of
from indexscope.analysis.fitting.places import places_of, shape_at
from indexscope.analysis.fitting.scorer import LightningScorer
from indexscope.analysis.fitting.selector import lay_over
from indexscope.analysis.flops import AttentionLayer, Shape, Staged, flops, shape
from indexscope.analysis.settings import ExtractSettings
from tests.analysis.capture.tiny_architectures import tiny
from tests.analysis.capture.tiny_families import FAMILIES

HIDDEN, LATENT, WIDTH = 48, 32, 16  # of the tiny deepseek_v32, whose three layers have 8 indexer heads and k = 8
PAIR = 2 * 4 * (24 + 12)  # 4 attention heads, keys of 16 + 8 channels, values of 12


def told(edit: Edit, family: str = "deepseek_v32") -> tuple[dict[str, object], pl.DataFrame, Shape]:
    model = FAMILIES[family]()
    apply_edit(model, edit)
    facts, layers = model_facts(model), layer_facts(model)
    return facts.row(0, named=True), layers, shape(facts, layers)


def parameters(heads: int) -> int:
    """wq_b, wk with the norm of the keys, and weights_proj."""
    return heads * WIDTH * LATENT + HIDDEN * WIDTH + 2 * WIDTH + HIDDEN * heads


def test_facts_count_what_an_edit_leaves() -> None:
    facts, layers, found = told(Edit(indexer_heads={0: (1,), 2: (0, 3)}, topk={"default": 5, 2: 9}, share="FSF"))
    assert facts["indexer_parameters"] == parameters(1) + parameters(2)
    assert (facts["indexer_layers"], facts["indexer_heads"], facts["index_topk"]) == (2, 2, 9)
    assert layers["indexer_heads"].to_list() == [1, None, 2]
    assert layers["index_topk"].to_list() == [5, 5, 9]
    assert layers["selects"].to_list() == [True] * 3
    spent = flops(found, [100.0], EXPANDED)
    pairs = 100 * 101 / 2
    assert spent.indexer[0] == 2 * facts["indexer_parameters"] * 100 + pairs * 2 * (WIDTH + 1) * (1 + 2)
    kept = [k * (k + 1) / 2 + (100 - k) * k for k in (5, 5, 9)]
    assert spent.attention[0] == PAIR * sum(kept)
    assert spent.dense_attention[0] == PAIR * 3 * pairs


def test_an_unedited_model_costs_what_it_did() -> None:
    facts, layers, found = told(Edit())
    without = layers.drop("indexer_heads", "indexer_dim", "index_topk")
    assert shape(pl.DataFrame([facts]), without) == Shape(
        tuple(AttentionLayer(PAIR, None, True, None, layer.latent) for layer in found.attention),
        found.indexer_pair, found.indexer_token, 8, True, 0.5,
    )  # fmt: skip
    assert [layer.top_k for layer in found.attention] == [8, 8, 8]


@pytest.mark.parametrize(
    ("precision", "weight"), [("bfloat16", 1.0), ("float16", 1.0), ("fp8", 0.5), ("int8", 0.5), ("fp4", 0.25)]
)
def test_a_precision_counts_by_its_time(precision: str, weight: float) -> None:
    facts, _, found = told(Edit(precision=precision))
    assert facts["indexer_precision"] == precision
    assert flops(found, [64.0], SERVED).indexer[0] == weight * flops(found, [64.0], EXPANDED).indexer[0]


@pytest.mark.parametrize("selector", ["oracle", {"random": {"seed": 1}}, {"recent": {"window": 4, "sink": 2}}])
def test_selectors_that_ask_no_indexer_cost_none(selector: object) -> None:
    facts, layers, found = told(Edit(selector=selector))
    assert facts["indexer_parameters"] == facts["indexer_layers"] == 0
    assert facts["entry"] == "token"
    assert layers["indexer_heads"].null_count() == 3
    spent = flops(found, [100.0], EXPANDED)
    k = 6 if isinstance(selector, dict) and "recent" in selector else 8
    assert spent.indexer[0] == 0
    assert spent.attention[0] == 3 * PAIR * (k * (k + 1) / 2 + (100 - k) * k)


def test_a_dense_model_with_a_selector_has_the_costs_of_a_sparse_one() -> None:
    model = tiny("llama")
    apply_edit(model, Edit(selector={"recent": {"window": 3, "sink": 1}}))
    facts, layers = model_facts(model), layer_facts(model)
    assert facts.row(0, named=True)["index_topk"] == 4 and layers["index_topk"].to_list() == [4, 4]
    spent = flops(shape(facts, layers), [50.0])
    assert spent.attention[0] / spent.dense_attention[0] == (10 + 46 * 4) / (50 * 51 / 2)


def test_what_is_counted_of_an_edited_model_is_what_it_executes() -> None:
    model = FAMILIES["deepseek_v32"]()
    apply_edit(model, Edit(indexer_heads={0: (1, 2), 2: (4,)}, share="FSF", topk=5))
    rows = profile_model(model, ExtractSettings(profile_lengths=(64,), profile_repeats=1))
    for row in rows.filter(pl.col("component") != "selection").iter_rows(named=True):
        assert row["flops_counted"] == pytest.approx(row["flops_executed"], rel=0.01), row["component"]


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 30), st.integers(1, 60)), min_size=1, max_size=4),
    st.integers(0, 60),
    st.integers(0, 200),
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 8), st.integers(1, 40)), max_size=2),
)
def test_layers_of_different_k_break_even_where_a_search_says(
    layers: list[tuple[int, int, int]], pair: int, token: int, staged: list[tuple[int, int, int]]
) -> None:
    made = tuple(AttentionLayer(float(dense), None, True, latent=float(own), top_k=k) for dense, own, k in layers)
    first = tuple(Staged(float(one), block, keys) for one, block, keys in staged)
    model = Shape(made, float(pair), float(token), 7, staged=first)
    convention = SERVED.__class__("as served", True, False, False, "")
    found = break_even_length(model, convention)

    def saved(length: int) -> float:
        spent = flops(model, [float(length)], convention)
        return float(spent.dense_attention[0] - spent.attention[0] - spent.indexer[0])

    if sum(dense for dense, _, _ in layers) <= pair + sum(one / block for one, block, _ in staged):
        assert found is None
        assert all(saved(length) <= 0 for length in range(1, 200))
    else:
        assert found is not None
        assert saved(found) > 0
        assert all(saved(length) <= 0 for length in range(1, min(found, 400)))


def test_blocks_that_are_scored_first_spare_the_keys_in_the_others() -> None:
    facts, layers, found = told(Edit(selector={"two_stage": {"block": 4, "keep": 3}}))
    assert layers.select("scored_block", "scored_keys").rows() == [(4, 12)] * 3
    scored = sum(-(-n // 4) + min(n, 12) for n in range(1, 101))
    spent = flops(found, [100.0], EXPANDED)
    assert spent.indexer[0] == 2 * facts["indexer_parameters"] * 100 + 3 * 2 * 8 * (WIDTH + 1) * scored
    assert flops(told(Edit())[2], [100.0], EXPANDED).indexer[0] > spent.indexer[0]


def test_a_fitted_indexer_counts_as_one_of_the_models_own() -> None:
    model = tiny("llama")
    places = places_of(model)
    scorers = {layer: LightningScorer(shape_at(places.widths[layer], 3, 8)) for layer in places.first}
    before = model_facts(model).row(0, named=True)
    lay_over(model, FittedIndexer(3, 8, (6,), {n: one.shape for n, one in scorers.items()}, weights_of(scorers)), 6)
    facts, layers = model_facts(model), layer_facts(model)
    row = facts.row(0, named=True)
    hidden = 48
    own = 2 * (3 * 8 * hidden + 8 * hidden + 2 * 8 + 3 * hidden)  # of two layers: wq_b, wk, k_norm and weights_proj
    assert row["indexer_parameters"] == own == row["parameters"] - before["parameters"]
    assert (row["indexer_heads"], row["indexer_dim"], row["index_topk"], row["entry"]) == (3, 8, 6, "token")
    assert layers.select("indexer_heads", "indexer_dim", "index_topk").rows() == [(3, 8, 6)] * 2
    spent = flops(shape(facts, layers), [40.0], EXPANDED)
    assert spent.indexer[0] == 2 * own * 40 + 40 * 41 / 2 * 2 * 2 * 3 * 9
    times = profile_model(model, ExtractSettings(profile_lengths=(32,), profile_repeats=1))
    indexer = times.filter(pl.col("component") == "indexer").row(0, named=True)
    assert indexer["milliseconds"] > 0
    assert indexer["flops_formula"] == flops(shape(facts, layers), [32.0], EXPANDED).indexer[0]
