"""diff: models are matched by a stated rule, intervals are honest, and a rule that cannot look does not pass."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from indexscope.analysis.diff.choice import narrowed
from indexscope.analysis.diff.definitions import defined
from indexscope.analysis.diff.pairs import chosen_pairs, matched, within
from indexscope.analysis.diff.premises import premises
from indexscope.analysis.diff.rows import diff, paired_rows
from indexscope.analysis.diff.rules import fail_on
from indexscope.analysis.metrics.tables import METRICS, PER_SAMPLE
from indexscope.analysis.report import build_json
from indexscope.analysis.report.difference import blocks, headline, left_out, markdown_difference, reading, unmatched
from indexscope.analysis.settings import ComparisonSettings
from indexscope.errors import IndexscopeError
from tests.report.fixtures import report


def data(**changes: Any) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(json.dumps(build_json(report(**changes))))
    return loaded


def overall(frame: pl.DataFrame, metric: str, role: str = "baseline") -> dict[str, Any]:
    return frame.filter((pl.col("metric") == metric) & pl.col("layer").is_null() & (pl.col("role") == role)).row(
        0, named=True
    )


def test_a_report_does_not_differ_from_itself() -> None:
    frame = diff(data(), data())
    assert frame["difference"].drop_nulls().unique().to_list() == [0.0]
    assert frame["better"].null_count() == frame.height
    assert frame["status"].unique().to_list() == ["both"]


def test_differences_are_b_minus_a_of_the_frames() -> None:
    a = report(candidates=())
    b = replace(a, metrics=a.metrics.with_columns(pl.col("value", "ci_low", "ci_high") * 1.5))
    frame = diff(build_json(a), build_json(b))
    joined = frame.join(a.metrics, on=["metric", "layer"], nulls_equal=True)
    assert joined.height == frame.height == a.metrics.height
    assert joined.select(((pl.col("difference") - pl.col("value") * 0.5).abs() < 1e-9).all()).item()
    assert overall(frame, "nll")["better"] is False
    assert overall(frame, "accuracy")["better"] is True
    assert overall(frame, "attention_entropy")["better"] is None


def test_independent_intervals_are_squared_and_added() -> None:
    a, b = data(candidates=()), data(candidates=())
    for row, value, low, high in ((a["metrics"], 2.0, 1.7, 2.4), (b["metrics"], 1.0, 0.6, 1.3)):
        for entry in row:
            entry.update(value=value, ci_low=low, ci_high=high)
    row = overall(diff(a, b), "nll")
    assert row["interval"] == "independent"
    assert row["ci_low"] == pytest.approx(-1.0 - (0.4**2 + 0.4**2) ** 0.5)
    assert row["ci_high"] == pytest.approx(-1.0 + (0.3**2 + 0.3**2) ** 0.5)
    assert row["better"] is True


def test_a_comparison_of_the_same_two_models_lends_its_paired_interval() -> None:
    study = data()
    baseline, light = study["models"]
    # A run of the baseline's checkpoint under the candidate's name, against the study that compares the two.
    earlier = {**study, "models": [{**baseline, "role": "candidate"}], "comparisons": []}
    found = overall(diff(earlier, study), "nll", "candidate")
    expected = next(row for row in study["comparisons"] if row["metric"] == "nll")
    assert found["interval"] == "paired"
    assert (found["ci_low"], found["ci_high"]) == (expected["ci_low"], expected["ci_high"])
    # Other numbers under the same fingerprints: the comparison is of something else.
    moved = {**earlier, "metrics": [{**row, "value": row["value"] * 1.01} for row in study["metrics"]]}
    assert overall(diff(moved, study), "nll", "candidate")["interval"] == "independent"
    # And where b's model is no candidate of that comparison, there is nothing to lend.
    alone = {**study, "models": [{**light, "role": "baseline"}], "comparisons": []}
    assert overall(diff(study, alone), "nll")["interval"] == "paired"  # study itself compares these two
    assert overall(diff(alone, study), "nll")["interval"] == "independent"


def test_candidates_match_by_name_and_then_in_order() -> None:
    a, b = data(candidates=("x", "keep", "y")), data(candidates=("keep", "z"))
    pairs = diff(a, b).select("model_a", "model_b", "status").unique(maintain_order=True).rows()
    assert pairs == [
        ("baseline", "baseline", "both"),
        ("x", "z", "both"),
        ("keep", "keep", "both"),
        ("y", None, "only in a"),
    ]


def test_dropped_and_added_metrics_are_listed() -> None:
    a, b = data(candidates=()), data(candidates=(), dense=("baseline",))
    dropped = diff(a, b).filter(pl.col("status") == "only in a")
    assert "selection_recall" in dropped["metric"].to_list()
    assert dropped["difference"].null_count() == dropped.height
    assert "selection_recall" in diff(b, a).filter(pl.col("status") == "only in b")["metric"].to_list()


def test_fail_on_returns_the_rows_that_break_the_rule() -> None:
    a, b = data(candidates=()), data(candidates=())
    for entry in b["metrics"]:
        if entry["name"] == "selection_recall":
            entry["value"] -= 0.05
    frame = diff(a, b)
    assert fail_on("recall < -0.01", frame).height == 1
    assert fail_on("recall < -0.06", frame).is_empty()
    assert fail_on("recall.ratio < 95%", frame).height == 1
    assert fail_on("recall.value < 0.67", frame).height == 1


@pytest.mark.parametrize("rule", ["recall < -0.01", "nonsense < 1", "nll <"])
def test_a_rule_that_cannot_be_looked_at_is_an_error(rule: str) -> None:
    dense = data(candidates=(), dense=("baseline",))
    with pytest.raises(IndexscopeError):
        fail_on(rule, diff(dense, dense))


def test_a_broken_report_is_one_clear_error() -> None:
    with pytest.raises(IndexscopeError, match="report B: has no models"):
        diff(data(), {"metrics": []})


def changed(content: dict[str, Any], metric: str, layer: int | None = None, **values: Any) -> dict[str, Any]:
    """The report with other values for a metric of every model."""
    copy: dict[str, Any] = json.loads(json.dumps(content))
    for row in copy["metrics"]:
        if (row["name"], row["layer"]) == (metric, layer):
            row.update(values)
    return copy


def read(a: dict[str, Any], b: dict[str, Any], metric: str) -> tuple[str, str]:
    with defined(a, b):
        return reading(overall(diff(a, b), metric))


NARROW = {"ci_low": 2.0 - 1e-9, "ci_high": 2.0 + 1e-9}


@pytest.mark.parametrize(
    ("metric", "value", "expected"),
    [
        ("nll", 2.1, ("worse", "↑ worse")),
        ("nll", 1.9, ("better", "↓ better")),
        ("accuracy", 2.1, ("better", "↑ better")),
        ("accuracy", 1.9, ("worse", "↓ worse")),
        ("attention_entropy", 2.1, ("different", "↑ higher")),
        ("nll", 2.0 + 1e-6, ("same", "unchanged")),  # half a millionth: rounding
        ("nll", 2.0, ("same", "unchanged")),
    ],
)
def test_an_arrow_shows_what_is_established(metric: str, value: float, expected: tuple[str, str]) -> None:
    a = changed(data(candidates=()), metric, value=2.0, **NARROW)
    b = changed(a, metric, value=value, ci_low=value - 1e-9, ci_high=value + 1e-9)
    assert read(a, b, metric) == expected


def test_no_arrow_within_the_interval_without_one_or_without_a_value() -> None:
    a = changed(data(candidates=()), "nll", value=2.0, ci_low=1.9, ci_high=2.1)
    assert read(a, changed(a, "nll", value=2.1, ci_low=2.0, ci_high=2.2), "nll") == ("inconclusive", "inconclusive")
    assert read(a, changed(a, "nll", value=2.5, ci_low=None, ci_high=None), "nll") == (
        "uncertain",
        "no interval",
    )
    assert read(a, changed(a, "nll", value=None), "nll") == ("missing", "not comparable")


def test_counts_differ_by_one_and_timings_are_not_judged() -> None:
    a = changed(data(candidates=()), "indexer_parameters", value=5_000_000)
    assert read(a, changed(a, "indexer_parameters", value=5_000_001), "indexer_parameters") == ("worse", "↑ worse")
    a = changed(a, "indexer_latency_ms", value=2.0, **NARROW)
    b = changed(a, "indexer_latency_ms", value=1.0, ci_low=1 - 1e-9, ci_high=1 + 1e-9)
    assert read(a, b, "indexer_latency_ms") == ("different", "↓ lower, not judged")


def frames(values: list[float]) -> dict[str, pl.DataFrame]:
    """What is compared of a model whose nll is given by sample, a thousand tokens each."""
    rows = [("nll", None, sample, value, 1000.0) for sample, value in enumerate(values)]
    return {
        "per_sample": pl.DataFrame(rows, schema=PER_SAMPLE.schema, orient="row"),
        "metrics": METRICS.empty(),
    }


def test_samples_that_are_paired_show_what_independent_intervals_hide() -> None:
    hard = [1.0 + 0.25 * place for place in range(12)]  # samples differ much more than the models do
    easy = [value - 0.125 for value in hard]
    a = changed(data(candidates=()), "nll", value=sum(hard) / 12, ci_low=1.8, ci_high=2.9)
    b = changed(a, "nll", value=sum(easy) / 12, ci_low=1.7, ci_high=2.8)
    alone = overall(diff(a, b), "nll")
    assert (alone["interval"], alone["better"]) == ("independent", None)
    assert alone["ci_low"] < -0.5 and alone["ci_high"] > 0.5
    rows = paired_rows(frames(hard), frames(easy), ComparisonSettings(resamples=200))
    row = overall(diff(a, b, None, lambda one, two: rows), "nll")
    assert (row["interval"], row["n"], row["better"]) == ("paired", 12, True)
    # Every resample has the same difference.
    assert row["ci_low"] == pytest.approx(-0.125, abs=1e-12)
    assert row["ci_high"] == pytest.approx(-0.125, abs=1e-12)


def test_more_recall_by_a_larger_k_is_not_better() -> None:
    a = changed(data(candidates=()), "selection_recall", value=0.70, ci_low=0.69, ci_high=0.71)
    b = changed(a, "selection_recall", value=0.81, ci_low=0.80, ci_high=0.82)
    assert overall(diff(a, b), "selection_recall")["better"] is True
    row = overall(diff(a, changed(b, "random_recall", value=0.35)), "selection_recall")
    assert row["difference"] == pytest.approx(0.11) and row["better"] is None


def test_values_by_sample_of_something_else_are_not_lent() -> None:
    a = changed(data(candidates=()), "nll", value=3.0, ci_low=2.9, ci_high=3.1)
    rows = paired_rows(frames([1.0, 2.0]), frames([1.0, 2.0]), ComparisonSettings(resamples=100))
    assert overall(diff(a, a, None, lambda one, two: rows), "nll")["interval"] == "independent"


def with_own(better: str, unit: str = "share", **row: Any) -> dict[str, Any]:
    """A report with a metric that is not built in."""
    content = data(candidates=())
    given = {"model": "baseline", "name": "mine", "layer": None, "value": 0.5, "unit": unit, "n": 9}
    content["metrics"].append({**given, "ci_low": 0.49, "ci_high": 0.51, **row})
    known = {"name": "mine", "unit": unit, "better": better, "kind": "sample", "meaning": "Mine.", "formula": "f"}
    content["definitions"].append(known)
    return content


def test_a_metric_of_ones_own_is_judged_by_what_the_reports_say_of_it() -> None:
    a, b = with_own("higher"), with_own("higher", value=0.7, ci_low=0.69, ci_high=0.71)
    with defined(a, b):
        frame = diff(a, b)
        assert overall(frame, "mine")["better"] is True
        assert fail_on("mine > 0.1", frame).height == 1
        assert narrowed(frame, ["own"], [])["metric"].to_list() == ["mine"]
    with pytest.raises(IndexscopeError, match="there is no metric mine"):
        fail_on("mine > 0.1", frame)


def test_reports_that_disagree_about_a_metric_of_ones_own_give_no_verdict() -> None:
    a, b = with_own("higher"), with_own("lower", value=0.7, ci_low=0.69, ci_high=0.71)
    assert read(a, b, "mine") == ("different", "↑ higher")
    assert "defined in other words in A than in B: mine" in " ".join(premises(a, b, matched(a, b), timed=False))
    del b["definitions"]  # of a version that did not define them
    del a["definitions"]
    assert read(a, b, "mine") == ("different", "↑ higher")


def test_a_metric_in_other_units_is_not_compared() -> None:
    a, b = with_own("higher"), with_own("higher", unit="keys", value=30.0)
    assert read(a, b, "mine") == ("missing", "not comparable")
    assert any("of other units in A than in B, so not compared: mine" in text for text in premises(a, b, [], False))


def test_candidates_stand_beside_the_baseline_of_their_own_report() -> None:
    study = data(candidates=("x", "y"))
    frame = diff(study, study, within(study))
    assert frame.select("role", "model_a", "model_b").unique(maintain_order=True).rows() == [
        ("candidate", "baseline", "x"),
        ("candidate", "baseline", "y"),
    ]
    expected = [row for row in study["comparisons"] if (row["candidate"], row["metric"]) == ("y", "nll")]
    found = frame.filter((pl.col("model_b") == "y") & (pl.col("metric") == "nll"))
    assert found["ci_low"].to_list() == [row["ci_low"] for row in expected]
    assert set(found["interval"]) == {"paired"}
    with pytest.raises(IndexscopeError, match="has no candidate"):
        within(data(candidates=()))


def test_models_are_chosen_by_name_and_set_side_by_side() -> None:
    a, b = data(candidates=("x", "y=1")), data(candidates=("x", "z"))

    def names(*wanted: str) -> list[tuple[str | None, str | None]]:
        pairs = chosen_pairs(matched(a, b), a, b, wanted)
        return [(one["name"] if one else None, two["name"] if two else None) for one, two in pairs]

    assert names() == [("baseline", "baseline"), ("x", "x"), ("y=1", "z")]
    assert names("x", "x") == [("x", "x")]
    assert names("y=1") == [("y=1", "z")]
    assert names("baseline=z", "x") == [("baseline", "z"), ("x", "x")]
    with pytest.raises(IndexscopeError, match=r"--model xx: neither side has a model 'xx'; did you mean 'x'\?"):
        names("xx")
    with pytest.raises(IndexscopeError, match="B has no model 'q'; choose among baseline, x, z"):
        names("x=q")


def test_rows_are_chosen_by_metric_family_and_layer() -> None:
    frame = diff(data(candidates=()), data(candidates=()))
    assert set(narrowed(frame, ["recall"], [])["metric"]) == {"selection_recall"}
    assert set(narrowed(frame, ["Index scores"], [])["metric"]) == set(narrowed(frame, ["index-scores"], [])["metric"])
    assert "tie_share" in set(narrowed(frame, ["index-scores"], [])["metric"])
    assert narrowed(frame, ["nll", "tie_share"], [1, 3]).select("metric", "layer").rows() == [
        ("tie_share", 1),
        ("tie_share", 3),
    ]
    with pytest.raises(IndexscopeError, match=r"--layer 4: .*choose among 0 to 3"):
        narrowed(frame, [], [4])
    with pytest.raises(IndexscopeError, match=r"--metric nl: .*did you mean nll\?"):
        narrowed(frame, ["nl"], [])


def test_other_data_lengths_settings_and_k_are_told() -> None:
    def side(fingerprint: str, length: int, topk: int) -> dict[str, Any]:
        content = data(candidates=())
        content["models"][0]["indexer"]["topk"] = topk
        size = {"source": "x.jsonl", "samples": 64, "tokens": 64 * length, "mean_length": length}
        settings = {"dataset": {"max_length": length}, "extract": {"sparsity_threshold": 1 / length, "chunk": length}}
        content["provenance"] = {"dataset": {"fingerprint": fingerprint, **size}, "settings": settings}
        content["warnings"] = []
        return content

    a = side("f1", 512, 64)
    assert premises(a, side("f1", 512, 64), matched(a, a), timed=True) == []
    b = side("f2", 1024, 32)
    assert premises(a, b, matched(a, b), timed=True) == [
        "the two sides saw different data, so a difference may be one of data: A x.jsonl (64 samples, 32,768 tokens, "
        "512 a sample on average), B x.jsonl (64 samples, 65,536 tokens, 1,024 a sample on average)",
        "dataset.max_length is 512 in A and 1024 in B: recall and entropy change with length",
        "baseline: k is 64 on the left and 32 on the right, so that they may select different amounts",
        "settings differ (A / B): extract.sparsity_threshold 0.001953125 / 0.0009765625",
    ]
    failed = {"kind": "audit", "model": "baseline", "text": "Do not\x1b[31m use"}
    b["warnings"] = [failed, {**failed, "model": "of another pair"}]
    assert premises(a, b, matched(a, b), timed=True)[0] == "B: Do not[31m use"


def test_the_headline_holds_what_is_asked_for_first_and_what_is_better_or_worse() -> None:
    a = data(candidates=())
    b = changed(a, "tie_share", value=0.9, ci_low=0.89, ci_high=0.91)
    b = changed(b, "sink_mass", value=0.9, ci_low=0.89, ci_high=0.91)  # has no better direction
    frame = diff(a, b).filter(pl.col("layer").is_null())
    kept = headline(frame)
    assert {"nll", "selection_recall", "tie_share"} <= set(kept["metric"])
    assert not {"local_mass", "sink_mass"} & set(kept["metric"])
    rest = frame.height - kept.height
    assert left_out(frame, kept) == f"{rest} more metrics, 1 of which differ with no better direction: --all shows them"
    assert left_out(frame, frame) == ""


def test_hostile_names_stay_text_in_markdown() -> None:
    name = "<script>|`x`*_y_ https://evil.example\u202e"
    study = data(candidates=(name,))
    frame = narrowed(diff(study, study, within(study)), ["nll"], [])
    text = markdown_difference("<b>|", ["note |"], ["careful *"], blocks(frame), ["failed: <i>"], "95 % CI")
    assert "<" not in text and "\u202e" not in text and "https://" not in text
    assert "&lt;script&gt;\\|\\`x\\`\\*\\_y\\_ https&#58;//evil.example" in text
    (line,) = [line for line in text.splitlines() if line.startswith("| nll")]
    assert line.count("|") == line.replace("\\|", "").count("|") == 9


def test_what_only_one_side_has_is_named() -> None:
    a, b = data(candidates=("x",)), data(candidates=(), dense=("baseline",))
    told = unmatched(diff(a, b))
    assert told[0].startswith("only in A, for baseline: ") and "selection_recall" in told[0]
    assert told[-1] == "only in A: x, with no model to compare it with"
