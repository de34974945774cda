"""Claims about stability over samples."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
import pytest

from indexscope.analysis.capture import CapturedModel
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.closeup.looking import collect_samples
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.key_budget.tables import SCORE_DRIFT
from indexscope.analysis.metrics.metric import Computed
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.settings import ExtractSettings
from indexscope.analysis.stability import StabilitySettings
from indexscope.analysis.stability import run as stability
from indexscope.analysis.stability.collect import VARIANTS, stability_collector
from indexscope.analysis.stability.rerun import RERUNS, rerun_stability
from indexscope.analysis.stability.tables import OUTPUT_STABILITY, SELECTION_RERUN, SELECTION_STABILITY
from tests.analysis.conftest import tiny_dsa
from tests.analysis.samples import samples

SETTINGS = StabilitySettings(resamples=100)


def close_up(
    changed: Mapping[str, Mapping[int, float]], weights: tuple[float, ...] = (1.0, 3.0)
) -> dict[str, pl.DataFrame]:
    """Samples 0 and 1 in which a variant changes a share of each layer's selection, sample 1 twice as much."""
    rows = [
        {"sample": sample, "layer": layer, "bucket": 7, "variant": variant, "queries": 2, "weight": weight,
         "changed": share * (1 + sample), "any_changed": 0.5, "recall_change": -share, "near_tie": 0.25,
         "tie_share": 0.1}
        for variant, layers in changed.items() for layer, share in layers.items()
        for sample, weight in enumerate(weights)
    ]  # fmt: skip
    return {"selection_stability": pl.DataFrame(rows, schema=SELECTION_STABILITY.schema)}


def test_changes_are_weighted_over_queries_samples_and_layers() -> None:
    found = stability.run(close_up({"fp8": {0: 0.1, 1: 0.2}, "ties": {0: 0.0, 1: 0.0}}), SETTINGS)
    metric = found["metrics"].filter(pl.col("metric") == "selection_changed_fp8")
    assert metric["value"].to_list() == pytest.approx([0.2625, 0.175, 0.35])
    assert metric["n"].to_list() == [2] * 3 and metric["layer"].to_list() == [None, 0, 1]
    variants = found["variants"].filter((pl.col("variant") == "fp8") & pl.col("layer").is_null()).row(0, named=True)
    assert variants["changed"] == pytest.approx(0.2625) and variants["recall_change"] == pytest.approx(-0.15)


def test_a_layer_is_fragile_by_the_larger_of_its_changes_and_robust_below_the_threshold() -> None:
    shares = {"ties": {0: 0.02, 1: 0.001, 2: 0.004, 3: 0.03}, "fp8": {0: 0.01, 1: 0.02, 2: 0.005, 3: 0.03}}
    tables = close_up(shares, (1.0,))
    drift = {"sample": 0, "layer": 1, "bucket": 7, "queries": 2, "weight": 2.0, "margin": 0.05,
             "queries_in_effect": 2, "weight_in_effect": 2.0}  # fmt: skip
    tables["score_drift"] = pl.DataFrame([drift], schema=SCORE_DRIFT.schema)
    found = stability.run(tables, SETTINGS)["fragility"]
    assert found["reason"].to_list() == ["ties", "small margins", "robust", "ties"]
    assert found["margin"].to_list() == [None, 0.05, None, None]
    strict = stability.run(tables, StabilitySettings(resamples=100, fragile=0.0025))["fragility"]
    assert strict["reason"].to_list()[2] == "small margins"


def test_outputs_have_no_layers_and_the_last_token_has_no_likelihood() -> None:
    rows = [
        {"sample": sample, "bucket": bucket, "variant": "int8", "tokens": 2, "weight": 4.0, "kl": 0.1 * bucket,
         "max_kl": 0.3 * bucket + sample, "top1_equal": 0.5, "nll_weight": 4.0 if bucket == 1 else 0.0,
         "nll_change": 0.25 if bucket == 1 else None}
        for sample in (0, 1) for bucket in (1, 2)
    ]  # fmt: skip
    reruns = [{"sample": 0, "layer": 2, "variant": "int8", "queries": 2, "weight": 2.0, "changed": 0.5}]
    found = stability.run(
        {
            "output_stability": pl.DataFrame(rows, schema=OUTPUT_STABILITY.schema),
            "selection_rerun": pl.DataFrame(reruns, schema=SELECTION_RERUN.schema),
        },
        SETTINGS,
    )
    row = found["outputs"].row(0, named=True)
    assert (row["kl"], row["max_kl"], row["nll_change"], row["n"]) == pytest.approx((0.15, 1.6, 0.25, 2))
    assert found["metrics"].select("metric", "layer").rows() == [("output_kl_int8", None)]
    assert found["rerun"].select("layer", "changed").rows() == [(None, 0.5), (2, 0.5)]


def test_intervals_of_two_samples_hold_no_divergence_below_zero_and_no_share_above_one() -> None:
    rows = [
        {"sample": sample, "bucket": 1, "variant": "int8", "tokens": 2, "weight": 4.0, "kl": kl, "max_kl": kl,
         "top1_equal": 0.5, "nll_weight": 4.0, "nll_change": 0.25 - sample}
        for sample, kl in enumerate((0.001, 0.004))
    ]  # fmt: skip
    tables = close_up({"ties": {0: 0.45}}) | {"output_stability": pl.DataFrame(rows, schema=OUTPUT_STABILITY.schema)}
    found = stability.run(tables, SETTINGS)
    output, changed = found["outputs"].row(0, named=True), found["variants"].row(0, named=True)
    assert 0 < output["ci_low"] < output["kl"] < output["ci_high"]
    assert 0 <= changed["ci_low"] < changed["changed"] < changed["ci_high"] <= 1
    assert -1 <= changed["recall_ci_low"] < changed["recall_change"] < changed["recall_ci_high"] < 1
    assert output["nll_ci_low"] < 0 < output["nll_ci_high"]


def test_without_a_probe_there_are_frames_and_no_errors() -> None:
    full = stability.run(close_up({"ties": {0: 0.1}, "fp8": {0: 0.1}}), SETTINGS)
    for name, frame in stability.run({}, SETTINGS).items():
        assert frame.is_empty() and frame.schema == full[name].schema


def test_every_variant_of_a_real_probe_is_a_metric() -> None:
    source = CapturedModel(tiny_dsa(index_heads=2))
    attempt = Attempt(source, ExtractSettings(chunk=32), Journal())
    tables = collect_samples(source, samples(60, 50), [stability_collector()], 8, attempt)
    found = stability.run(tables | rerun_stability(source, samples(60, 50), 8, attempt), SETTINGS)
    names = {f"selection_changed_{name}" for name in VARIANTS} | {f"output_kl_{name}" for name in RERUNS}
    assert set(found["metrics"]["metric"]) == names
    declared = {name for name, m in REGISTRY.items() if isinstance(m.rule, Computed) and m.rule.analysis == "stability"}
    assert declared == names
    assert set(found["per_sample"]["metric"]) == names
    assert found["fragility"].height == 3 and found["rerun"].filter(pl.col("layer").is_null()).height == len(RERUNS)
