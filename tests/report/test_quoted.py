"""The sentence of each candidate that a paper can quote, from planted numbers."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from indexscope.analysis.report.html_report import build_html
from indexscope.analysis.report.markdown_report import build_markdown
from indexscope.analysis.report.quoted import quotes
from tests.report.fixtures import report

N = "\u202f"


def planted(**recall: tuple[float, float, float]) -> tuple[str, ...]:
    given = report(candidates=("light",), gates=False)
    rows = [
        {"model": "light", "metric": "recall_of_oracle", "unit": "share", "value": recall["value"][0],
         "ci_low": recall["value"][1], "ci_high": recall["value"][2], "n": 64},
        {"model": "light", "metric": "relative_cost", "unit": "ratio", "value": 0.281, "ci_low": None, "ci_high": None,
         "n": 64},
    ]  # fmt: skip
    metrics = pl.DataFrame([{"layer": None} | row for row in rows], schema=given.metrics.schema, strict=False)
    nll = (pl.col("metric") == "nll") & pl.col("layer").is_null()
    told = {"difference": 0.0018, "ci_low": 0.0007, "ci_high": 0.0029}
    comparisons = given.comparisons.with_columns(
        **{name: pl.when(nll).then(pl.lit(value)).otherwise(pl.col(name)) for name, value in told.items()}
    )
    return quotes(replace(given, metrics=metrics, comparisons=comparisons))


def test_a_candidate_is_told_by_what_it_keeps_what_it_costs_and_what_it_loses() -> None:
    (sentence,) = planted(value=(0.980, 0.979, 0.981))
    assert sentence.startswith(
        f"light: 98.00{N}% (97.90 to 98.10) of the best choice's recall, 28.1{N}% of the cost of dense attention, "
        "+0.0018 (+0.0007 to +0.0029) nats against baseline (n = "
    )


def test_an_interval_that_is_rounding_is_left_out() -> None:
    (sentence,) = planted(value=(1.0, 0.9999999, 1.0000001))
    assert sentence.startswith(f"light: 100{N}% of the best choice's recall")


def test_page_and_comment_show_the_sentences() -> None:
    given = report(candidates=("light", "half"), gates=False)
    found = quotes(given)
    assert len(found) == 2
    page = build_html(given, [])
    shown = page[page.index('<ul class="quotes">') :]
    assert shown[: shown.index("</ul>")].count("<li>") == 2
    assert "In a sentence" in build_markdown(given)
