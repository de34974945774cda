"""Numbers of a fit are ratios of sums over queries, with intervals over samples, and card and curves show them."""

from __future__ import annotations

import polars as pl
import pytest
import torch

from indexscope.analysis.fitting.card import fitted_card
from indexscope.analysis.fitting.figures import learning_curves
from indexscope.analysis.fitting.measure import Sums
from indexscope.analysis.fitting.summary import held_out_rows, held_out_table, summarised
from indexscope.analysis.fitting.tables import CURVES


def planted() -> pl.DataFrame:
    """Two samples with recalls of 0.5 over 1 query and 0.8 over 3, best 1.0 and 0.9, by chance 0.25 in both."""
    found = []
    for selected, oracle, count in ((0.5, 1.0, 1), (2.4, 2.7, 3)):
        sums = Sums()
        sums.recalls[0, 4] = [selected, oracle, 0.25 * count, count]
        sums.kl[0] = [0.2 * count, 2 * count]
        found.append(sums)
    return held_out_table(held_out_rows(7, "sparse", "h2-d8", found, (4,)))


def test_a_summary_is_a_ratio_of_sums_and_its_interval_goes_around_it() -> None:
    row = summarised(planted(), ("indexer", "topk")).row(0, named=True)
    assert (row["indexer"], row["topk"], row["samples"]) == ("h2-d8", 4, 2)
    assert row["selection_recall"] == pytest.approx(2.9 / 4)
    assert row["oracle_recall"] == pytest.approx(3.7 / 4)
    assert row["random_recall"] == pytest.approx(0.25)
    assert row["recall_of_oracle"] == pytest.approx(2.9 / 3.7)
    assert row["selection_skill"] == pytest.approx((2.9 - 1.0) / (3.7 - 1.0))
    assert row["kl"] == pytest.approx(0.1)
    for name in ("selection_recall", "recall_of_oracle", "selection_skill"):
        assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]


def test_recall_counts_queries_with_more_keys_than_are_selected() -> None:
    mean = torch.tensor([[[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]])
    scores = torch.tensor([[[0.0, 1.0, 2.0]] * 3]).masked_fill(mean == 0.0, -torch.inf)
    sums = Sums()
    sums.add(0, mean, scores, scores > -torch.inf, (1, 2, 3))
    assert sums.recalls[0, 1] == pytest.approx([0.5 + 0.5, 0.5 + 0.5, 1 / 2 + 1 / 3, 2])
    assert sums.recalls[0, 2] == pytest.approx([0.8, 0.8, 2 / 3, 1])
    assert (0, 3) not in sums.recalls
    assert sums.kl[0][1] == 3


def test_the_card_says_what_was_measured() -> None:
    card = fitted_card("h2-d8", "a llama model", 1234, {"seed": 3}, planted(), "There is no checkpoint.")
    assert "# Lightning indexer h2-d8" in card
    assert "1,234 parameters" in card
    assert "| seed | 3 |" in card
    assert "| 4 | 0.725 (" in card
    assert "| 4 | 0 | 0.725 | 0.925 | 0.250 | 0.704 | 0.100 |" in card


def test_the_curves_have_a_line_a_layer_and_one_of_their_mean() -> None:
    rows = [
        {
            "step": step,
            "stage": "dense",
            "indexer": "h2-d8",
            "topk": None,
            "layer": layer,
            "kl": 2.0**-step * (1 + layer),
        }
        for step in range(1, 6)
        for layer in range(3)
    ]
    left, right = learning_curves(pl.DataFrame(rows, schema=CURVES.schema), planted(), 4).axes
    assert len(left.lines) == 4
    assert [float(value) for value in left.lines[1].get_ydata()] == pytest.approx(
        [2 * 2.0**-step for step in range(1, 6)]
    )
    assert [float(value) for value in left.lines[3].get_ydata()] == pytest.approx(
        [2 * 2.0**-step for step in range(1, 6)]
    )
    assert [float(value) for value in right.lines[0].get_ydata()] == pytest.approx([1.9 / 2.7])
