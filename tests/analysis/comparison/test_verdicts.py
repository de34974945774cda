"""Claims about what a comparison row is called, and what margins and corrections make of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from scipy.stats import false_discovery_control

from indexscope.analysis.comparison.tables import COMPARISONS, JUDGED
from indexscope.analysis.comparison.verdicts import false_discovery, with_verdicts
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.settings import ComparisonSettings
from indexscope.analysis.statistics.margins import Margin, read_margin
from indexscope.columns import names

ADDED = names(JUDGED)
COLUMNS = {name: kind for name, kind in COMPARISONS.schema.items() if name not in (*ADDED, "unit", "value")}


def row(metric: str, difference: float, half: float | None, **more: Any) -> dict[str, Any]:
    """A row whose confidence interval is difference -+ half and whose narrower one is difference -+ 0.8 half."""
    bounds = (
        {}
        if half is None
        else {
            "ci_low": difference - half,
            "ci_high": difference + half,
            "tost_low": difference - 0.8 * half,
            "tost_high": difference + 0.8 * half,
            "n": 30,
            "p": 0.5,
        }
    )
    return (
        {"candidate": "light", "metric": metric, "layer": None, "baseline": 0.5, "difference": difference}
        | bounds
        | more
    )


def judged(*rows: dict[str, Any], **settings: Any) -> pl.DataFrame:
    return with_verdicts(pl.DataFrame(rows, schema=COLUMNS), ComparisonSettings(**settings))


@pytest.mark.parametrize(
    ("metric", "difference", "half", "verdict", "no_worse", "better"),
    [
        # The margin is 0.01 x 0.5 = 0.005.
        ("selection_recall", 0.02, 0.01, "better", True, True),
        ("selection_recall", -0.02, 0.01, "worse", False, False),
        ("selection_recall", 0.0, 0.02, "inconclusive", False, None),
        ("selection_recall", 0.004, 0.01, "inconclusive", True, None),
        ("selection_recall", 0.0, 0.006, "equivalent", True, None),
        ("selection_recall", -0.002, 0.001, "equivalent", True, False),  # detected, and too small to matter
        ("selection_recall", -0.0045, 0.001, "worse", False, False),  # within the margin, but not surely
        ("output_error", 0.02, 0.01, "worse", False, False),
        ("output_error", -0.004, 0.01, "inconclusive", True, None),
        ("normalized_entropy", 0.02, 0.01, "different", None, None),
        ("normalized_entropy", 0.0, 0.001, "equivalent", None, None),
        ("selection_recall", 0.0, 0.0, "equal", True, None),
        ("selection_recall", 3e-7, 1e-7, "equal", True, None),  # a millionth of the value is rounding
        ("selection_recall", 3e-7, 1e-6, "equivalent", True, None),
        ("random_recall", 0.0, 0.0, "equal", None, None),
        ("indexer_parameters", -10.0, None, "better", None, True),
        ("indexer_parameters", 0.0, None, "equal", None, None),
        ("indexer_latency_ms", -0.1, 0.01, None, None, None),  # timings are not judged
    ],
)
def test_every_word_follows_from_its_definition(
    metric: str, difference: float, half: float | None, verdict: str | None, no_worse: bool | None, better: bool | None
) -> None:
    found = judged(row(metric, difference, half)).row(0, named=True)
    assert (found["verdict"], found["no_worse"], found["better"]) == (verdict, no_worse, better)


def test_an_unknown_difference_has_no_verdict() -> None:
    lost = dict.fromkeys(("difference", "ci_low", "ci_high", "tost_low", "tost_high", "p"))
    one = judged(row("nll", 0.1, 0.01) | lost).row(0, named=True)
    assert [one[name] for name in ADDED if name != "margin"] == [None] * 5
    single = judged(row("nll", 0.1, None, n=1)).row(0, named=True)
    assert single["verdict"] is single["better"] is None


def test_margins_are_the_settings_own() -> None:
    rows = [row(metric, 0.0, 0.1, baseline=-2.0) for metric in ("nll", "accuracy", "indexer_kl", "output_error")]
    found = judged(*rows, margin=0.02, margins={"accuracy": 0.3, "indexer_kl": "5%"})
    assert found["margin"].to_list() == pytest.approx([0.01, 0.3, 0.1, 0.04])
    assert judged(row("nll", 0.0, 0.1), margins={"nll": "1 %"})["margin"].to_list() == pytest.approx([0.005])


def test_two_equal_zeros_are_equal_and_no_worse() -> None:
    found = judged(row("selection_recall", 0.0, 0.0, baseline=0.0)).row(0, named=True)
    assert (found["verdict"], found["no_worse"]) == ("equal", True)


def test_a_margin_of_nearly_nothing_is_at_least_the_metrics_own() -> None:
    """1 % of 0.0002 of the keys is 0.000002: a difference of 0.0003 matters no more than that."""
    found = judged(row("tie_share", 0.0003, 0.0001, baseline=0.0002), row("tie_share", 0.0003, 0.0001, baseline=0.0))
    assert found["margin"].to_list() == [0.001, 0.001]
    assert found["verdict"].to_list() == ["equivalent", "equivalent"]
    named = judged(row("tie_share", 0.0003, 0.0001, baseline=0.0002), margins={"tie_share": "1%"})
    assert named["margin"].to_list() == pytest.approx([2e-6]), "a margin that the study names is its own"
    assert named["verdict"].to_list() == ["worse"]


def test_the_loss_and_what_adds_up_to_it_share_one_margin() -> None:
    """1 % of a sparsity cost of 0.016 is a sixtieth of the loss's margin: the same difference had two verdicts."""
    base = {"nll": 2.5, "sparsity_cost": 0.016, "dense_nll": 2.484}
    rows = [row(metric, 0.0018, 0.001, baseline=value) for metric, value in base.items()]
    found = judged(*rows)
    assert found["margin"].to_list() == [0.01] * 3 and set(found["verdict"]) == {"equivalent"}
    assert judged(*rows, margins={"nll": 0.001})["margin"].to_list() == [0.001] * 3
    assert judged(*rows, margins={"sparsity_cost": 0.002})["margin"].to_list() == [0.01, 0.002, 0.01]


def test_parts_of_a_whole_have_the_wholes_margin_in_their_own_layer() -> None:
    rows = [
        row(metric, 0.01, 0.001, baseline=value * (2 - (layer or 0)), layer=layer)
        for layer in (None, 1)
        for metric, value in (("positional_bias", 1.0), ("oldest_bias", 0.1))
    ]
    assert judged(*rows)["margin"].to_list() == pytest.approx([0.02, 0.02, 0.01, 0.01])
    assert judged(rows[1])["margin"].to_list() == pytest.approx([0.002]), "of a whole that is not there"


def test_every_sampled_metric_declares_a_difference_that_never_matters() -> None:
    counts = ("clusters_chosen",)
    silent = [n for n, m in REGISTRY.items() if m.kind == "sample" and not m.least_margin and n not in counts]
    assert silent == []


@pytest.mark.parametrize("value", [0, -1, True, None, "x", "5", "%", "nan%", float("inf"), [1]])
def test_what_is_no_margin_is_refused_in_one_line(value: Any) -> None:
    with pytest.raises(ValidationError) as error:
        ComparisonSettings(margins={"nll": value})
    (found,) = error.value.errors()
    assert "the margin of nll is" in found["msg"] and "\n" not in found["msg"]


def test_a_margin_reads_as_written() -> None:
    assert read_margin("nll", " 2.5 %") == Margin(0.025, relative=True)
    assert read_margin("nll", 3) == Margin(3.0, relative=False)


def test_p_is_adjusted_within_its_family_only() -> None:
    """Benjamini and Hochberg by hand: p x m / rank, made monotone from the largest down."""
    p = {"nll": 0.01, "accuracy": 0.02, "output_error": 0.9}
    headline = [row(metric, 0.1, 0.2, p=own) for metric, own in p.items()]
    others = [row("oracle_recall", 0.1, 0.2, p=0.04), row("indexer_parameters", 1.0, None)]
    layers = [row("nll", 0.1, 0.2, layer=layer, p=own) for layer, own in enumerate((0.001, 0.5))]
    rows = [*headline, *others, *layers]
    found = judged(*rows, *({**own, "candidate": "other"} for own in rows))
    expected = [0.03, 0.03, 0.9, 0.04, np.nan, 0.002, 0.5]
    assert found["p_adjusted"].fill_null(np.nan).to_list() == pytest.approx([*expected, *expected], nan_ok=True)
    assert found["corrected"].to_list()[:7] == [True, True, False, True, None, True, False]
    assert found["candidate"].to_list() == ["light"] * 7 + ["other"] * 7


def test_what_two_metrics_measure_is_tested_once() -> None:
    """head_recall is selection_recall, and top_k_mass is top_64_mass where k = 64: neither makes a family larger."""
    rows = [
        row("selection_recall", 0.1, 0.2, p=0.02),
        row("head_recall", 0.1 + 1e-8, 0.2, p=0.021),
        row("top_64_mass", 0.1, 0.2, p=0.01),
        row("top_k_mass", 0.1, 0.2, p=0.01),
        row("sink_mass", 0.1, 0.2, p=0.04),
    ]
    assert judged(*rows)["p_adjusted"].to_list() == pytest.approx([0.02, 0.02, 0.02, 0.02, 0.04])
    apart = [*rows[:3], row("top_k_mass", 0.2, 0.2, p=0.01), rows[4]]
    assert judged(*apart)["p_adjusted"].to_list() == pytest.approx([0.02, 0.02, 0.015, 0.015, 0.04]), (
        "k = 32: two tests"
    )


def test_a_stricter_confidence_asks_more_of_p() -> None:
    assert judged(row("nll", 0.1, 0.2, p=0.03), confidence=0.99)["corrected"].to_list() == [False]


def test_settings_are_equal_and_hash_alike_whatever_the_order_of_their_margins() -> None:
    one, other = (ComparisonSettings(margins=own) for own in ({"a": 1, "b": "2%"}, {"b": "2%", "a": 1}))
    assert one == other and hash(one) == hash(other)
    assert hash(one) != hash(ComparisonSettings())


@pytest.mark.parametrize("tests", [1, 2, 40])
def test_adjusted_p_is_that_of_scipy(tests: int) -> None:
    p = np.random.default_rng(tests).random(tests) ** 3
    assert false_discovery(p) == pytest.approx(false_discovery_control(p), abs=1e-15)
