"""Claims about gates and their rules."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexscope.analysis.comparison.gates import ALIASES, evaluate, parse_gate, parse_rule
from indexscope.analysis.comparison.tables import COMPARISONS
from indexscope.analysis.leaks import without_verdicts
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.metrics.tables import METRICS
from indexscope.errors import IndexscopeError


@dataclass(frozen=True)
class Gate:
    """A gate as a study file would give it."""

    name: str
    rule: str


def comparisons(*candidates: str) -> pl.DataFrame:
    rows = [
        {
            "candidate": candidate,
            "metric": "selection_recall",
            "layer": layer,
            "unit": "share",
            "baseline": 0.8,
            "value": 0.79,
            "difference": -0.01 if layer is None else -0.5,
            "ci_low": -0.03,
            "ci_high": 0.01,
            "n": 64,
            "better": None,
        }
        for candidate in candidates
        for layer in (None, 0)
    ]
    return pl.DataFrame(rows, schema=COMPARISONS.schema)


def metrics(*models: str) -> pl.DataFrame:
    rows = [(model, "selection_recall", None, 0.79, "share", 0.75, 0.83, 64) for model in models]
    return pl.DataFrame(rows, schema={"model": pl.String, **METRICS.schema}, orient="row")


def verdict(rule: str) -> tuple[float | None, bool]:
    row = evaluate([Gate("g", rule)], comparisons("light"), metrics("base", "light")).row(0, named=True)
    return row["value"], row["passed"]


@pytest.mark.parametrize(
    ("rule", "value", "passed"),
    [
        ("selection_recall.difference >= -0.02", -0.01, True),
        ("selection_recall.difference >= -0.02 on lower", -0.03, False),
        ("recall.difference <= 0 on upper", 0.01, False),
        ("recall.value > 0.78", 0.79, True),
        ("recall > 0.78", 0.79, True),
        ("recall > 78%", 0.79, True),
        ("recall.value >= 0.76 on lower", 0.75, False),
        ("recall.ratio>=98%", 0.79 / 0.8, True),
        (" recall.ratio >= 9.9e-1 ", 0.79 / 0.8, False),
        ("recall.difference < -1 %", -0.01, False),
    ],
)
def test_a_rule_is_held_against_the_number_that_it_names(rule: str, value: float, passed: bool) -> None:
    found, outcome = verdict(rule)
    assert found == pytest.approx(value)
    assert outcome is passed


def test_a_gate_that_could_not_look_has_not_passed() -> None:
    assert verdict("nll.difference <= 0.05") == (None, False)
    row = evaluate([Gate("g", "recall.difference < 1")], comparisons(), metrics()).row(0, named=True)
    assert row["value"] is None
    assert row["passed"] is False


def layered(*differences: float | None) -> pl.DataFrame:
    """A candidate with these differences of recall by layer, each with bounds 0.01 away."""
    rows = [
        {
            "candidate": "light",
            "metric": "selection_recall",
            "layer": layer,
            "difference": own,
            "ci_low": None if own is None else own - 0.01,
            "ci_high": None if own is None else own + 0.01,
        }
        for layer, own in enumerate(differences)
    ]
    return pl.concat(
        [comparisons("light").filter(pl.col("layer").is_null()), pl.DataFrame(rows, schema=COMPARISONS.schema)]
    )


@pytest.mark.parametrize(
    ("rule", "value", "passed", "layer", "reason"),
    [
        ("per layer", -0.03, False, 2, "in layer 2, the worst of 4; it needs to be >= -0.02; 1 layer fails: 2"),
        ("per layer on lower", -0.04, False, 2, "2 layers fail: 1, 2"),
        ("on lower per layer", -0.04, False, 2, "lower bound, is -0.04 in layer 2"),
        ("on upper per layer", -0.02, True, 2, "every layer is >= -0.02"),
        ("at layer 1", -0.015, True, 1, "in layer 1 is -0.015; it is >= -0.02"),
        ("at layer 1 on lower", -0.025, False, 1, "in layer 1 is -0.025; it needs to be >= -0.02"),
        ("at layer 9", None, False, None, "there is no difference of selection_recall in layer 9"),
        ("", -0.01, True, None, "difference of selection_recall is -0.01; it is >= -0.02"),
    ],
)
def test_a_rule_by_layer_names_the_layer_that_it_rests_on(
    rule: str, value: float | None, passed: bool, layer: int | None, reason: str
) -> None:
    gates = [Gate("g", f"recall.difference >= -0.02 {rule}")]
    row = evaluate(gates, layered(0.0, -0.015, -0.03, 0.1), metrics("base", "light")).row(0, named=True)
    assert row["value"] == (None if value is None else pytest.approx(value))
    assert (row["passed"], row["layer"]) == (passed, layer)
    assert reason in row["reason"] and "\n" not in row["reason"]


def test_the_worst_layer_is_the_highest_where_less_is_wanted_and_the_first_among_equals() -> None:
    gate = Gate("g", "recall.difference <= 0.05 per layer")
    row = evaluate([gate], layered(0.0, 0.2, 0.2), metrics()).row(0, named=True)
    assert (row["value"], row["layer"], row["passed"]) == (0.2, 1, False)


def test_a_layer_without_a_value_is_not_passed_over() -> None:
    row = evaluate([Gate("g", "recall.difference >= -1 per layer")], layered(0.0, None), metrics()).row(0, named=True)
    assert (row["passed"], row["value"], row["layer"]) == (False, None, 1)
    assert row["reason"] == "there is no difference of selection_recall in layer 1"


def test_a_long_list_of_failing_layers_is_cut() -> None:
    row = evaluate([Gate("g", "recall.difference > 1 per layer")], layered(*[0.0] * 61), metrics()).row(0, named=True)
    assert "61 layers fail: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, …" in row["reason"]


def test_several_candidates_have_a_row_each() -> None:
    frame = evaluate([Gate("g", "recall.value > 0")], comparisons("x", "y"), metrics("base", "x", "y"))
    assert frame["name"].to_list() == ["g (x)", "g (y)"]
    assert frame["candidate"].to_list() == ["x", "y"]


def test_a_study_of_one_model_gates_its_values() -> None:
    frame = evaluate([Gate("g", "recall > 0.5")], comparisons(), metrics("base"))
    assert frame.select("name", "value", "passed").rows() == [("g", 0.79, True)]


def test_no_gates_give_an_empty_frame() -> None:
    frame = evaluate([], comparisons("x"), metrics("x"))
    assert frame.columns == ["name", "rule", "candidate", "value", "passed", "layer", "reason"]
    assert frame.is_empty()


def test_a_bare_metric_means_the_difference_to_the_command_line() -> None:
    assert parse_rule("recall < -0.01").quantity == "difference"
    assert parse_rule("recall < -0.01", bare="value").quantity == "value"


@pytest.mark.parametrize(
    ("rule", "part"),
    [
        ("", "is not a rule"),
        ("recall", "is not a rule"),
        ("recall == 1", "is not a rule"),
        ("recall < one", "is not a rule"),
        ("recall < nan", "is not a rule"),
        ("recall < 1 and nll < 2", "is not a rule"),
        ("recal.difference < 1", "there is no metric recal; did you mean recall?"),
        ("selection_recal < 1", "did you mean selection_recall?"),
        ("wibble < 1", "there is no metric wibble"),
        ("recall.changes < 1", "there is no .changes of a metric"),
        ("recall.change < 1", "a change is over a number of steps"),
        ("recall < 1 over 100", "a change is over a number of steps, and nothing else is"),
        ("recall.change < 1 over", "has 'over' without a number of steps"),
        ("recall.change < 1 over 0", "has 'over' without a number of steps"),
        ("recall.change < 1 over 10 over 20", "is not a rule"),
        ("recall.change < 1 over 100", "a change is that of a series"),
        ("recall < 1 on left", "there is no 'left' bound"),
        ("recall.ratio < 1 on lower", "a ratio has no confidence interval"),
        ("recall < 1e999", "out of range"),
        ("recall < 1 per head", "is not a rule"),
        ("recall < 1 per layer per layer", "is not a rule"),
        ("recall < 1 per layer at layer 2", "is not a rule"),
        ("recall < 1 on lower on upper", "is not a rule"),
        ("recall < 1 at layer", "is not a rule"),
        ("recall < 1 at layer two", "there is no layer 'two'"),
        ("recall < 1 at layer 99999", "there is no layer '99999'"),
        ("nll < 1 per layer", "nll is not measured by layer"),
        ("nll < 1 at length 512", "asks for one length, which reports do not hold"),
        ("indexer_latency_ms < 1 at length 512", "indexer_latency_ms is not measured by length"),
        ("evidence_selected < 1 at length 512", "asks for one length, which reports do not hold"),
        ("evidence_selected < 1 at length 512 at layer 2", "is not a rule"),
        ("evidence_selected < 1 at length 1k", "there is no length '1k'"),
    ],
)
def test_a_rule_that_does_not_parse_is_quoted_in_one_line(rule: str, part: str) -> None:
    with pytest.raises(IndexscopeError) as error:
        parse_rule(rule)
    text = str(error.value)
    assert f"rule '{rule}'" in text
    assert part in text
    assert "\n" not in text


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    with contextlib.suppress(IndexscopeError):
        assert parse_rule(text).metric in REGISTRY


@given(
    st.sampled_from(sorted(REGISTRY)),
    st.sampled_from(["<", "<=", ">", ">="]),
    st.floats(-1e6, 1e6),
    st.floats(-1e6, 1e6),
)
def test_a_parsed_rule_says_what_was_written(metric: str, sign: str, threshold: float, value: float) -> None:
    rule = parse_rule(f"{metric}.value {sign} {threshold!r}")
    expected = {"<": value < threshold, "<=": value <= threshold, ">": value > threshold, ">=": value >= threshold}
    assert rule.metric == metric
    assert rule.threshold == threshold
    assert rule.holds(value) is expected[sign]
    assert not rule.holds(None)
    assert not rule.holds(float("nan"))


def test_aliases_name_metrics_and_hide_none() -> None:
    assert set(ALIASES.values()) <= set(REGISTRY)
    assert not set(ALIASES) & set(REGISTRY)


def test_a_missing_candidate_fails_every_gate_and_the_baseline_does_not_stand_in_for_it() -> None:
    gates = [Gate("kept", "selection_recall >= 0"), Gate("same", "selection_recall.difference >= -1")]
    alone = evaluate(gates, comparisons(), metrics("base"), missing=["light"])
    assert alone.select("name", "candidate", "value", "passed", "reason").rows() == [
        (name, "light", None, False, "no result: light is missing") for name in ("kept", "same")
    ]
    both = evaluate(gates[:1], comparisons("half"), metrics("base", "half"), missing=["light"])
    assert both.select("name", "passed").rows() == [("kept (half)", True), ("kept (light)", False)]


@pytest.mark.parametrize("rule", ["recall > 0", "recall.difference >= -1 per layer", "recall.ratio > 0"])
def test_no_gate_holds_on_numbers_that_leak(rule: str) -> None:
    frames = comparisons("light", "half"), metrics("base", "light", "half")
    assert evaluate([Gate("g", rule)], *frames)["passed"].all()
    void = without_verdicts(frames[0], "base", ["light"])
    rows = evaluate([Gate("g", rule)], void, frames[1], leaking=["light"])
    assert rows["passed"].to_list() == [False, True]
    assert rows["reason"][0].startswith("leaks: light failed the causality audit") and "leaks" not in rows["reason"][1]


def test_against_a_baseline_that_leaks_a_value_is_judged_and_a_difference_is_not() -> None:
    void, gates = without_verdicts(comparisons("light"), "base", ["base"]), ("recall > 0", "recall.difference >= -1")
    rows = evaluate([Gate(rule, rule) for rule in gates], void, metrics("base", "light"), leaking=["base"])
    assert rows["passed"].to_list() == [True, False]
    assert rows["reason"][1].startswith("leaks: the baseline failed the causality audit")


def test_a_rule_at_a_length_is_held_against_samples_of_that_length() -> None:
    lengths = pl.DataFrame(
        {
            "model": ["base", "base", "light", "light"],
            "metric": ["evidence_selected"] * 4,
            "length": [512, 8192] * 2,
            "value": [1.0, 0.9, 1.0, 0.6],
            "ci_low": [1.0, 0.8, 1.0, 0.5],
            "ci_high": [1.0, 1.0, 1.0, 0.7],
        }
    )
    changes = pl.DataFrame(
        {
            "candidate": ["light", "light"],
            "metric": ["evidence_selected"] * 2,
            "length": [512, 8192],
            "baseline": [1.0, 0.9],
            "value": [1.0, 0.6],
            "difference": [0.0, -0.3],
            "ci_low": [0.0, -0.4],
            "ci_high": [0.0, -0.2],
        }
    )
    rules = {
        "evidence_selected >= 0.95 at length 512": (1.0, True),
        "evidence_selected >= 0.95 at length 8192": (0.6, False),
        "evidence_selected > 0.55 on lower at length 8192": (0.5, False),
        "evidence_selected.difference >= -0.35 at length 8192": (-0.3, True),
        "evidence_selected.ratio >= 0.7 at length 8192": (0.6 / 0.9, False),
        "evidence_selected >= 0.95 at length 4096": (None, False),
    }
    gates = [Gate(rule, rule) for rule in rules]
    found = evaluate(gates, comparisons("light"), metrics("base", "light"), lengths=lengths, length_differences=changes)
    for row in found.iter_rows(named=True):
        value, passed = rules[row["rule"]]
        assert (row["value"], row["passed"]) == (value if value is None else pytest.approx(value), passed)
    assert "at length 8192 is 0.6" in found["reason"][1]
    bare = evaluate(gates[:1], comparisons("light"), metrics("base", "light"))
    assert bare["passed"].to_list() == [False], "a study without answers"


def series(steps: dict[float, float], layer: int | None = None, name: str = "warm-up") -> pl.DataFrame:
    """Points of a series: value by step; the interval of the newest less another is 0.004 to either side."""
    newest = max(steps)
    rows = [
        (f"{name} {newest:g}", name, "selection_recall", layer, step, steps[newest] - value)
        for step, value in steps.items()
    ]
    names = ["candidate", "series", "metric", "layer", "step", "since"]
    frame = pl.DataFrame(rows, schema=names, orient="row").with_columns(pl.col("layer").cast(pl.Int16))
    return frame.with_columns(since_low=pl.col("since") - 0.004, since_high=pl.col("since") + 0.004)


def change(rule: str, points: pl.DataFrame | None) -> dict[str, object]:
    (row,) = evaluate([Gate("g", rule)], comparisons(), metrics("base"), series=points).to_dicts()
    return row


@pytest.mark.parametrize(
    ("rule", "value", "passed", "since"),
    [
        ("recall.change >= -0.01 over 1000", -0.008, True, "since 1000"),  # 2,000 less the member at 1,000
        ("recall.change >= -0.01 over 1500", -0.02, False, "since 500"),  # the last that is older by as many
        ("recall.change >= -0.01 over 1400", -0.02, False, "since 500"),
        ("recall.change >= -0.01 over 9000", 0.1, True, "since 0"),  # the first, where the series is shorter
        ("recall.change >= -0.01 over 1000 on lower", -0.012, False, "since 1000"),
        ("recall.change >= -1% over 1400 on upper", -0.016, False, "since 500"),
    ],
)
def test_a_change_is_that_of_the_newest_member_from_one_so_many_steps_before(
    rule: str, value: float, passed: bool, since: str
) -> None:
    row = change(rule, series({0: 0.7, 500: 0.82, 1000: 0.808, 1400: 0.8, 2000: 0.8}))
    assert (row["value"], row["passed"]) == (pytest.approx(value), passed)
    assert row["candidate"] == "warm-up 2000" and since in str(row["reason"])


def test_a_change_by_layer_names_the_worst_layer() -> None:
    points = pl.concat([series({0: 0.8, 10: 0.79}, 0), series({0: 0.8, 10: 0.7}, 1), series({0: 0.8, 10: 0.5})])
    row = change("recall.change >= -0.05 over 10 per layer", points)
    assert (row["value"], row["layer"], row["passed"]) == (pytest.approx(-0.1), 1, False)


def test_a_series_of_one_member_has_no_change_and_its_gate_has_not_passed() -> None:
    for points in (series({0: 0.8}), None):
        row = change("recall.change >= -0.01 over 10", points)
        assert row["value"] is None and row["passed"] is False and "there is no change of" in str(row["reason"])


def test_gates_of_several_series_go_by_their_names_and_not_by_those_of_the_newest() -> None:
    points = pl.concat([series({0: 0.8, 10: 0.8}), series({0: 0.8, 20: 0.8}, name="other")])
    found = evaluate([Gate("g", "recall.change >= 0 over 10")], comparisons(), metrics("base"), series=points)
    assert found["name"].to_list() == ["g (warm-up)", "g (other)"]


def test_metrics_that_compare_with_the_baseline_change_as_others_do() -> None:
    assert parse_gate("output_kl.change <= 0.01 over 1000").over == 1000
    with pytest.raises(IndexscopeError, match="compares with the baseline by itself"):
        parse_gate("output_kl.difference <= 0.01")


def test_an_older_member_without_a_result_fails_no_gate_but_one_that_would_be_held_beside_it() -> None:
    points = pl.concat([series({0: 0.8, 1000: 0.81, 3000: 0.82}), series({0: 0.8, 2000: 0.8}, name="other")])
    rules = (
        "recall.change >= 0 over 1000",
        "recall.change >= 0 over 1500",
        "recall.change >= 0 over 9000",
        "recall < 1",
    )
    gates = [Gate(str(number), rule) for number, rule in enumerate(rules)]
    lost = {"warm-up 2000": ("warm-up", 2000.0), "other 1": ("other", 1.0)}
    found = evaluate(gates, comparisons("light"), metrics("base", "light"), series=points, lost=lost)
    rows = {row["name"]: (row["value"], row["passed"], row["reason"]) for row in found.iter_rows(named=True)}
    assert rows["0 (warm-up)"] == (None, False, "no result: warm-up 2000, beside which it is held, is missing")
    assert rows["1 (warm-up)"][:2] == (pytest.approx(0.01), True) and "since 1000" in rows["1 (warm-up)"][2]
    assert rows["2 (warm-up)"][:2] == (pytest.approx(0.02), True), "the first, of a series that is shorter"
    assert rows["0 (other)"][2].startswith("no result: other 1, ")
    assert rows["3"][1], "of the newest alone"
    assert not any("warm-up 2000" in str(name) for name in found["candidate"])
