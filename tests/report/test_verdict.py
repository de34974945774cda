"""The verdict never says more than the intervals do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from indexscope.analysis.report import ReportInput, verdict
from indexscope.analysis.report.inputs import COMPARISONS_SCHEMA
from tests.report.fixtures import COMPARED, judged, report

Row = tuple[float, float | None, float | None, bool | None]
BASE = {"nll": 2.0, "selection_recall": 0.7, "indexer_flops": 3e6, "output_error": 0.2}


def study(**rows: Row) -> ReportInput:
    """A study with one candidate and just these rows: difference, bounds, better."""
    table = [
        ("light", metric, None, "nats", BASE[metric], BASE[metric] + difference, difference, low, high, n, better)
        for metric, (difference, low, high, better) in rows.items()
        for n in (None if low is None else 64,)
    ]
    schema = {**{name: COMPARISONS_SCHEMA[name] for name in COMPARED}, "better": pl.Boolean}
    frame = judged(pl.DataFrame(table, schema=schema, orient="row").drop("better"))
    told = pl.Series("better", [row[3] for row in rows.values()], dtype=pl.Boolean)
    return replace(report(gates=False), comparisons=frame.with_columns(told))


BETTER: Row = (-0.1, -0.14, -0.06, True)
WORSE: Row = (-0.1, -0.14, -0.06, False)
UNKNOWN: Row = (-0.1, -0.3, 0.1, None)
CHEAPER: Row = (-1e6, None, None, True)


@pytest.mark.parametrize(
    ("rows", "level"),
    [
        ({"nll": BETTER, "selection_recall": UNKNOWN}, "better"),
        ({"nll": UNKNOWN, "indexer_flops": CHEAPER}, "better"),
        ({"selection_recall": WORSE, "nll": UNKNOWN}, "worse"),
        ({"selection_recall": WORSE, "indexer_flops": CHEAPER}, "mixed"),
        ({"selection_recall": UNKNOWN, "nll": UNKNOWN}, "unchanged"),
        ({"output_error": BETTER}, "none"),
    ],
)
def test_level_follows_from_the_headline_metrics(rows: dict[str, Row], level: str) -> None:
    assert verdict(study(**rows)).level == level


def test_skill_speaks_for_the_selection_where_it_is_known() -> None:
    """With another k recall is not judged, and has no vote."""
    given = study(nll=UNKNOWN, selection_recall=BETTER)
    skill = given.comparisons.filter(pl.col("metric") == "selection_recall")
    skill = skill.with_columns(metric=pl.lit("selection_skill"), better=pl.lit(value=False))
    share = skill.with_columns(metric=pl.lit("random_recall"), baseline=pl.lit(0.25), value=pl.lit(0.354))
    void = pl.when(pl.col("metric") == "selection_recall").then(pl.lit("other k")).otherwise(pl.col("verdict"))
    rows = pl.concat([given.comparisons.with_columns(verdict=void), skill, share])
    found = verdict(replace(given, comparisons=rows))
    assert found.level == "worse" and "lower selection skill" in found.headline
    assert "k differs: light selects 35.4\u202f% of the keys and the baseline 25\u202f%" in " ".join(found.sentences)


@pytest.mark.parametrize(("size", "told"), [(12.0, "Below 29 such"), (3.0, "Below 8 such")])
def test_few_samples_with_most_of_the_weight_are_warned_of(size: float, told: str) -> None:
    given = study(nll=UNKNOWN)
    few = replace(given, comparisons=given.comparisons.with_columns(n_effective=pl.lit(size)))
    text = " ".join(verdict(few).sentences)
    assert f"64 samples say as much as {size} of equal length. {told}" in text
    assert "say as much" not in " ".join(verdict(given).sentences)


def test_an_interval_that_holds_zero_is_undetected_and_never_unchanged() -> None:
    words = verdict(study(nll=UNKNOWN))
    text = " ".join([words.headline, *words.sentences]).lower()
    assert "no detectable difference in next-token prediction" in words.headline
    assert "is not ruled out" in text and "−0.30 to +0.10" in text
    assert "unchanged" not in text and "no difference" not in text and "same" not in text


def test_a_large_difference_with_a_wide_interval_is_not_called_worse() -> None:
    words = verdict(study(nll=(5.0, -1.0, 11.0, None)))
    assert words.level == "unchanged"
    assert "worse" not in words.headline


def test_what_got_worse_comes_first_in_the_headline() -> None:
    headline = verdict(study(nll=BETTER, selection_recall=WORSE, indexer_flops=CHEAPER)).headline
    assert headline.index("lower selection recall") < headline.index("better next-token") < headline.index("cheaper")


def test_other_metrics_that_moved_are_named_but_do_not_vote() -> None:
    words = verdict(study(nll=BETTER, output_error=WORSE))
    assert words.level == "better"
    assert "Among the other metrics, worse: output_error." in words.sentences


@pytest.mark.parametrize("failed", ["light", "baseline"])
def test_a_failed_audit_voids_the_comparison(failed: str) -> None:
    words = verdict(report(audit_failed=(failed,)))
    assert words.level == "none"
    assert f"The comparison is not judged, since {failed} leaks." in words.sentences
    several = verdict(report(audit_failed=(failed,), candidates=("light", "half"))).headline
    others = {"light": "the numbers of light: it failed", "baseline": "these numbers: baseline failed"}
    assert several.startswith(f"Do not use {others[failed]} the causality audit")
    assert words.headline.startswith("Do not use these numbers")


def test_few_samples_and_missing_audits_are_said() -> None:
    given = report(samples=4)
    words = verdict(replace(given, causality=given.causality.head(1)))
    assert any("Only 4 samples" in sentence for sentence in words.sentences)
    assert any("Not audited for causality: light" in sentence for sentence in words.sentences)


def test_failed_gates_are_said_with_rule_and_value() -> None:
    first = verdict(report()).sentences[0]
    assert (
        "1 of 3 gates failed" in first
        and "recall.difference >= -0.02 per layer" in first
        and "in layer 2" in first
        and "−0.0284" in first
    )


def test_a_study_without_candidates_compares_nothing() -> None:
    words = verdict(report(candidates=()))
    assert words.level == "none" and "nothing is compared" in words.headline
    dense = verdict(report(candidates=(), dense=("baseline",)))
    assert any("no indexer" in sentence for sentence in dense.sentences)


def test_several_candidates_are_counted_by_outcome() -> None:
    words = verdict(report(candidates=("a", "b", "c"), shift=0.0))
    assert words.headline.startswith("Of 3 candidates against the baseline, ")
    assert words.level == "better"  # cheaper by half each time, nothing else moved


def test_the_confidence_level_is_the_one_that_was_used() -> None:
    changed: Any = replace(report(), confidence=0.9)
    text = " ".join(verdict(changed).sentences)
    assert "90\u202f% CI" in text and "95\u202f% CI" not in text


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        ([UNKNOWN, UNKNOWN], "By layer, selection recall is undecided in all 2 layers (corrected for their number)."),
        ([(0.0, 0.0, 0.0, None)] * 3, "By layer, selection recall is identical in all 3 layers"),
        (
            [BETTER, WORSE, (-0.3, -0.4, -0.2, False), UNKNOWN],
            "By layer, selection recall is detectably lower in 2, detectably higher in 1 and undecided in 1 of 4 "
            "layers (corrected for their number); the largest drop is in layer 2 (−0.300).",
        ),
    ],
)
def test_layers_are_counted_by_what_can_be_said_of_them(layers: list[Row], told: str) -> None:
    whole = study(selection_recall=UNKNOWN)
    one = [study(selection_recall=row).comparisons for row in layers]
    numbered = [frame.with_columns(layer=pl.lit(n, pl.Int16)) for n, frame in enumerate(one)]
    given = replace(whole, comparisons=pl.concat([whole.comparisons, *numbered], how="vertical_relaxed"))
    assert any(sentence.startswith(told) for sentence in verdict(given).sentences), verdict(given).sentences
