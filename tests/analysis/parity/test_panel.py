"""What is made of the sums, and what the report says of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from indexscope.analysis.parity.dumps import parity_dumps
from indexscope.analysis.parity.panel import brief, draw, tables, words
from indexscope.analysis.parity.run import run
from indexscope.analysis.parity.tables import COMPARED
from indexscope.analysis.parity.watch import parity_samples
from indexscope.analysis.settings import ComparisonSettings, ExtractSettings
from tests.analysis.conftest import tiny_dsa
from tests.analysis.parity.made import Array, dump_of
from tests.analysis.samples import samples

TOP = 8
SAMPLES = samples(40, 33, 25)


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_dsa(topk=TOP)


def shifted(rows: Array) -> None:
    """Layer 1 is off by one key from position 20 on."""
    own = rows[20:, 1]
    own[own >= 0] = np.maximum(own[own >= 0] - 1, 0)


def compared(model: Any, change: Any = lambda rows: None, some: Any = SAMPLES) -> dict[str, pl.DataFrame]:
    dump = dump_of(model, some, TOP, change)
    found = parity_samples(model, SAMPLES, dump, 1e-5, ExtractSettings(chunk=16, device="cpu"))
    return run({"fp8": found}, ComparisonSettings(resamples=50))


def value(frames: dict[str, pl.DataFrame], metric: str, layer: int | None = None) -> Any:
    rows = frames["metrics"].filter((pl.col("metric") == metric) & pl.col("layer").eq_missing(layer))
    return rows["value"].item() if rows.height else None


def test_an_identical_dump_is_1_everywhere(model: Any) -> None:
    frames = compared(model)
    for metric in ("rows_identical", "rows_identical_up_to_ties", "selection_overlap"):
        for layer in (None, 0, 1, 2):
            assert value(frames, metric, layer) == 1
    for metric in ("missing_keys", "extra_keys", "dumped_recall_lost", "future_keys", "rows_incomplete"):
        assert value(frames, metric) == 0
    assert value(frames, "differences_from_ties") is None  # nothing differs
    assert words(frames) == [
        "All 3 samples have a record of the same tokens.",
        "It selects exactly the baseline's keys in every row in effect.",
    ]


def test_a_shifted_layer_is_named_with_position_and_distance(model: Any) -> None:
    frames = compared(model, shifted)
    assert [value(frames, "rows_identical", layer) == 1 for layer in (0, 1, 2)] == [True, False, True]
    said = " ".join(words(frames))
    assert (
        "They part in more than ties first in layer 1, in 3 of 3 samples that part at all: earliest at position 20"
        in said
    )
    assert "the nearest key that differs" in said
    assert "What that does to outputs was not measured." in said
    assert frames["parity_samples"]["beyond_layer"].to_list() == [1, 1, 1]
    where = frames["parity_where"].filter(pl.col("layer") == 1)
    assert where.filter(pl.col("bucket") == 5)["rows_identical"].item() < 1
    assert where.filter(pl.col("bucket") == 3)["rows_identical"].item() == 1
    titles = [one.name for one in draw(frames) if one.figure is not None]
    assert titles == ["parity", "parity-map", "parity-distance"]
    shown = {table.caption.partition(",")[0]: table for table in tables(frames)}
    assert len(shown) == 3
    assert [row[0] for row in next(iter(shown.values())).rows] == ["all", "0", "1", "2"]
    short = brief(frames)
    assert short is not None and short.rows[0][0] == "rows identical"


def test_metrics_are_ratios_of_sums_with_an_interval_over_samples(model: Any) -> None:
    frames = compared(model, shifted)
    row = frames["metrics"].row(
        by_predicate=(pl.col("metric") == "rows_identical") & pl.col("layer").is_null(), named=True
    )
    lost = sum(len(sample.input_ids) - 20 for sample in SAMPLES)
    effect = 3 * sum(len(sample.input_ids) - TOP for sample in SAMPLES)
    assert row["value"] == pytest.approx(1 - lost / effect)
    assert row["ci_low"] < row["value"] < row["ci_high"]
    assert row["n"] == 3
    everywhere = frames["parity_distances"].filter(pl.col("layer").is_null())
    assert everywhere["missing"].sum() / effect == pytest.approx(value(frames, "missing_keys"))
    assert everywhere["extra"].sum() / effect == pytest.approx(value(frames, "extra_keys"))
    assert everywhere["selected"].sum() == TOP * effect


def test_no_interval_of_a_share_leaves_0_to_1(model: Any) -> None:
    frames = compared(model, shifted)
    shares = frames["metrics"].filter((pl.col("unit") == "share") & (pl.col("metric") != "dumped_recall_lost"))
    known = shares.drop_nulls("ci_low")
    assert known.height
    assert (known["ci_low"].is_between(0, known["value"]) & known["ci_high"].is_between(known["value"], 1)).all()
    where = frames["parity_where"].drop_nulls("rows_ci_low")
    assert where.height
    assert (where["rows_ci_low"].is_between(0, 1) & where["rows_ci_high"].is_between(0, 1)).all()


def test_slots_of_a_cache_are_suspected_where_many_entries_are_no_earlier_tokens(model: Any) -> None:
    said = " ".join(words(compared(model, lambda rows: rows.__iadd__(64 * (rows >= 0)))))
    assert "entries a row name no token that the query may select; they count as no selection." in said
    assert "So many suggest that the dump holds slots of a cache in place of positions" in said


def test_samples_without_a_record_are_named(model: Any) -> None:
    frames = compared(model, some=SAMPLES[:1])
    assert words(frames)[0] == "1 of 3 samples have a record of the same tokens; without one: d1, d2."


def test_two_dumps_have_no_scores_and_no_attention(model: Any) -> None:
    dump, other = dump_of(model, SAMPLES, TOP), dump_of(model, SAMPLES, TOP, shifted)
    frames = run({"b": parity_dumps(dump, SAMPLES, other, 1e-5)}, ComparisonSettings(resamples=50))
    held = set(frames["metrics"]["metric"])
    assert {"rows_identical", "selection_overlap", "missing_keys"} <= held
    assert held.isdisjoint({"rows_identical_up_to_ties", "differences_from_ties", "dumped_recall", "differing_key_gap"})
    said = " ".join(words(frames))
    assert "They part first in layer 1" in said
    assert "ties" not in said and "attention" not in said


def test_no_dump_gives_empty_tables_of_the_declared_types() -> None:
    frames = run({}, ComparisonSettings(resamples=50))
    assert {name: frame.schema for name, frame in frames.items()} == {
        name: table.schema for name, table in COMPARED.items()
    }
