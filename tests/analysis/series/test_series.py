"""Series of planted members: values, changes with their intervals, what settled, and what the newest gained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import pytest

from indexscope.analysis.metrics.summary import summarise
from indexscope.analysis.metrics.sums import Sums, per_sample
from indexscope.analysis.plots.drawing import Drawing
from indexscope.analysis.report.inputs import ModelPage, ReportInput
from indexscope.analysis.series.answer import say
from indexscope.analysis.series.course import Course, Member
from indexscope.analysis.series.figures import series_layers, series_metrics, series_patterns
from indexscope.analysis.series.panel import across, charts, said, tables
from indexscope.analysis.series.run import run
from indexscope.analysis.series.tables import CHANGES, PATTERNS, ROLES
from indexscope.analysis.settings import BootstrapSettings
from indexscope.analysis.statistics.resampling import Array

SAMPLES = 24
SETTINGS = BootstrapSettings(resamples=300)


def course(steps: Sequence[float]) -> Course:
    return Course("warm-up", "step", tuple(Member(f"warm-up {step:g}", step) for step in steps))


def planted(
    levels: Mapping[tuple[str, int | None], Sequence[float]], steps: Sequence[float], noise: float = 0.0, seed: int = 0
) -> dict[str, dict[str, pl.DataFrame]]:
    """Members whose metrics have these levels, with what each sample adds at all steps, and noise of each step."""
    random = np.random.default_rng(seed)
    shared = random.normal(scale=0.05, size=(SAMPLES, 1))
    found = {}
    for place, step in enumerate(steps):
        values: Array = np.array([own[place] for own in levels.values()]) + shared
        values = values + noise * random.normal(size=(SAMPLES, len(levels)))
        weight = np.ones_like(values)
        sums = Sums(np.arange(SAMPLES, dtype=np.int64), tuple(levels), values * weight, weight)
        found[f"warm-up {step:g}"] = {"metrics": summarise(sums, SETTINGS), "per_sample": per_sample(sums)}
    return found


STEPS = [100.0 * place for place in range(12)]
RECALL = [0.4] * 4 + [0.8] * 8
NLL = [2.0] * 9 + [2.5] * 3
FLAT = [0.5] * 12
LEVELS = {
    ("selection_recall", None): RECALL,
    ("selection_recall", 0): FLAT,
    ("selection_recall", 1): RECALL,
    ("nll", None): NLL,
    ("accuracy", None): FLAT,
}


@pytest.fixture(scope="module")
def frames() -> dict[str, pl.DataFrame]:
    return run([course(STEPS)], planted(LEVELS, STEPS, noise=0.01), SETTINGS)


def test_members_are_followed_over_all_layers_and_by_layer(frames: dict[str, pl.DataFrame]) -> None:
    assert [row["value"] for row in rows(frames["series_layers"], "selection_recall", 1)] == pytest.approx(
        RECALL, abs=0.05
    )
    assert set(frames["series_layers"]["layer"]) == {0, 1} and set(frames["series_points"]["layer"]) == {None}
    assert [row["member"] for row in rows(frames["series_points"], "nll")] == [f"warm-up {step:g}" for step in STEPS]


def rows(frame: pl.DataFrame, metric: str, layer: int | None = None) -> list[dict[str, object]]:
    return frame.filter((pl.col("metric") == metric) & pl.col("layer").eq_missing(layer)).to_dicts()


def test_planted_changes_are_found_with_their_levels_and_whether_they_are_better(
    frames: dict[str, pl.DataFrame],
) -> None:
    (recall,), (nll,) = (rows(frames["series_changes"], metric) for metric in ("selection_recall", "nll"))
    assert (recall["before"], recall["step"], recall["better"]) == (300.0, 400.0, True)
    assert (nll["before"], nll["step"], nll["better"]) == (800.0, 900.0, False)
    assert recall["difference"] == pytest.approx(0.4, abs=0.01)
    assert nll["difference"] == pytest.approx(0.5, abs=0.01)
    assert recall["candidate"] == "warm-up 1100" and recall["series"] == "warm-up"


def test_the_interval_of_a_sharp_change_is_the_gap_between_two_members(frames: dict[str, pl.DataFrame]) -> None:
    (recall,) = rows(frames["series_changes"], "selection_recall")
    assert (recall["ci_low"], recall["ci_high"]) == (300.0, 400.0)


def test_the_interval_widens_where_samples_disagree_on_the_step() -> None:
    """Half of the samples change at one member, half four members later."""
    early, late = [0.0] * 4 + [1.0] * 8, [0.0] * 8 + [1.0] * 4
    found = planted({("accuracy", None): FLAT}, STEPS)
    for place, name in enumerate(found):
        values = np.where(np.arange(SAMPLES) % 2 == 0, early[place], late[place])[:, None]
        sums = Sums(np.arange(SAMPLES, dtype=np.int64), (("accuracy", None),), values, np.ones_like(values))
        found[name] = {"metrics": summarise(sums, SETTINGS), "per_sample": per_sample(sums)}
    changes = rows(run([course(STEPS)], found, SETTINGS)["series_changes"], "accuracy")
    assert [row["step"] for row in changes] in ([400.0, 800.0], [400.0], [800.0])
    assert min(row["ci_low"] for row in changes) <= 300.0 and max(row["ci_high"] for row in changes) >= 800.0  # type: ignore[type-var]


def test_nothing_changes_where_nothing_was_planted(frames: dict[str, pl.DataFrame]) -> None:
    assert rows(frames["series_changes"], "accuracy") == []
    assert rows(frames["series_changes"], "selection_recall", 0) == []
    (settled,) = rows(frames["series_settled"], "accuracy")
    assert (settled["changes"], settled["settled"]) == (0, None)


def test_a_change_in_one_layer_is_told_of_that_layer(frames: dict[str, pl.DataFrame]) -> None:
    (found,) = rows(frames["series_changes"], "selection_recall", 1)
    assert found["step"] == 400.0


def test_a_metric_has_settled_where_enough_members_follow_its_last_change(frames: dict[str, pl.DataFrame]) -> None:
    (recall,), (nll,) = (rows(frames["series_settled"], metric) for metric in ("selection_recall", "nll"))
    assert recall["settled"] == 400.0 and recall["level"] == pytest.approx(0.8, abs=0.05)
    assert nll["settled"] == 900.0
    late = {("nll", None): [2.0] * 10 + [2.5] * 2}
    (still,) = rows(run([course(STEPS)], planted(late, STEPS), SETTINGS)["series_settled"], "nll")
    assert (still["changes"], still["settled"], still["level"]) == (1, None, None)


def test_the_newest_member_is_compared_with_each_earlier_one_by_sample(frames: dict[str, pl.DataFrame]) -> None:
    points = {row["step"]: row for row in rows(frames["series_points"], "nll")}
    assert points[800.0]["since"] == pytest.approx(0.5, abs=0.01)
    assert points[1100.0]["since"] == 0.0
    low, high = points[800.0]["since_low"], points[800.0]["since_high"]
    # What a sample adds at all steps cancels: its spread of 0.05 would make the interval ten times as wide.
    assert 0.48 < low < 0.5 < high < 0.52 or high - low < 0.02  # type: ignore[operator]


def test_too_few_members_are_followed_and_said_to_be_too_few() -> None:
    steps = STEPS[:5]
    found = run([course(steps)], planted({("nll", None): NLL[:5]}, steps), SETTINGS)
    assert found["series_points"].height == 5 and found["series_changes"].is_empty()
    assert found["series_settled"]["changes"].to_list() == [None]
    assert said(found) == ["warm-up: 5 members, step 0 to 400. Changes are looked for from 7 members and 8 samples on."]


def test_a_metric_without_values_by_sample_is_followed_by_its_own_intervals() -> None:
    found = planted({("accuracy", None): FLAT}, STEPS)
    for place, (name, own) in enumerate(found.items()):
        level = 0.1 if place < 6 else 0.3
        kl = own["metrics"].with_columns(
            metric=pl.lit("output_kl"), value=pl.lit(level), ci_low=pl.lit(level - 0.01), ci_high=pl.lit(level + 0.01)
        )
        found[name] = {**own, "metrics": pl.concat([own["metrics"], kl])}
    (change,) = rows(run([course(STEPS)], found, SETTINGS)["series_changes"], "output_kl")
    assert (change["before"], change["step"], change["better"]) == (500.0, 600.0, False)


def test_a_member_that_lacks_a_metric_is_passed_over() -> None:
    found = planted({("nll", None): NLL}, STEPS)
    empty = found["warm-up 500"]
    found["warm-up 500"] = {name: frame.clear() for name, frame in empty.items()}
    (change,) = rows(run([course(STEPS)], found, SETTINGS)["series_changes"], "nll")
    assert change["step"] == 900.0


def test_patterns_and_roles_are_kept_by_step() -> None:
    found = planted({("nll", None): NLL}, STEPS)
    for place, (name, own) in enumerate(found.items()):
        types = pl.DataFrame(
            {
                "layer": [None, 0],
                "pattern_type": ["local"] * 2,
                "share": [place / 11] * 2,
                "ci_low": [0.0] * 2,
                "ci_high": [1.0] * 2,
                "n": [3] * 2,
            }
        )
        focus = pl.DataFrame({"layer": [0], "indexer_head": [1], "words": ["sink" if place < 7 else "local"]})
        found[name] = {**own, "pattern_types": types, "focus": focus}
    frames = run([course(STEPS)], found, SETTINGS)
    assert frames["series_patterns"]["share"].to_list() == pytest.approx(
        [place / 11 for place in range(12) for _ in "ab"]
    )
    assert [(chart.title, chart.frame.height) for chart in charts(frames)] == [("Pattern types by step", 12)]
    moved = next(table for table in tables(frames) if table.caption == "Indexer heads whose focus changed")
    assert moved.rows == (("0, 1", "local", "700", "sink"),)


def test_the_page_says_what_broke_what_settled_and_what_did_not_change(frames: dict[str, pl.DataFrame]) -> None:
    words = " ".join(said(frames))
    assert "warm-up: 12 members, step 0 to 1,100." in words
    assert "rose at step 900 (CI after 800 up to 900)" in words and ": worse." in words
    assert "settled at step 400 (CI after 300 up to 400)" in words
    assert "No change was found in" in words


def test_the_figures_show_the_rows_and_mark_the_changes(frames: dict[str, pl.DataFrame]) -> None:
    metrics = series_metrics(frames["series_points"], frames["series_changes"], "step")
    layers = series_layers(frames["series_layers"], "step")
    assert isinstance(metrics, Drawing) and isinstance(layers, Drawing)
    drawn = metrics.data.filter(pl.col("panel") == "nll")
    assert drawn["value"].to_list() == [row["value"] for row in rows(frames["series_points"], "nll")]
    legend = [text.get_text() for own in metrics.legends for text in own.get_texts()]
    assert legend == ["the level changes, for the better", "the level changes, for the worse"]
    assert layers.data.height == frames["series_layers"].height


def test_of_a_drift_that_is_cut_into_many_steps_the_six_largest_are_marked() -> None:
    steps = [float(step) for step in range(20)]
    heights = [1.0, 5.0, 2.0, 6.0, 1.5, 7.0, 3.0, 8.0, 4.0]
    found = run([course(steps)], planted({("nll", None): [0.5] * 20}, steps), SETTINGS)
    rows = [
        {"metric": "nll", "step": 2.0 * place + 2, "ci_low": 2.0 * place, "ci_high": 2.0 * place + 2}
        | {"level_before": 9.0, "level": 9.0 - height, "better": True}
        for place, height in enumerate(heights)
    ]
    changes = pl.DataFrame([dict.fromkeys(CHANGES.schema) | row for row in rows], schema=CHANGES.schema)
    figure = series_metrics(found["series_points"], changes, "step")
    assert figure is not None
    (axes,) = figure.axes
    marked = sorted(line.get_xdata()[0] + 0.5 for line in axes.lines if line.get_label().startswith("the level"))
    assert marked == [2.0 * place + 2 for place, height in enumerate(heights) if height >= 3.0]


def test_heads_and_patterns_are_drawn_in_shares_and_rare_focuses_as_others() -> None:
    words = ["sink", "local", "far", "near", "broad", "inactive", "previous token"]
    roles = pl.DataFrame(
        [("s", "a", 0, head, float(step), "sink" if head > 5 else words[head]) for step in (0, 1) for head in range(9)]
        + [("s", "a", 0, 9, 1.0, "previous token")],
        schema=ROLES.schema,
        orient="row",
    )
    figure = series_patterns(PATTERNS.empty(), roles.select(ROLES.schema.names()), "step")
    assert isinstance(figure, Drawing)
    shares = figure.data.group_by("step").agg(pl.col("share").sum()).sort("step")
    assert shares["share"].to_list() == pytest.approx([1.0, 1.0])
    assert "others" in figure.data["series"].to_list() and "sink" in figure.data["series"].to_list()
    assert series_patterns(PATTERNS.empty(), ROLES.empty(), "step") is None


def report_of(frames: dict[str, pl.DataFrame]) -> ReportInput:
    """A report of the newest member, with nothing but its series."""
    nothing = pl.DataFrame()
    page = ModelPage("warm-up 1100", "candidate", "f", {}, {"series": frames})
    return ReportInput("study", [page], nothing, nothing, nothing, nothing, {})


def test_the_answer_says_what_got_worse_first_or_that_nothing_was_found(frames: dict[str, pl.DataFrame]) -> None:
    (sentence,) = say(report_of(frames))
    assert sentence.startswith("Over the 12 members of warm-up (step 0 to 1,100) ")
    assert "gets worse at step 900 (CI after 800 up to 900)." in sentence
    flat = {("nll", None): [2.0] * 12, ("accuracy", None): FLAT}
    (sentence,) = say(report_of(run([course(STEPS)], planted(flat, STEPS, noise=0.01), SETTINGS)))
    assert sentence.endswith("no level of 2 headline metrics changes detectably.")
    few = run([course(STEPS[:5])], planted({("nll", None): NLL[:5]}, STEPS[:5]), SETTINGS)
    assert say(report_of(few)) == []


def test_all_figures_of_a_series_are_drawn_from_its_newest_members_page(frames: dict[str, pl.DataFrame]) -> None:
    drawn = across(report_of(frames))
    assert [one.name for one in drawn] == ["series-metrics", "series-layers", "series-patterns"]
    assert [one.figure is not None for one in drawn] == [True, True, False]
