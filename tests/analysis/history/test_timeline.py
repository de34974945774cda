"""Runs in order, joined where the result stayed; gates from the run that broke them to the one that mended."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexscope.analysis.history.gates import breaks
from indexscope.analysis.history.timeline import stretches
from indexscope.analysis.history.trends import default_metrics, main_models, trend
from tests.report.histories import START, broken_and_mended, numbers, run


def test_runs_of_one_result_are_one_row_with_all_dates_and_a_return_is_told() -> None:
    kept = numbers(0.8)
    runs = [run(day, result, kept) for day, result in enumerate("AABAAC", 1)]
    random.Random(0).shuffle(runs)
    rows = stretches(runs)
    assert [(row.run.result, len(row.dates), row.returned) for row in rows] == [
        ("A", 2, None),
        ("B", 1, None),
        ("A", 2, 1),
        ("C", 1, None),
    ]
    assert [row.number for row in rows] == [1, 2, 3, 4]
    assert rows[2].dates[0] == START.replace(day=4) and rows[2].dates[-1] == START.replace(day=5)


@given(st.lists(st.sampled_from("ABC"), max_size=12))
def test_no_run_is_lost_and_neighbours_differ(results: Sequence[str]) -> None:
    rows = stretches([run(day, result, None) for day, result in enumerate(results, 1)])
    assert sum(len(row.dates) for row in rows) == len(results)
    assert all(one.run.result != two.run.result for one, two in pairwise(rows))
    assert all(one.dates[-1] < two.dates[0] for one, two in pairwise(rows))


def test_a_gate_breaks_at_its_first_failing_run_and_is_mended_at_the_next_that_passes() -> None:
    (one,) = breaks(broken_and_mended())
    assert one.broke.number == 5 and one.before is not None and one.before.number == 4
    assert one.mended is not None and one.mended.number == 8
    assert one.value == pytest.approx(0.7 + 0.005 - 0.8)
    assert not one.is_open and one.lost == 0


@given(st.lists(st.sampled_from([True, False, None]), max_size=14))
def test_breaks_are_the_maximal_runs_of_not_passing(passed: Sequence[bool | None]) -> None:
    rows = stretches([run(day, str(day), numbers(0.8, {"gate": ok})) for day, ok in enumerate(passed, 1)])
    found = breaks(rows)
    starts = [i for i, ok in enumerate(passed) if ok is not True and (i == 0 or passed[i - 1] is True)]
    ends = [i for i, ok in enumerate(passed) if ok is True and i and passed[i - 1] is not True]
    assert [one.broke.number - 1 for one in found] == starts
    assert [one.mended.number - 1 for one in found if one.mended] == ends
    assert [one.before is None for one in found] == [start == 0 for start in starts]


def test_gates_that_come_go_and_lose_their_numbers() -> None:
    rows = stretches(
        [
            run(1, "1", numbers(0.8, {"kept": True})),
            run(2, "2", None, problem="its report was collected"),
            run(3, "3", numbers(0.7, {"kept": False, "new": False})),
            run(4, "4", numbers(0.7, {"kept": False})),
        ]
    )
    kept, new = breaks(rows)
    assert (kept.gate, kept.lost, kept.is_open) == ("kept", 1, True)
    assert new.dropped is not None and new.dropped.number == 4 and new.before is not None


def test_a_step_is_the_difference_from_the_last_row_that_has_the_number() -> None:
    rows = stretches(
        [
            run(1, "1", numbers(0.80)),
            run(2, "2", None, problem="lost"),
            run(3, "3", numbers(0.75)),
            run(4, "4", numbers(0.751)),
        ]
    )
    first, second, third = trend(rows, "light", "selection_recall")
    assert first.step is None
    assert second.stretch.number == 3 and second.step is not None and third.step is not None
    assert second.step["difference"] == pytest.approx(-0.05)
    # Square-and-add of two half-widths of 0.01.
    assert second.step["ci_low"] == pytest.approx(-0.05 - 0.01 * 2**0.5)
    assert second.step["ci_high"] == pytest.approx(-0.05 + 0.01 * 2**0.5)
    assert second.step["better"] is False and third.step["better"] is None
    differences = trend(rows, "light", "selection_recall.difference")
    assert [point.value for point in differences] == pytest.approx([0.0, -0.05, -0.049])
    assert differences[1].step is not None and differences[1].step["better"] is False
    assert trend(rows, "base", "selection_recall.difference") == []


def test_a_baseline_is_followed_under_another_name_and_a_candidate_is_not() -> None:
    renamed = numbers(0.8)
    for part in ("models", "metrics"):
        renamed[part] = [["old" if row[0] == "base" else row[0], *row[1:]] for row in renamed[part]]
    rows = stretches([run(1, "1", renamed), run(2, "2", numbers(0.8))])
    assert len(trend(rows, "base", "nll")) == 2
    assert trend(rows, "nobody", "nll") == []


def test_the_newest_member_of_a_series_is_followed_by_the_series() -> None:
    def of(member: str, recall: float) -> dict[str, object]:
        kept = {**numbers(recall), "series": {member: "warm-up"}}
        for part in ("models", "metrics", "comparisons"):
            kept[part] = [[member if row[0] == "light" else row[0], *row[1:]] for row in kept[part]]
        return kept

    rows = stretches([run(1, "1", of("warm-up 100", 0.7)), run(2, "2", of("warm-up 200", 0.8))])
    for name in ("warm-up 200", "warm-up 100", "warm-up"):
        assert [point.value for point in trend(rows, name, "selection_recall")] == [0.7, 0.8]
    assert main_models(rows) == ["warm-up 200"]


def test_the_columns_are_the_headline_and_what_the_newest_gates_are_about() -> None:
    rows = broken_and_mended(candidates=("light", "quarter"))
    assert main_models(rows) == ["light", "quarter"]
    assert default_metrics(rows) == ["nll", "selection_recall", "indexer_flops", "selection_recall.difference"]
    alone = stretches([run(1, "1", numbers(0.8, candidates=()))])
    assert main_models(alone) == ["base"]
    foreign = stretches([run(1, "1", numbers(0.8, {"gate": True}, rule="of another version"))])
    assert default_metrics(foreign) == ["nll", "selection_recall", "indexer_flops"]
    assert main_models([]) == default_metrics([]) == []
