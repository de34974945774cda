from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from indexscope.analysis.capture import AttentionChunk, CapturedModel, Entries, capture_sparse
from indexscope.analysis.features import extract_samples
from indexscope.analysis.features.queries import sampled_queries
from indexscope.analysis.features.selections import SelectionSampler
from indexscope.analysis.features.stored_selections import SELECTIONS, compare_selections, with_keys
from tests.analysis.capture import tiny_families
from tests.analysis.conftest import tiny_dsa, tiny_llama
from tests.analysis.features.test_features import SETTINGS, samples, selections


def chunk(
    start: int, eligible: torch.Tensor, selected: torch.Tensor | None, layer: int = 0, **more: object
) -> AttentionChunk:
    nothing = torch.zeros(selected.shape[0] if selected is not None else 1, 1, eligible.shape[2], 0)
    return AttentionChunk(
        layer=layer, start=start, query=nothing, key=nothing, value=nothing, eligible=eligible, selected=selected,
        scores=None, scaling=1.0, **more,
    )  # fmt: skip


def causal(length: int) -> torch.Tensor:
    return torch.ones(length, length, dtype=torch.bool).tril()[None, None]


def extracted(model, many, **changes: object) -> pl.DataFrame:
    return extract_samples(model, many, SETTINGS.model_copy(update=changes))["selections"]


@given(
    batch=st.integers(1, 3), groups=st.integers(1, 2), length=st.integers(1, 60), count=st.integers(1, 40),
    size=st.integers(1, 64), density=st.sampled_from([0.0, 0.2, 1.0]), window=st.sampled_from([5, 1000]),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_whatever_is_selected_comes_back_however_it_was_cut(
    batch: int, groups: int, length: int, count: int, size: int, density: float, window: int, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    eligible = causal(length).triu(1 - window)
    selected = (torch.rand(batch, groups, length, length, generator=random) < density) & eligible
    index = [7 + 3 * item for item in range(batch)]
    sampler = SelectionSampler(index, length, count)
    for start in range(0, length, size):
        end = min(start + size, length)
        oldest = max(0, start - window)  # as a sliding cache: the keys end with the chunk's last query
        rows = slice(start, end), slice(oldest, end)
        sampler.add(chunk(start, eligible[:, :, *rows], selected[:, :, *rows], layer=4))
    found = sampler.table()
    expected = [
        (sample, 4, group, t, min(t + 1, window), weight, selected[item, group, t].nonzero()[:, 0].tolist())
        for item, sample in enumerate(index)
        for group in range(groups)
        for t, weight in zip(*(part.tolist() for part in sampled_queries(length, count, sample)), strict=True)
    ]
    columns = ("sample", "layer", "group", "query", "eligible", "weight", "keys")
    assert with_keys(found).select(columns).rows() == expected
    assert found.schema == SELECTIONS.schema
    assert found["unit"].unique().to_list() == ["token"]


def test_one_selection_for_the_whole_batch_is_every_samples() -> None:
    sampler = SelectionSampler([2, 5, 9], 6, 4)
    sampler.add(chunk(0, causal(6), causal(6)))
    keys = with_keys(sampler.table()).partition_by("sample")
    assert [part["sample"][0] for part in keys] == [2, 5, 9]
    for part in keys:
        assert part["keys"].to_list() == [list(range(query + 1)) for query in part["query"]] and part.height == 4


def test_padding_has_no_rows_and_keys_keep_their_names() -> None:
    eligible = causal(6).clone()
    eligible[..., :2] = False
    sampler = SelectionSampler([0], 6, 64)
    sampler.add(chunk(0, eligible, eligible, positions=torch.arange(6)))
    table = with_keys(sampler.table())
    assert table["query"].to_list() == [2, 3, 4, 5]
    assert table["keys"].to_list() == [[2], [2, 3], [2, 3, 4], [2, 3, 4, 5]]


def test_pools_are_stored_as_tokens_and_compressed_entries_by_index() -> None:
    first = torch.tensor([[0, 2, 4]])
    scores = torch.tensor([[[1.0, -torch.inf, -torch.inf]] * 3 + [[3.0, 1.0, -torch.inf]] * 2 + [[3.0, 1.0, 2.0]]])
    chosen = torch.tensor([[[True, False, False]] * 5 + [[True, False, True]]])
    tokens = chosen.repeat_interleave(2, -1)[:, None] & causal(6)
    for kind, unit, keys, n in (("pool", "token", [0, 1, 4, 5], 6), ("compressed", "entry", [0, 2], 3)):
        sampler = SelectionSampler([0], 6, 6)
        entries = Entries(kind, first, first + 1)
        given = chunk(0, causal(6), tokens, entries=entries, chosen=chosen)
        sampler.add(AttentionChunk(**{**vars(given), "scores": scores}))
        last = with_keys(sampler.table()).row(-1, named=True)
        assert (last["unit"], last["keys"], last["eligible"]) == (unit, keys, n)


def test_layers_without_a_selection_of_their_own_store_the_one_they_use() -> None:
    sampler = SelectionSampler([0], 5, 3)
    for layer, selected in ((0, causal(5)), (1, None), (2, causal(5))):
        sampler.add(chunk(0, causal(5), selected, layer))
    parts = sampler.table().partition_by("layer", as_dict=True, include_key=False)
    assert list(parts) == [(0,), (2,)]
    assert_frame_equal(parts[0,], parts[2,])


def test_stored_keys_are_the_models_own_topk() -> None:
    many = samples(45, 45, 7)
    table = with_keys(extracted(tiny_dsa(), many, batch=2))
    for sample in many:
        own = selections(tiny_dsa(), list(sample.input_ids))
        for layer, (_, topk) in enumerate(own):
            rows = table.filter(sample=sample.index, layer=layer)
            assert rows["query"].to_list() == sampled_queries(len(sample.input_ids), 32, sample.index)[0].tolist()
            for t, n, keys in rows.select("query", "eligible", "keys").iter_rows():
                assert n == t + 1 and keys == sorted(set(topk[t][topk[t] <= t].tolist()))


def test_chunks_and_batches_change_no_selection() -> None:
    many = samples(60, 60, 33, 33)
    whole = extracted(tiny_dsa(), many, chunk=64)
    for changes in ({"chunk": 7}, {"chunk": 16, "batch": 2}, {"chunk": 1}):
        assert_frame_equal(extracted(tiny_dsa(), many, **changes), whole)


def test_models_that_choose_differently_store_the_same_queries() -> None:
    many = samples(50, 50, 21)
    one, other = extracted(tiny_dsa(), many), extracted(tiny_dsa(topk=5, index_heads=4), many, chunk=9, batch=2)
    compared = compare_selections(one, other)
    assert len(compared) == len(one) == len(other)
    keys = [{row[:4]: set(row[-1]) for row in with_keys(table).iter_rows()} for table in (one, other)]
    for sample, layer, group, query, jaccard in compared.select(
        "sample", "layer", "group", "query", "jaccard"
    ).iter_rows():
        a, b = (found[sample, layer, group, query] for found in keys)
        assert jaccard == pytest.approx(len(a & b) / len(a | b))
    effect = compared.filter(pl.col("in_effect"))
    assert effect["query"].min() >= 5 and (effect["candidate_selected"] == 5).all()
    assert 0.2 < effect["jaccard"].mean() < 0.9
    assert (compare_selections(one, one)["jaccard"] == 1).all()


def test_measuring_fewer_queries_stores_the_same_selections() -> None:
    one = samples(60)
    assert_frame_equal(extracted(tiny_dsa(), one, query_every=2), extracted(tiny_dsa(), one))


def of_family(model, chunk_size: int) -> pl.DataFrame:
    sampler = SelectionSampler([0, 1], tiny_families.LENGTH, 12)

    def observe(seen: AttentionChunk) -> torch.Tensor:
        sampler.add(seen)
        return capture_sparse(seen)

    for _ in CapturedModel(model).run(tiny_families.tokens(), observe, chunk_size):
        pass
    return sampler.table()


@pytest.mark.parametrize("family", list(tiny_families.EVERYTHING))
def test_every_family_stores_the_same_selections_whatever_the_chunk(family: str) -> None:
    model = getattr(tiny_families, family)()
    whole, cut = of_family(model, 40), of_family(model, 16)
    assert_frame_equal(whole.drop("keys", "selected"), cut.drop("keys", "selected"))
    compared = compare_selections(whole, cut)
    # Equal scores at the k-th entry may go either way (ReLU's zeros), and what follows then differs.
    assert compared.filter(pl.col("in_effect"))["jaccard"].mean() > 0.9
    in_effect = with_keys(whole).filter(pl.col("selected") < pl.col("eligible"))
    assert len(in_effect) > 0
    assert in_effect["unit"].unique().to_list() == ["entry" if family == "deepseek_v4" else "token"]
    groups = whole["group"].unique().sort().to_list()
    assert groups == ([0, 1] if family == "minimax_m3" else [0])
    if family == "glm_moe_dsa":  # layers 1 and 3 share what 0 and 2 selected
        keys = whole.partition_by("layer")
        assert keys[0]["keys"].to_list() == keys[1]["keys"].to_list() != keys[2]["keys"].to_list()


def test_nothing_is_stored_where_nothing_is_selected_or_asked_for() -> None:
    assert "selections" not in extract_samples(tiny_llama(), samples(20), SETTINGS)
    none = SETTINGS.model_copy(update={"selection_queries": 0})
    assert "selections" not in extract_samples(tiny_dsa(), samples(20), none)


def test_a_few_bytes_a_key_are_near_what_chance_allows() -> None:
    from math import lgamma, log

    from indexscope.storage.store import parquet

    n, k, rows = 16384, 2048, 32
    random = np.random.default_rng(0)
    selected = torch.zeros(1, rows, 1, n, dtype=torch.bool)
    for row in range(rows):
        selected[0, row, 0, torch.from_numpy(random.choice(n, k, replace=False))] = True
    sampler = SelectionSampler([0], n, n)
    sampler.add(chunk(n - 1, torch.ones(1, 1, 1, n, dtype=torch.bool), selected))
    size = len(parquet.encode(sampler.table()))
    bound = (lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)) / log(2) / 8
    assert size < 1.15 * rows * bound
