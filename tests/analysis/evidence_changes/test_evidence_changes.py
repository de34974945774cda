"""Candidates beside the baseline, in planted answers."""

from __future__ import annotations

import polars as pl
import pytest

from indexscope.analysis.evidence import EvidenceSettings
from indexscope.analysis.evidence.run import run as analyse
from indexscope.analysis.evidence_changes.panel import PANEL
from indexscope.analysis.evidence_changes.run import run
from indexscope.analysis.evidence_changes.tables import COMPARED
from indexscope.analysis.settings import ComparisonSettings
from indexscope.errors import IndexscopeError
from tests.analysis.evidence.planted import features
from tests.declared import check

SETTINGS = ComparisonSettings(resamples=100)
Tables = dict[str, pl.DataFrame]


def model(lost_below: float) -> Tables:
    found = analyse(features(lost_below), EvidenceSettings(resamples=10))
    return {"evidence.by_sample": found["by_sample"]}


@pytest.fixture(scope="module")
def changes() -> pl.DataFrame:
    models = {"base": model(0.5), "same": model(0.5), "worse": model(0.8), "none": {}}
    found = run(models, "base", SETTINGS)["evidence_changes"]
    check(found, COMPARED["evidence_changes"])
    return found


def row(changes: pl.DataFrame, candidate: str, metric: str, **group: object) -> dict[str, object]:
    of = (pl.col("candidate") == candidate) & (pl.col("metric") == metric)
    for name in ("kind", "length", "depth"):
        of &= pl.col(name).is_null() if group.get(name) is None else pl.col(name) == group[name]
    (found,) = changes.filter(of).iter_rows(named=True)
    return dict(found)


def test_differences_are_where_the_candidate_loses_evidence_and_nowhere_else(changes: pl.DataFrame) -> None:
    assert set(changes["candidate"]) == {"same", "worse"}
    for depth in range(10):
        found = row(changes, "worse", "evidence_selected", length=2048, depth=depth / 10)
        assert found["difference"] == (-0.5 if 5 <= depth < 8 else 0.0) and found["n"] == 4
    whole = row(changes, "worse", "answer_exact")
    assert (whole["baseline"], whole["value"]) == (56 / 80, 44 / 80) and (whole["better"], whole["worse"]) == (0, 12)
    assert row(changes, "worse", "answer_nll", length=2048, depth=0.6)["difference"] == 1.5
    assert set(changes.filter(pl.col("candidate") == "same")["difference"]) == {0.0}


def test_what_has_no_direction_is_neither_better_nor_worse(changes: pl.DataFrame) -> None:
    assert row(changes, "worse", "evidence_attention")["better"] is None


def test_other_samples_are_refused() -> None:
    few = {"evidence.by_sample": model(0.5)["evidence.by_sample"].filter(pl.col("sample") < 10)}
    with pytest.raises(IndexscopeError, match="different samples"):
        run(
            {
                "base": {"evidence.by_sample": model(0.5)["evidence.by_sample"].with_columns(pl.col("sample") + 7)},
                "few": few,
            },
            "base",
            SETTINGS,
        )


def test_a_baseline_without_answers_has_nothing_beside_it() -> None:
    assert run({"base": {}, "x": model(0.5)}, "base", SETTINGS)["evidence_changes"].is_empty()


def test_the_panel_says_what_got_better_and_worse(changes: pl.DataFrame) -> None:
    own = {"evidence_changes": changes.filter(pl.col("candidate") == "worse")}
    text = " ".join(PANEL.words(own))
    assert "12 answers that the baseline gives exactly are lost, 0 are gained" in text
    assert "Evidence selected: −0.075" in text
    assert [table.columns[0] for table in PANEL.tables(own)] == ["length (tokens)", "question", "evidence from"]
