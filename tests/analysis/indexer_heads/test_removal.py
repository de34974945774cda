"""Claims about what the selection keeps as indexer heads go."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indexscope.analysis.indexer_heads.collect import head_collector, pruning_collector, removal_order
from indexscope.analysis.indexer_heads.tables import PRUNING
from tests.analysis.closeup.head_rows import chances, closeup_rows, collected, random_rows

IDS = torch.zeros(64, dtype=torch.int64)


def test_heads_go_in_the_order_of_what_recall_loses_without_them() -> None:
    """Head 0 finds the key with half of the attention, 1 scores nothing, 2 finds a key with a tenth of it."""
    relu, p = np.zeros((1, 3, 40)), np.full((1, 40), 0.4 / 38)
    relu[0, 0, 5], relu[0, 2, 9] = 3.0, 2.0
    p[0, 5], p[0, 9] = 0.5, 0.1
    tables = collected(head_collector(), [[closeup_rows(relu, (39,), 2, p=p)]], IDS)
    order = removal_order(tables["indexer_heads"])
    assert {layer: heads.tolist() for layer, heads in order.items()} == {0: [1, 2, 0]}
    found = collected(pruning_collector(order), [[closeup_rows(relu, (39,), 2, p=p)]], IDS)["indexer_pruning"]
    # Without head 2 the second key is drawn from the 39 others.
    closed = [0.6, 0.6, 0.5 + 0.5 / 39]
    assert found["recall"].to_numpy() == pytest.approx(np.array(closed))
    assert found["overlap"].to_numpy() == pytest.approx([1.0, 1.0, 0.5 + 0.5 / 39])
    assert found["indexer_head"].to_list() == [None, 1, 2]
    assert found["removed"].to_list() == [0, 1, 2]


def test_of_heads_that_lose_equally_much_the_lower_index_goes_first() -> None:
    relu = np.zeros((1, 4, 30))
    relu[0, 2, 3] = 1.0
    tables = collected(head_collector(), [[closeup_rows(relu, (29,), 1, p=np.eye(30)[[3]])]], IDS)
    assert removal_order(tables["indexer_heads"])[0].tolist() == [0, 1, 3, 2]


def test_a_sample_weighs_in_the_order_as_much_as_its_queries_stand_for() -> None:
    frame = pl.DataFrame(
        {
            "sample": [0, 0, 1, 1], "layer": [4] * 4, "indexer_head": [0, 1] * 2, "weight": [1.0, 1.0, 9.0, 9.0],
            "recall_with": [1.0] * 4, "recall_without": [0.0, 1.0, 0.9, 0.8],
        }
    )  # fmt: skip
    # Losses 0.19 and 0.18; a mean of means would say 0.55 and 0.1, and a swap of weights the reverse order.
    assert removal_order(frame)[4].tolist() == [1, 0]
    heavier = frame.with_columns(weight=pl.when(pl.col("sample") == 1).then(12.0).otherwise(1.0))
    assert removal_order(heavier)[4].tolist() == [0, 1]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.permutations(range(4)))
def test_recall_of_the_remaining_heads_equals_a_slow_reference(seed: int, order: list[int]) -> None:
    rows = random_rows(seed, sparse=0.8)
    assert rows.head_scores is not None and rows.head_weights is not None and rows.selected is not None
    found = collected(pruning_collector({0: np.array(order)}), [[rows]], IDS)["indexer_pruning"]
    for removed in range(4):
        recalls, overlaps = [], []
        for q, t in enumerate(rows.query.tolist()):
            r, w = rows.head_scores[q, :, : t + 1].double().numpy(), rows.head_weights[q].double().numpy()
            # From the last head to the first, as the sums of the claim run: no tie may be parted by rounding.
            left = [float(sum(w[j] * r[j, s] for j in reversed(order[removed:]))) for s in range(t + 1)]
            chosen = rows.selected[q, : t + 1].numpy()
            chance = np.array(chances(left, int(chosen.sum())))
            recalls.append(float(chance @ rows.p[q, : t + 1].double().numpy()))
            overlaps.append(float(chance[chosen].sum() / chosen.sum()))
        weight = rows.weight.numpy()
        assert found["recall"][removed] == pytest.approx(np.average(recalls, weights=weight))
        assert found["overlap"][removed] == pytest.approx(np.average(overlaps, weights=weight))


def test_removing_no_head_gives_what_all_heads_give() -> None:
    rows = random_rows(1)
    heads = collected(head_collector(), [[rows]], IDS)["indexer_heads"]
    pruned = collected(pruning_collector(removal_order(heads)), [[rows]], IDS)["indexer_pruning"]
    assert pruned["recall"][0] == pytest.approx(heads["recall_with"][0])
    # And removing the first in the order loses what leaving it out loses.
    least = (heads["recall_with"] - heads["recall_without"]).min()
    assert pruned["recall"][0] - pruned["recall"][1] == pytest.approx(least)


def test_layers_without_an_order_are_left_out() -> None:
    found = collected(pruning_collector({}), [[random_rows(0)]], IDS)["indexer_pruning"]
    assert found.is_empty()
    assert found.schema == PRUNING.schema
    assert removal_order(collected(head_collector(), [], IDS)["indexer_heads"]) == {}
