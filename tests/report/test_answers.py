"""What the chapters open with: sentences with known numbers, and none that the numbers do not allow."""

from __future__ import annotations

import re
from dataclasses import replace

import polars as pl
import pytest

from indexscope.analysis import questions
from indexscope.analysis.candidates.answer import ANSWER as BASIS
from indexscope.analysis.efficiency.answer import ANSWER as COSTS
from indexscope.analysis.output_divergence.answer import ANSWER as OUTPUTS
from indexscope.analysis.parity.answer import ANSWER as DUMPS
from indexscope.analysis.recommendations.answer import ANSWER as ADVICE
from indexscope.analysis.recommendations.words import effect
from indexscope.analysis.report import ModelPage, ReportInput
from indexscope.analysis.report.panel import Answer
from indexscope.analysis.selection_changes.answer import ANSWER as CHANGES
from indexscope.analysis.stability.answer import ANSWER as STABLE
from tests.report.answered import advice, changes, variants, with_frames
from tests.report.fixtures import report

MINE = (COSTS, CHANGES, OUTPUTS, DUMPS, ADVICE, STABLE, BASIS)


def with_rows(given: ReportInput, metric: str, **cells: object) -> ReportInput:
    """The comparison with other numbers for one metric over all layers."""
    mask = (pl.col("metric") == metric) & pl.col("layer").is_null()
    rows = given.comparisons.with_columns(
        pl.when(mask).then(pl.lit(value)).otherwise(pl.col(name)).alias(name) for name, value in cells.items()
    )
    return replace(given, comparisons=rows)


def test_costs_are_told_beside_the_baseline_and_beside_dense_attention() -> None:
    given = report()
    given = with_rows(given, "indexer_flops", baseline=400.0, value=100.0, difference=-300.0)
    given = with_rows(
        given, "indexer_latency_ms", baseline=40.0, value=30.0, difference=-10.0, ci_low=-20.0, ci_high=-5.0
    )
    first, second = COSTS.say(given)
    assert first == (
        "The indexer of light takes 75\u202f% fewer FLOPs and 25\u202f% less time as measured here (30.0 instead of "
        "40.0 ms, beyond the spread of the repeats) than the baseline's."
    )
    assert "of what dense attention does" in second and "(baseline)" in second and "(light)" in second


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(-20.0, 1.0, "within the spread of the repeats"), (None, None, "timed once")],
)
def test_a_time_says_what_its_repeats_allow(low: float | None, high: float | None, said: str) -> None:
    given = with_rows(
        report(), "indexer_latency_ms", baseline=40.0, value=30.0, difference=-10.0, ci_low=low, ci_high=high
    )
    assert said in COSTS.say(given)[0]


def test_changes_name_the_share_the_layer_and_what_it_cost() -> None:
    given = with_frames(report(), "light", "selection_changes", changes(0.9, (0.002, 0.001, 0.003)))
    assert CHANGES.say(given) == [
        "Of the baseline's selected keys light keeps 90.0\u202f% (89.0 to 91.0), fewest in layer 2 "
        "(70\u202f%); that loses 0.20\u202f% (0.10 to 0.30) of the baseline's attention."
    ]


def test_a_loss_whose_interval_holds_nothing_is_no_loss() -> None:
    given = with_frames(report(), "light", "selection_changes", changes(0.9, (0.002, -0.001, 0.005)))
    assert "loses no measurable share of the baseline's attention (at most 0.5\u202f%)" in CHANGES.say(given)[0]


def test_outputs_are_told_with_their_intervals() -> None:
    (text,) = OUTPUTS.say(report())
    assert (
        text.startswith("The predictions of light diverge from the baseline's by 0.0")
        and len(re.findall(r"\([\d.]+ to [\d.]+\)", text)) == 2
    )


def test_advice_that_costs_nothing_is_no_gain() -> None:
    given = with_frames(report(), "light", "recommendations", advice(-5.39e-5, None, None))
    (text,) = ADVICE.say(given)
    assert text == (
        "For light first: k = 48 instead of 64: costs no measurable recall, saves 25\u202f% of indexer and attention "
        "FLOPs, 1\u202f% at 64 k."
    )


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ((0.0005, 0.0002, 0.00081), "costs no measurable recall (at most 0.0009)"),
        ((0.003, -0.001, 0.007), "costs at most 0.0070 of recall, or none"),
        ((0.0048, 0.0031, 0.0066), "costs 0.0048 of recall (0.0031 to 0.0066)"),
        ((-0.027, None, None), "gains about 0.0270 of recall (no interval)"),
        ((0.004, None, None), "costs about 0.0040 of recall (no interval)"),
        ((0.0, 0.0, 0.0), "costs no measurable recall (at most 0.0001)"),
    ],
)
def test_an_effect_is_told_no_further_than_its_interval_allows(row: tuple[float | None, ...], said: str) -> None:
    assert effect(dict(zip(("expected_loss", "ci_low", "ci_high"), row, strict=True))) == said


def test_nothing_to_take_away_is_said_where_it_was_looked_for() -> None:
    frames = advice(0.2, 0.1, 0.3)
    frames["recommendations"] = frames["recommendations"].clear()
    given = with_frames(report(), "light", "recommendations", frames)
    assert ADVICE.say(given) == [
        "As far as measured, nothing can be taken away from light within the limit of lost recall."
    ]
    assert ADVICE.say(report()) == []


def test_trust_says_what_another_computation_changes_and_what_would_be_seen() -> None:
    given = with_frames(report(), "light", "stability", variants(0.05))
    assert STABLE.say(given) == [
        "Of the selection of light another computation would change: ties the other way 0\u202f% and scores in "
        "simulated FP8 5.0\u202f% (4.0 to 6.0)."
    ]
    (text,) = BASIS.say(with_rows(given, "nll", mde=0.00154))
    assert "of 64 samples" in text and "a difference of next-token loss of 0.0015 nats between light" in text


def test_of_many_candidates_the_first_ranked_is_told_and_the_range_of_all() -> None:
    names = [f"run-{place:02}" for place in range(20)]
    given = report(candidates=names)
    for place, name in enumerate(names):
        given = with_frames(given, name, "selection_changes", changes(0.95 - 0.01 * place, (0.002, 0.001, 0.003)))
    (text,) = CHANGES.say(given)
    assert "(ranked first of 20 candidates) keeps" in text
    assert text.endswith("over all candidates 76\u202f% to 95\u202f% are kept.")
    assert all(len(answer.say(given)) <= 2 for answer in MINE)


def test_dumps_are_told_by_what_they_select() -> None:
    rows = [("fp8", "rows_identical", None, 1.0, "share", 1.0, 1.0, 8)]
    names = ["candidate", "metric", "layer", "value", "unit", "ci_low", "ci_high", "n"]
    page = ModelPage("fp8", "candidate", "a", {}, {"parity": {"metrics": pl.DataFrame(rows, names, orient="row")}}, "x")
    given = report()
    assert DUMPS.say(replace(given, models=[*given.models, page])) == ["fp8 selects exactly what the baseline selects."]
    assert DUMPS.say(given) == []


def test_a_dense_model_gets_its_cost_and_no_word_of_a_selection() -> None:
    given = report(candidates=(), dense=("baseline",))
    (text,) = COSTS.say(given)
    assert text.startswith("baseline has no indexer; its attention takes 3.1\u202fMFLOPs a token")
    assert [answer.say(given) for answer in (CHANGES, OUTPUTS, ADVICE, STABLE, DUMPS)] == [[]] * 5


def test_every_answer_stands_numbers_that_leak() -> None:
    given = report(candidates=("light", "other"), audit_failed=("light",)).for_readers()
    said = [text for answer in questions.declared("answer", Answer) for text in answer.say(given)]
    assert any("light (leaks)" in text for text in said)


def test_relative_costs_are_told_of_the_lengths_that_every_model_has() -> None:
    given = report()
    rows = given.metrics.with_columns(
        value=pl.when((pl.col("metric") == "relative_cost") & (pl.col("model") == "light"))
        .then(0.25)
        .otherwise("value")
    )
    base = rows.filter((pl.col("metric") == "relative_cost") & (pl.col("model") == "baseline"))["value"].item()
    assert COSTS.say(replace(given, metrics=rows))[1] == (
        f"By formula, as served, indexer and attention together cost at the study's lengths {100 * base:.3g}\u202f% "
        "(baseline) and 25\u202f% (light) of what dense attention does."
    )
    without = rows.filter((pl.col("metric") != "relative_cost") | (pl.col("model") != "light"))
    assert len(COSTS.say(replace(given, metrics=without))) == 1
