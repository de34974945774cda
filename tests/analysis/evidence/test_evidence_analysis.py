"""From planted answers to cells, outcomes and the keys needed."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from indexscope.analysis.evidence import EvidenceSettings
from indexscope.analysis.evidence.run import length_groups, run
from indexscope.analysis.evidence.tables import RESULTS
from indexscope.analysis.metrics.registry import REGISTRY
from tests.analysis.evidence.planted import features
from tests.declared import check

SETTINGS = EvidenceSettings(resamples=200)
Tables = dict[str, pl.DataFrame]


@pytest.fixture(scope="module")
def found() -> Tables:
    return run(features(), SETTINGS)


def value(found: Tables, metric: str, **group: object) -> float:
    of = pl.col("metric") == metric
    for name in ("kind", "length", "depth"):
        of &= pl.col(name).is_null() if group.get(name) is None else pl.col(name) == group[name]
    (row,) = found["evidence_cells"].filter(of).iter_rows(named=True)
    assert row["ci_low"] is None or row["ci_low"] <= row["value"] <= row["ci_high"]
    return float(row["value"])


def test_the_tables_are_as_declared_and_all_metrics_are_among_them(found: Tables) -> None:
    for name, table in RESULTS.items():
        check(found[name], table)
    wanted = {name for name, metric in REGISTRY.items() if metric.table in ("evidence", "answers")}
    assert set(found["metrics"]["metric"]) == wanted == set(found["evidence_cells"]["metric"])
    assert found["metrics"].filter(pl.col("layer").is_null() & pl.col("value").is_null()).is_empty()


def test_every_cell_has_the_planted_values(found: Tables) -> None:
    for length in (512, 2048):
        for depth in range(10):
            kept = length == 512 or depth >= 5
            group = {"length": length, "depth": depth / 10}
            assert value(found, "evidence_selected", **group) == (1.0 if kept else 0.5)
            assert value(found, "evidence_kept_whole", **group) == (1.0 if kept else 0.5)
            assert value(found, "evidence_least_selected", **group) == (1.0 if kept else 0.0)
            assert value(found, "answers_lost", **group) == (0.0 if kept else 1.0)
            assert value(found, "answer_nll", **group) == (0.5 if kept else 2.0)
            assert value(found, "evidence_attention_kept", **group) == pytest.approx(1.0 if kept else 0.5)
    assert value(found, "evidence_selected") == 0.875 and value(found, "evidence_selected", length=2048) == 0.75
    assert value(found, "answer_exact", kind="copy") == 13 / 20 and value(found, "answer_exact", kind="single") == 0.75
    assert value(found, "dense_answer_exact") == 0.95 and value(found, "evidence_by_chance") == 0.125
    assert value(found, "evidence_missing_where_lost") == 0.0, "half of the evidence is there: that is not below a half"


def test_values_by_layer_are_those_of_the_layers(found: Tables) -> None:
    rows = found["metrics"].filter(pl.col("metric") == "evidence_selected").sort("layer", nulls_last=False)
    assert rows["value"].to_list() == [0.875, 1.0, 0.75]


def test_by_sample_gives_the_cells_again(found: Tables) -> None:
    rows = found["by_sample"]
    again = rows.group_by("metric", "length").agg(
        value=(pl.col("value") * pl.col("weight")).sum() / pl.col("weight").sum()
    )
    for metric, length, mean in again.iter_rows():
        assert value(found, metric, length=length) == pytest.approx(mean)


def test_lost_answers_without_their_evidence_are_told_from_others() -> None:
    told = run(features(), EvidenceSettings(resamples=50, missing=0.6))["answer_outcomes"]
    outcomes = {row["outcome"]: row for row in told.iter_rows(named=True)}
    assert {name: row["n"] for name, row in outcomes.items()} == {
        "both right": 56,
        "lost": 20,
        "gained": 0,
        "both wrong": 4,
    }
    assert outcomes["lost"]["missing"] == 1.0 and outcomes["both right"]["missing"] == 0.0
    assert outcomes["lost"]["selected"] == 0.5 and outcomes["both right"]["selected"] == 1.0
    assert outcomes["lost"]["share"] == 0.25 and outcomes["gained"]["selected"] is None


def test_evidence_that_is_not_looked_at_is_not_missed_and_what_is_looked_at_is_told_by_attention_alone() -> None:
    given = features()
    looked = pl.when(pl.col("layer") == 1).then(0.4).otherwise(0.0)
    # Layer 1, which alone looks, holds none of what is lost; layer 0 holds all of it and never looks.
    evidence = given["evidence"].with_columns(attention=looked, attention_kept=looked * pl.col("selected"))
    found = run(given | {"evidence": evidence}, SETTINGS)
    assert value(found, "evidence_missing_where_lost") == 1.0 and value(found, "evidence_selected") == 0.875
    assert set(found["lost_answers"]["attention_kept"]) == {0.0} and set(found["lost_answers"]["selected"]) == {0.5}
    # The other way about: what is selected by layer 0 is all that is looked at.
    looked = pl.when(pl.col("layer") == 0).then(0.4).otherwise(0.0)
    found = run(
        given | {"evidence": given["evidence"].with_columns(attention=looked, attention_kept=looked)},
        EvidenceSettings(resamples=50, missing=0.6),
    )
    assert value(found, "evidence_missing_where_lost") == 0.0 and value(found, "evidence_attention_kept") == 1.0


def test_where_attention_is_unknown_what_is_selected_tells_whether_evidence_is_missing() -> None:
    given = features()
    none = [pl.lit(None, dtype=pl.Float64).alias(name) for name in ("attention", "attention_kept")]
    unknown = given | {"evidence": given["evidence"].with_columns(none)}
    assert value(run(unknown, SETTINGS), "evidence_missing_where_lost") == 0.0
    told = run(unknown, EvidenceSettings(resamples=50, missing=0.6))
    assert (
        value(told, "evidence_missing_where_lost") == 1.0 and told["lost_answers"]["attention_kept"].null_count() == 12
    )


def test_the_keys_needed_are_quantiles_over_samples_and_layers(found: Tables) -> None:
    rows = {(row["length"], row["share"]): row["keys"] for row in found["evidence_keys"].iter_rows(named=True)}
    assert rows[512, 0.95] == rows[2048, 0.5] == 32.0
    of_2048 = np.sort([32.0] * 60 + [400.0] * 10 + [401.0] * 10)
    assert rows[2048, 0.9] == of_2048[int(0.9 * 80) - 1] and rows[2048, 0.95] == of_2048[int(0.95 * 80) - 1]


def test_the_lost_answers_that_are_shown_have_least_evidence(found: Tables) -> None:
    shown = found["lost_answers"]
    assert shown["sample"].n_unique() == 4 and shown["lost"].all() and set(shown["selected"]) == {0.5}
    assert shown.filter(pl.col("role") == "answer")["right"].to_list() == [False] * 4


def test_lengths_are_told_apart_as_they_are_where_they_are_few() -> None:
    assert length_groups(pl.Series([7, 900, 7])).to_list() == [7, 900, 7]
    many = pl.Series(list(range(500, 540)))
    assert set(length_groups(many)) == {512, 1024} and (length_groups(many) >= many).all()


def test_without_answers_all_is_empty_and_without_a_selection_what_rests_on_it() -> None:
    assert all(frame.is_empty() for frame in run({}, SETTINGS).values())
    given = features()
    none = [
        pl.lit(None, dtype=kind).alias(name) for name, kind in given["evidence"].schema.items() if name in _SELECTING
    ]
    unknown = [pl.lit(None, dtype=given["answers"].schema[name]).alias(name) for name in _DENSE]
    found = run(
        {"evidence": given["evidence"].with_columns(none), "answers": given["answers"].with_columns(unknown)}, SETTINGS
    )
    told = found["metrics"].filter(pl.col("value").is_not_null())["metric"].unique()
    assert set(told) == {"evidence_attention", "answer_nll", "answer_exact"}
    assert (
        found["answer_outcomes"].is_empty() and found["evidence_keys"].is_empty() and found["lost_answers"].is_empty()
    )


_SELECTING = ("in_effect", "selected", "chance", "kept_all", "attention_kept", "best_rank", "worst_rank", "needed")
_DENSE = ("dense_nll", "dense_right", "dense_exact")


def test_one_kind_and_one_length_are_told_once() -> None:
    given = features(kinds=("single",))
    few = {name: frame.filter(pl.col("sample") < 10) for name, frame in given.items()}
    cells = run(few, SETTINGS)["evidence_cells"]
    assert cells["kind"].null_count() == cells.height and set(cells["length"].drop_nulls()) == {512}
    assert cells.filter(pl.col("length").is_null() & pl.col("depth").is_not_null()).height
