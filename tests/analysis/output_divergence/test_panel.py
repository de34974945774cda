"""Claims about what a report says of predictions."""

from __future__ import annotations

import json

import polars as pl
import pytest

from indexscope.analysis.metrics.registry import label
from indexscope.analysis.names import markdown
from indexscope.analysis.output_divergence.panel import PANEL
from indexscope.analysis.report import render
from tests.report.drawing import drawn
from tests.report.fixtures import report
from tests.report.output_frames import output_frames


def texts(frames: dict[str, pl.DataFrame]) -> tuple[str, int, list[tuple[str, ...]]]:
    """Words, number of figures and rows of the tables, drawn with warnings as errors."""
    tables = PANEL.tables(frames)
    for table in tables:
        assert all(len(row) == len(table.columns) for row in table.rows)
    return " ".join(PANEL.words(frames)), len(drawn(PANEL, frames)), [row for table in tables for row in table.rows]


def set_value(frame: pl.DataFrame, statistic: str, value: float | None, **bounds: float) -> pl.DataFrame:
    new = {"value": value, **bounds}
    here = (pl.col("statistic") == statistic) & (pl.col("against") == "baseline")
    return frame.with_columns(pl.when(here).then(pl.lit(new[name])).otherwise(name).alias(name) for name in new)


def test_the_words_are_the_numbers_of_the_frame() -> None:
    frames = output_frames("light", 1, 64)
    whole = set_value(frames["output_divergence"], "output_kl", 0.0123, ci_low=0.0102, ci_high=0.0143)
    whole = set_value(whole, "same_top_token", 0.875, ci_low=0.85, ci_high=0.9)
    whole = set_value(whole, "output_merged", 0.25)
    whole = set_value(whole, "log_perplexity_correlation", 0.99876)
    words, figures, rows = texts({**frames, "output_divergence": whole})
    for part in (
        "diverges from the baseline's by 0.0123 (CI 0.0102 to 0.0143) nats on average",
        "n = 64 samples",
        "87.5\u202f% of the queries (CI 85\u202f% to 90\u202f%)",
        "25\u202f% of the baseline's probability",
        "is a lower bound",
        "correlate at 99.88\u202f%",
        "that with all keys attended to",
    ):
        assert part in words, part
    assert figures == 1
    assert len(rows) == whole["statistic"].n_unique() + 1 + 10 + 6
    assert "not told apart" not in " ".join(
        PANEL.words(frames | {"output_divergence": set_value(whole, "output_merged", 0)})
    )


def test_a_baseline_is_held_against_its_own_dense_attention_alone() -> None:
    words, figures, rows = texts(output_frames("baseline", 0, 64))
    assert words.startswith("Its perplexity is ") and "all keys attended to" in words and "the baseline" not in words
    assert (figures, len(rows)) == (1, 1)


def test_a_divergence_that_is_not_known_is_told_with_its_reason() -> None:
    frames = output_frames("light", 1, 64)
    whole = frames["output_divergence"]
    for name in whole["statistic"].unique():
        if name.startswith("output"):
            whole = set_value(whole, name, None)
    whole = whole.with_columns(note=pl.when(pl.col("value").is_null()).then(pl.lit("the vocabularies differ")))
    words, _, _ = texts({**frames, "output_divergence": whole})
    assert "There is no divergence: the vocabularies differ." in words


@pytest.mark.parametrize("name", ["output_divergence", "output_divergence_by"])
def test_the_panel_does_with_either_frame(name: str) -> None:
    texts({name: output_frames("light", 1, 1)[name]})


def test_all_three_files_hold_the_statistics() -> None:
    files = render(report())
    data = json.loads(files["report.json"])
    (expected,) = [
        row
        for row in output_frames("light", 1, 64)["output_divergence"].iter_rows(named=True)
        if (row["against"], row["statistic"]) == ("baseline", "output_kl_p99")
    ]
    rows = {(row["model"], row["against"], row["statistic"]): row for row in data["output_divergence"]}
    assert rows["light", "baseline", "output_kl_p99"] == expected | {"leaks": False}
    assert ("baseline", "dense", "perplexity_ratio") in rows and ("baseline", "baseline", "output_kl") not in rows
    classes = {row["label"] for row in data["output_divergence_by"] if row["axis"] == "token class"}
    assert "word start" in classes
    assert "<summary>light: next-token predictions against the baseline</summary>" in files["report.md"]
    assert f"| {markdown(label('output_kl_p99'))} | nats | " in files["report.md"]
    assert "Output divergence" in files["report.html"]


def test_metrics_that_compare_by_themselves_are_not_called_measured_for_one_model_only() -> None:
    given = report()
    assert set(given.own_metrics("light")["metric"]) >= {"output_kl", "same_top_token"}
    assert "output_kl" not in set(given.own_metrics("baseline")["metric"]) | set(given.comparisons["metric"])
    markdown = render(given)["report.md"]
    assert "for the candidate only" not in markdown
