"""Claims about the panels on budgets and stability, and about what describes their tables."""

from __future__ import annotations

import polars as pl
import pytest

from indexscope.analysis.capture import CapturedModel
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.closeup.looking import collect_samples
from indexscope.analysis.closeup.tables import RERUN_TABLES
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.key_budget import KeyBudgetSettings
from indexscope.analysis.key_budget import run as key_budget
from indexscope.analysis.key_budget.collect import budget_collector, drift_collector
from indexscope.analysis.key_budget.panel import PANEL as BUDGET
from indexscope.analysis.report.panel import Panel
from indexscope.analysis.settings import ExtractSettings
from indexscope.analysis.stability import StabilitySettings
from indexscope.analysis.stability import run as stability
from indexscope.analysis.stability.collect import stability_collector
from indexscope.analysis.stability.panel import PANEL as STABILITY
from indexscope.analysis.stability.rerun import rerun_stability
from indexscope.tasks.common.tables import declared
from tests.analysis.conftest import tiny_dsa, tiny_llama
from tests.analysis.samples import samples
from tests.declared import check
from tests.report.drawing import drawn

MAKERS = (budget_collector(), drift_collector(), stability_collector())
Tables = dict[str, pl.DataFrame]


def looked(model) -> Tables:
    source = CapturedModel(model)
    attempt = Attempt(source, ExtractSettings(chunk=32), Journal())
    many = samples(60, 50, 40)
    return collect_samples(source, many, MAKERS, 12, attempt) | rerun_stability(source, many[:2], 12, attempt)


def analysed(tables: Tables) -> dict[str, Tables]:
    return {
        "key_budget": key_budget.run(tables, KeyBudgetSettings(resamples=50)),
        "stability": stability.run(tables, StabilitySettings(resamples=50)),
    }


@pytest.fixture(scope="module")
def sparse() -> Tables:
    return looked(tiny_dsa(index_heads=2))


@pytest.fixture(scope="module")
def dense() -> Tables:
    return looked(tiny_llama())


def shown(panel: Panel, frames: Tables) -> tuple[str, int, int]:
    """Words, number of figures and number of table rows, drawn with warnings as errors."""
    kept = {name: frame for name, frame in frames.items() if not frame.is_empty()}
    tables = panel.tables(kept)
    for table in tables:
        assert all(len(row) == len(table.columns) for row in table.rows)
    return " ".join(panel.words(kept)), len(drawn(panel, kept)), sum(len(table.rows) for table in tables)


def test_panels_say_what_the_frames_hold(sparse) -> None:
    frames = analysed(sparse)
    words, figures, rows = shown(BUDGET, frames["key_budget"])
    own = frames["key_budget"]["budgets"].filter((pl.col("method") == "fixed") & (pl.col("target") == 0.95))
    assert f"k = {own['k'][0]:.4g}" in words and "n = 3 samples" in words and "up to 8 keys" in words
    assert (figures, rows) == (2, 4)
    words, figures, rows = shown(STABILITY, frames["stability"])
    ties = frames["stability"]["variants"].filter((pl.col("variant") == "ties") & pl.col("layer").is_null())
    assert f"{ties['changed'][0] * 100:.3g}" in words and "FP8" in words and "Fragile" in words
    assert (figures, rows) == (1, 7 + 3)


def test_a_dense_model_has_a_panel_on_budgets_only(dense) -> None:
    frames = analysed(dense)
    words, figures, _ = shown(BUDGET, frames["key_budget"])
    assert "The best choice would keep 95" in words and "indexer" not in words and figures == 1
    assert all(frame.is_empty() for frame in frames["stability"].values())


@pytest.mark.parametrize("panel", [BUDGET, STABILITY])
def test_panels_do_with_any_of_their_frames(panel, sparse) -> None:
    frames = analysed(sparse)[panel.analysis]
    for name, frame in frames.items():
        shown(panel, {name: frame})


def test_one_sample_has_no_intervals_but_a_panel(sparse) -> None:
    one = {name: frame.filter(pl.col("sample") == 0) for name, frame in sparse.items()}
    for panel, frames in ((BUDGET, analysed(one)["key_budget"]), (STABILITY, analysed(one)["stability"])):
        words, _, _ = shown(panel, frames)
        assert "n = 1 samples" in words and "nan" not in words.lower() and "None" not in words


def test_frames_are_as_declared(sparse, dense) -> None:
    for tables in (sparse, dense):
        results = {("reruns" if name in RERUN_TABLES else "closeups", name): table for name, table in tables.items()}
        for analysis, frames in analysed(tables).items():
            results |= {(f"analyses/{analysis}", name): frame for name, frame in frames.items()}
        for (kind, name), frame in results.items():
            check(frame, declared()[kind, name])
