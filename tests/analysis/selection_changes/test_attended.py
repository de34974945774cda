from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl
import pytest
import torch

from indexscope import IndexscopeError
from indexscope.analysis.closeup.classes import CLASSES
from indexscope.analysis.closeup.collect import CloseupSample, Tables
from indexscope.analysis.closeup.rows import CloseupRows
from indexscope.analysis.selection_changes.attended import ATTENDED, LEAST, unpacked, unpacked_kinds
from indexscope.analysis.selection_changes.collect import attended_collector
from tests.analysis.closeup.made_rows import made, sample, topk


def collected(count: int | Literal["auto"], *chunks: list[CloseupRows], length: int = 200) -> Tables:
    collector = attended_collector(count, None)(sample(length, 5))
    for chunk in chunks:
        collector.add(chunk)
    return collector.tables()


def planted(seed: int, queries: int, keys: int, layer: int) -> CloseupRows:
    torch.manual_seed(seed)
    query = torch.arange(keys - queries, keys)
    seen = torch.arange(keys) <= query[:, None]
    p = (torch.randn(queries, keys) * 2).masked_fill(~seen, -torch.inf).softmax(-1)
    return made(p, selected=topk(torch.randn(queries, keys), query, 8), layer=layer)


def test_the_most_attended_keys_and_all_others_add_up_to_the_attention() -> None:
    rows = [planted(layer, 12, 40, layer) for layer in (0, 2)]
    table = collected(10, rows)["attended"]
    assert table.schema == ATTENDED.schema and table.height == 24
    found = unpacked(table)
    for place, row in enumerate(table.iter_rows(named=True)):
        own = rows[row["layer"] // 2]
        at = row["query"] - 28
        p, selected = own.p[at].double().numpy(), own.selected[at].numpy()  # type: ignore[index]
        best = np.argsort(-p, kind="stable")[:10]
        held = found.of((place << 32) + np.arange(40))
        assert set(np.flatnonzero(~np.isnan(held))) == set(best)
        assert held[best] == pytest.approx(p[best], rel=2**-11)
        rest = np.delete(np.arange(40), best)
        assert row["selected_rest"] == pytest.approx(p[rest][selected[rest]].sum(), abs=1e-6)
        assert row["unselected_rest"] == pytest.approx(p[rest][~selected[rest]].sum(), abs=1e-6)


def test_what_float16_cannot_hold_and_keys_after_the_query_are_not_kept() -> None:
    p = torch.tensor([[0.5, 0.25, 0.25, 0.0], [0.5, LEAST, LEAST / 2, 0.5 - 1.5 * LEAST]])
    rows = made(p, selected=torch.tensor([[True, False, False, False], [True, False, True, True]]))
    table = collected(9, [rows])["attended"]
    assert table["kept"].to_list() == [3, 3] and table["selected_rest"][1] == pytest.approx(LEAST / 2)
    assert unpacked(table).of(np.array([(1 << 32) + 1, (1 << 32) + 2])).tolist() == pytest.approx(
        [LEAST, np.nan], nan_ok=True
    )


def test_as_many_keys_as_four_selections_are_kept_unless_it_is_said() -> None:
    assert collected("auto", [planted(0, 6, 60, 0)])["attended"]["kept"].to_list() == [32] * 6
    assert collected("auto", [planted(0, 2, 9, 0)])["attended"]["kept"].to_list() == [8, 9], "no more than there are"


def test_layers_that_select_nothing_and_a_count_of_zero_keep_nothing() -> None:
    assert collected(4, [made(torch.eye(3))])["attended"].is_empty()
    none = collected(0, [planted(0, 2, 9, 0)])
    assert none["attended"].is_empty() and none["token_kinds"].is_empty()


def test_kinds_tell_equal_tokens_and_classes_but_no_token() -> None:
    ids = torch.tensor([7, 300, 7, 2, 300])
    codes = np.full(8, CLASSES.index("digit"), dtype=np.int8)
    codes[2] = CLASSES.index("word start")
    for classes in (codes, None):
        row = attended_collector(1, classes)(CloseupSample(3, "d", ids)).tables()["token_kinds"].row(0, named=True)
        assert (row["sample"], row["tokens"]) == (3, 5)
        found, first = unpacked_kinds(row["classes"], row["first"])
        assert first.tolist() == [0, 1, 0, 3, 1]
        if classes is None:
            assert found is None
        else:
            assert found is not None
            assert [CLASSES[code] for code in found] == ["digit", "special", "digit", "word start", "special"]


@pytest.mark.parametrize("column", ["keys", "mass", "kept"])
def test_damaged_rows_are_refused_in_one_line(column: str) -> None:
    table = collected(4, [planted(0, 2, 9, 1)])["attended"]
    cut = pl.lit(9) if column == "kept" else pl.lit(b"\x80")
    damaged = table.with_columns(pl.when(pl.col("query") == 8).then(cut).otherwise(column).alias(column))
    with pytest.raises(IndexscopeError, match=r"1 rows hold no attention, the first is sample 5, layer 1, query 8"):
        unpacked(damaged.cast({"kept": pl.Int32}))
