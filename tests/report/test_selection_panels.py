"""Claims about the panels on budgets and stability, and about what describes their tables."""

from __future__ import annotations

import warnings

import polars as pl
import pytest

from indexscope.analysis import budget, plots, stability
from indexscope.analysis.capture import CapturedModel
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.probe.budget import budget_collector
from indexscope.analysis.probe.drift import drift_collector
from indexscope.analysis.probe.rerun import rerun_stability
from indexscope.analysis.probe.run import collect_samples
from indexscope.analysis.probe.stability import stability_collector
from indexscope.analysis.report.panels.budget import PANEL as BUDGET
from indexscope.analysis.report.panels.panel import Panel
from indexscope.analysis.report.panels.stability import PANEL as STABILITY
from indexscope.analysis.settings import BudgetSettings, ExtractSettings, StabilitySettings
from indexscope.tasks.common.tables import declared
from tests.analysis.conftest import tiny_dsa, tiny_llama
from tests.analysis.samples import samples
from tests.declared import check

MAKERS = (budget_collector(), drift_collector(), stability_collector())
Tables = dict[str, pl.DataFrame]


def probed(model) -> Tables:
    source = CapturedModel(model)
    attempt = Attempt(source, ExtractSettings(chunk=32), Journal())
    many = samples(60, 50, 40)
    return collect_samples(source, many, MAKERS, 12, attempt) | rerun_stability(source, many[:2], 12, attempt)


def analysed(tables: Tables) -> dict[str, Tables]:
    return {
        "budget": budget.run(tables, BudgetSettings(resamples=50)),
        "stability": stability.run(tables, StabilitySettings(resamples=50)),
    }


@pytest.fixture(scope="module")
def sparse() -> Tables:
    return probed(tiny_dsa(index_heads=2))


@pytest.fixture(scope="module")
def dense() -> Tables:
    return probed(tiny_llama())


def shown(panel: Panel, frames: Tables) -> tuple[str, int, int]:
    """Words, number of figures and number of table rows, drawn with warnings as errors."""
    kept = {name: frame for name, frame in frames.items() if not frame.is_empty()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = list(panel.draw(kept))
        for place, (figure, title, caption) in enumerate(figures):
            assert plots.to_svg(figure, f"p-{place}", title, caption).startswith("<svg")
    tables = panel.tables(kept)
    for table in tables:
        assert all(len(row) == len(table.columns) for row in table.rows)
    return " ".join(panel.words(kept)), len(figures), sum(len(table.rows) for table in tables)


def test_panels_say_what_the_frames_hold(sparse) -> None:
    frames = analysed(sparse)
    words, figures, rows = shown(BUDGET, frames["budget"])
    own = frames["budget"]["budgets"].filter((pl.col("method") == "fixed") & (pl.col("target") == 0.95))
    assert f"k = {own['k'][0]:.4g}" in words and "n = 3 samples" in words and "up to 8 keys" in words
    assert (figures, rows) == (2, 4)
    words, figures, rows = shown(STABILITY, frames["stability"])
    ties = frames["stability"]["variants"].filter((pl.col("variant") == "ties") & pl.col("layer").is_null())
    assert f"{ties['changed'][0] * 100:.3g}" in words and "FP8" in words and "Fragile" in words
    assert (figures, rows) == (1, 7 + 3)


def test_a_dense_model_has_a_panel_on_budgets_only(dense) -> None:
    frames = analysed(dense)
    words, figures, _ = shown(BUDGET, frames["budget"])
    assert "The best choice would hold 95" in words and "indexer" not in words and figures == 1
    assert all(frame.is_empty() for frame in frames["stability"].values())


@pytest.mark.parametrize("panel", [BUDGET, STABILITY])
def test_panels_do_with_any_of_their_frames(panel, sparse) -> None:
    frames = analysed(sparse)[panel.analysis]
    for name, frame in frames.items():
        shown(panel, {name: frame})


def test_one_sample_has_no_intervals_but_a_panel(sparse) -> None:
    one = {name: frame.filter(pl.col("sample") == 0) for name, frame in sparse.items()}
    for panel, frames in ((BUDGET, analysed(one)["budget"]), (STABILITY, analysed(one)["stability"])):
        words, _, _ = shown(panel, frames)
        assert "n = 1 samples" in words and "nan" not in words.lower() and "None" not in words


def test_frames_are_as_declared(sparse, dense) -> None:
    for tables in (sparse, dense):
        results = {("probes", name): table for name, table in tables.items()}
        for analysis, frames in analysed(tables).items():
            results |= {(f"analyses/{analysis}", name): frame for name, frame in frames.items()}
        for (kind, name), frame in results.items():
            check(frame, declared()[kind, name])
