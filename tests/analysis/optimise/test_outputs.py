"""What a search says: starts from a report, engines' keys, the table, the figure and the words."""

from __future__ import annotations

import polars as pl
import pytest

from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.optimise.figures import search_figure
from indexscope.analysis.optimise.serving import every, serving
from indexscope.analysis.optimise.space import Layer, Space
from indexscope.analysis.optimise.starts import starts
from indexscope.analysis.optimise.tables import FRONT, front_table
from indexscope.analysis.optimise.validation import candidates, validated
from indexscope.analysis.optimise.words import Found, document, sentence
from indexscope.analysis.settings import BootstrapSettings
from tests.analysis.optimise.planted import Planted, cost_of, searched, space_of, typical


@pytest.fixture(scope="module")
def found() -> Found:
    space = space_of(3)
    cost, planted = cost_of(space), Planted(space, typical(space))
    arm = searched(planted, cost, budget=8, samples=16)
    chain = candidates([one for one in arm.tried.values() if one.full], arm.goal)
    tests = [(one.edit, list(planted.evaluate(one.edit, range(100, 124)))) for one in chain]
    held = validated(tests, 0.005, BootstrapSettings())
    return Found("study", "base", space, "nll", "attention", 0.005, {"search": arm}, held, {}, 16, 24, {})


def test_starts_are_what_the_report_recommends_alone_and_together() -> None:
    space = space_of(3, heads=2)
    frames = {
        "indexer_heads.pruning": pl.DataFrame(
            {
                "layer": [0, 0, None],
                "removed": [0, 1, 1],
                "indexer_head": [None, 1, None],
                "recall_loss": [0.0, 0.002, 0.002],
            }
        ),
        "layer_sharing.schedules": pl.DataFrame(
            {"indexers": [3, 2], "method": ["exact"] * 2, "layers": ["0,1,2", "0,1"], "loss": [0.0, 0.008]}
        ),
        "key_budget.budgets": pl.DataFrame(
            {"layer": [None, None], "method": ["model", "fixed"], "k": [64, 33], "recall": [0.9, 0.88]},
            schema_overrides={"layer": pl.Int16},
        ),
    }
    edits = starts(space, frames)
    assert edits[0] == Edit(indexer_heads={0: (0,)}, topk={0: 32, 1: 32}, share="FFS")
    assert {Edit(share="FFS"), Edit(indexer_heads={0: (0,)}), Edit(topk={0: 32, 1: 32, 2: 32})} <= set(edits)
    alone = {"indexer_heads.pruning": frames["indexer_heads.pruning"]}
    assert starts(space, alone) == [Edit(indexer_heads={0: (0,)})]
    assert starts(space, {}) == []


@pytest.mark.parametrize("share", ["FSFS", "FFSFSF", "FSSSF", "FFFSSSF", "FSFFS", "FFSS"])
def test_frequency_and_offset_say_the_same_as_the_letters(share: str) -> None:
    found = every(share)
    if found is None:
        assert share == "FSFFS"
        return
    freq, offset = found
    assert share == "".join("S" if max(layer - offset + 1, 0) % freq else "F" for layer in range(len(share)))


def test_engines_are_told_what_they_can_say_and_the_rest_is_listed() -> None:
    space = space_of(4)
    told = serving(space, Edit(topk={layer: 32 for layer in (0, 2)}, share="FSFS"))
    assert told["engines"]["vllm"]["keys"] == {"use_index_cache": True, "index_topk_pattern": "FSFS", "index_topk": 32}
    assert told["engines"]["sglang"]["keys"] == {"index_topk_pattern": "FSFS", "index_topk": 32}
    assert told["engines"]["transformers"]["keys"] == {"indexer_types": ["full", "shared"] * 2}
    assert told["same as index_topk_pattern"] == {"index_topk_freq": 2, "index_skip_topk_offset": 1}
    assert told["not expressed"] == []
    more = Edit(indexer_heads={0: (0,), 1: (0, 1)}, topk={0: 32}, precision="fp8")
    told = serving(Space(2, (Layer(0, 4, 64), Layer(1, 4, 64)), ("fp8",)), more)
    assert [line.split(":")[0] for line in told["not expressed"]] == ["k by layer", "indexer heads", "scores in fp8"]
    assert told["engines"]["vllm"]["keys"] == {}


def test_the_sentence_holds_cost_loss_interval_samples_and_bound(found: Found) -> None:
    winner = found.winner
    assert winner is not None
    text = sentence(found)
    assert f"{100 * found.cost_of(winner.edit):.1f} %" in text
    assert f"{winner.loss.mean:+.4f} [{winner.loss.low:+.4f}, {winner.loss.high:+.4f}]" in text
    assert "24 held-out samples, within +0.005" in text
    assert sentence(found) in document(found)


def test_the_table_has_a_row_an_edit_and_the_figure_a_mark(found: Found) -> None:
    table = front_table(found.arms, found.tests, {}, {})
    assert table.height == len(found.search.tried)
    assert table.schema == FRONT.schema
    assert table["holds"].sum() == sum(one.holds for one in found.tests)
    data = search_figure(table, 0.005, "nats per token", "FLOPs").data  # type: ignore[attr-defined]
    marks = data.filter(pl.col("series").str.starts_with("run on") | pl.col("series").str.contains("lose more"))
    assert marks.height == table.height
