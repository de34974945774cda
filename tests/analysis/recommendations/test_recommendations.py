"""Claims about recommendations."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexscope.analysis.flops import flops, shape
from indexscope.analysis.metrics.tables import METRICS
from indexscope.analysis.recommendations import RecommendationSettings
from indexscope.analysis.recommendations import run as recommendations
from indexscope.analysis.recommendations.budget import allocate, envelope, recall_at, recall_of
from indexscope.analysis.recommendations.run import reuse_words
from tests.analysis import planted

SETTINGS = RecommendationSettings()
LAYERS, TOP_K = 4, 64


def facts() -> pl.DataFrame:
    return planted.facts(layers=LAYERS, top_k=TOP_K).with_columns(indexer_heads=pl.lit(4))


def metrics(indexer: float = 3000.0, attention: float = 1000.0) -> pl.DataFrame:
    rows = [("indexer_flops", None, indexer, "FLOPs/token", None, None, None)]
    rows.append(("attention_flops", None, attention, "FLOPs/token", None, None, None))
    return pl.DataFrame(rows, schema=METRICS.schema, orient="row")


def pruning(losses: dict[tuple[int | None, int], tuple[float, float]]) -> pl.DataFrame:
    """Layer and heads removed to the loss and its upper bound; head 3 goes first, then 2, then 1."""
    return pl.DataFrame(
        [
            {
                "layer": layer,
                "removed": removed,
                "indexer_head": None if layer is None or not removed else 4 - removed,
                "recall_loss": loss,
                "ci_low": loss - (high - loss),
                "ci_high": high,
                "flops_share": 1 - removed / 4,
                "n": 12,
            }
            for (layer, removed), (loss, high) in losses.items()
        ],
        schema_overrides={"layer": pl.Int16, "indexer_head": pl.Int16},
    )


def schedules(rows: list[tuple[int, str, float, float]]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "indexers": count,
                "method": "exact",
                "layers": layers,
                "loss": loss / 2,
                "ci_low": 0.0,
                "ci_high": loss,
                "loss_held_out": loss,
                "held_out_ci_low": loss / 2,
                "held_out_ci_high": high,
                "worst_layer": 3,
                "worst_loss": 2 * loss,
                "indexer_share": count / LAYERS,
                "n": 12,
            }
            for count, layers, loss, high in rows
        ]
    )


def curve(recall: dict[int, list[float]], ks: tuple[int, ...] = (16, 32, 64, 96, 128)) -> pl.DataFrame:
    return pl.DataFrame(
        [(layer, k, value, value, 12) for layer, own in recall.items() for k, value in zip(ks, own, strict=True)],
        schema={
            "layer": pl.Int16,
            "k": pl.Int32,
            "indexer_recall": pl.Float64,
            "oracle_recall": pl.Float64,
            "n": pl.Int32,
        },
        orient="row",
    )


def changes(frames: dict[str, pl.DataFrame], own: RecommendationSettings = SETTINGS) -> list[dict[str, object]]:
    frame = recommendations.run(frames, own)["recommendations"]
    assert frame["rank"].to_list() == list(range(1, frame.height + 1))
    return frame.to_dicts()


def test_heads_go_as_far_as_the_upper_bound_of_the_loss_allows() -> None:
    table = pruning({(3, 0): (0, 0), (3, 1): (0.0, 0.0005), (3, 2): (0.004, 0.009), (3, 3): (0.008, 0.02)})
    found = changes({"indexer_heads.pruning": table, "facts": facts(), "efficiency.metrics": metrics()})
    assert [row["change"] for row in found] == [
        "drop 1 of 4 indexer heads in layer 3 (head 3)",
        "drop 2 of 4 indexer heads in layer 3 (heads 3 and 2)",
    ]
    assert [row["expected_loss"] for row in found] == [0.0, 0.004]
    assert found[1]["ci_high"] == 0.009
    assert found[1]["mean_loss"] == pytest.approx(0.004 / LAYERS)
    # 3000 FLOPs of the indexers less 2 x 500 of projections, a quarter of them in the layer, half of its heads.
    assert found[1]["saving"] == pytest.approx((3000 - 1000) / 4 / 2 / 4000)
    assert "n = 12" in str(found[1]["basis"])
    assert (
        changes({"indexer_heads.pruning": table, "facts": facts()}, RecommendationSettings(max_recall_loss=0.0001))
        == []
    )


def test_every_change_of_all_layers_that_was_weighed_is_kept_and_marked_where_it_is_recommended() -> None:
    table = pruning(
        {(None, 0): (0, 0), (None, 1): (0.0, 0.0005), (None, 2): (0.2, 0.3), (3, 0): (0, 0), (3, 1): (0, 0)}
    )
    ks = [(None, 32, 0.5, 24.0), (None, 64, 0.8, 48.0), (None, 128, 0.9, 96.0)]
    budgets = pl.DataFrame(ks, schema=["layer", "k", "indexer_recall", "kept"], orient="row")
    frames = {"indexer_heads.pruning": table, "key_budget.curve": budgets, "facts": facts()}
    frames["efficiency.metrics"] = metrics()
    found = recommendations.run(frames, SETTINGS)["recommendation_options"]
    assert found.select("change", "expected_loss", "recommended").rows() == [
        ("drop 1 of 4 indexer heads in every layer", 0.0, True),
        ("drop 2 of 4 indexer heads in every layer", 0.2, False),
        ("k = 32 instead of 64 in every layer", pytest.approx(0.3), False),
    ]
    # Half of the attended keys of 1000 FLOPs of attention, beside 3000 of the indexers.
    assert found["saving"][2] == pytest.approx(1000 / 2 / 4000)
    frames["audit"] = pl.DataFrame({"passed": [False]})
    assert recommendations.run(frames, SETTINGS)["recommendation_options"].is_empty()


def test_the_saving_at_64k_is_of_the_projected_cost() -> None:
    table = pruning({(None, 0): (0, 0), (None, 1): (0.0, 0.0)})
    (row,) = changes({"indexer_heads.pruning": table, "facts": facts()})
    spent = flops(shape(facts()), 65_536)
    pairs = LAYERS * (2 * 4 * 32 + 2 * 4) * 65_536 * 65_537 / 2
    assert row["saving_at_64k"] == pytest.approx(pairs / 4 / float(spent.indexer + spent.attention))
    assert row["saving"] is None, "without metrics the study's lengths are not known"
    assert row["change"] == "drop 1 of 4 indexer heads in every layer"


def test_savings_are_of_the_cost_as_served() -> None:
    """The FP8 indexer counts half beside attention on latents, at the study's lengths as at 65,536 tokens."""
    table = pruning({(None, 0): (0, 0), (None, 1): (0.0, 0.0)})
    served = {"latent_key_width": 40, "latent_value_width": 32, "indexer_precision": pl.lit("fp8")}
    facts_ = facts().with_columns(**served)
    (row,) = changes({"indexer_heads.pruning": table, "facts": facts_, "efficiency.metrics": metrics()})
    assert row["saving"] == pytest.approx((3000 - 1000) / 2 / 4 / (3000 / 2 + 1000))
    length, k = 65_536, TOP_K
    pairs = LAYERS * (2 * 4 * 32 + 2 * 4) * length * (length + 1) / 2
    attended = LAYERS * 2 * 4 * 72 * (k * (k + 1) / 2 + (length - k) * k)
    assert row["saving_at_64k"] == pytest.approx(pairs / 2 / 4 / ((pairs + 2 * 500 * length) / 2 + attended))


def test_sharing_goes_by_the_loss_on_held_out_samples() -> None:
    table = schedules([(4, "0,1,2,3", 0.0, 0.0), (2, "0,1", 0.006, 0.009), (1, "0", 0.009, 0.03)])
    (row,) = changes({"layer_sharing.schedules": table, "facts": facts(), "efficiency.metrics": metrics()})
    assert row["change"] == "let layers 2 and 3 reuse the selection of layer 1"
    assert row["expected_loss"] == 0.006
    assert (row["ci_low"], row["ci_high"]) == (0.003, 0.009)
    assert row["saving"] == pytest.approx(3000 / 2 / 4000)
    assert "layer 3 loses most, 0.0120" in str(row["caveat"])


def test_who_reuses_whom_is_said_in_words() -> None:
    assert reuse_words([0], [0, 1]) == "let layer 1 reuse the selection of layer 0"
    words = reuse_words([0, 2, 4], [0, 1, 2, 3, 4, 5, 6])
    assert words == (
        "let layer 1 reuse the selection of layer 0, layer 3 that of layer 2, and layers 5 and 6 that of layer 4"
    )


def test_keys_move_to_the_layer_that_gains_most() -> None:
    """Beyond 32 keys layer 0 gains nothing, layer 1 a hundredth of 0.1 each key: 32 keys go over."""
    table = curve({0: [0.5, 0.9, 0.9, 0.9, 0.9], 1: [0.2, 0.4, 0.6, 0.7, 0.75]})
    found = changes({"key_budget.curve": table, "facts": facts(), "efficiency.metrics": metrics()})
    moved = next(row for row in found if "as many keys" in str(row["change"]))
    assert moved["change"] == "k = 32 in layer 0, and 96 in layer 1 instead of 64 everywhere (as many keys in all)"
    assert moved["expected_loss"] == pytest.approx((0.9 + 0.6 - 0.9 - 0.7) / 2)
    fewer = next(row for row in found if "fewer" in str(row["change"]))
    assert fewer["change"] == "k = 32 in layer 0, and 64 in layer 1 instead of 64 everywhere (32 keys fewer in all)"
    assert fewer["expected_loss"] == pytest.approx(0)


def test_where_all_layers_are_alike_nothing_is_to_be_moved() -> None:
    table = curve({layer: [0.5, 0.7, 0.8, 0.85, 0.87] for layer in range(3)})
    assert changes({"key_budget.curve": table, "facts": facts()}) == []


def test_the_savings_of_fewer_keys_follow_the_keys_that_are_kept() -> None:
    table = curve({0: [0.5, 0.9, 0.9, 0.9, 0.9], 1: [0.2, 0.4, 0.6, 0.7, 0.75]}).with_columns(
        kept=pl.col("k").cast(pl.Float64) * 0.75
    )
    found = changes({"key_budget.curve": table, "facts": facts(), "efficiency.metrics": metrics()})
    fewer = next(row for row in found if "fewer" in str(row["change"]))
    assert fewer["saving"] == pytest.approx(1000 * (1 - 96 / 128) / 4000)


def test_a_smaller_k_everywhere_is_the_smallest_fixed_one_within_the_limit() -> None:
    budgets = pl.DataFrame(
        [
            (None, None, "model", 64.0, 0.90, 1.0, 12),
            (None, 0.90, "fixed", 48.0, 0.895, 0.8, 12),
            (None, 0.85, "fixed", 32.0, 0.85, 0.6, 12),
            (0, 0.85, "fixed", 8.0, 0.9, 0.2, 12),
        ],
        schema={
            "layer": pl.Int16,
            "target": pl.Float64,
            "method": pl.String,
            "k": pl.Float64,
            "recall": pl.Float64,
            "relative_attention": pl.Float64,
            "n": pl.Int32,
        },
        orient="row",
    )
    (row,) = changes({"key_budget.budgets": budgets, "facts": facts(), "efficiency.metrics": metrics()})
    assert row["change"] == "k = 48 instead of 64 in every layer"
    assert row["expected_loss"] == pytest.approx(0.005)
    assert row["saving"] == pytest.approx(1000 * 0.2 / 4000)


def test_what_costs_nothing_comes_first_and_then_most_saving_per_loss() -> None:
    frames = {
        "indexer_heads.pruning": pruning(
            {
                **{(layer, 0): (0.0, 0.0) for layer in (0, 1)},
                (0, 1): (0.0, 0.0002),
                (0, 2): (0.008, 0.009),
                (1, 1): (0.0, 0.0002),
                (1, 2): (0.0, 0.0003),
            }
        ),
        "layer_sharing.schedules": schedules([(2, "0,1", 0.006, 0.009)]),
        "facts": facts(),
        "efficiency.metrics": metrics(),
    }
    found = changes(frames)
    assert [str(row["change"]).split(" (")[0] for row in found] == [
        "drop 2 of 4 indexer heads in layer 1",
        "drop 1 of 4 indexer heads in layer 0",
        "let layers 2 and 3 reuse the selection of layer 1",
        "drop 2 of 4 indexer heads in layer 0",
    ]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.floats(0.0, 0.05))
def test_nothing_is_recommended_that_loses_more_than_the_limit(seed: int, limit: float) -> None:
    random = np.random.default_rng(seed)
    loss = np.sort(random.uniform(-0.01, 0.08, (LAYERS, 3)), axis=1)
    table = pruning(
        {
            (layer, removed + 1): (loss[layer, removed], loss[layer, removed] + 0.004)
            for layer in range(4)
            for removed in range(3)
        }
    )
    shared = schedules([(3, "0,1,2", loss[0, 0], loss[0, 1]), (1, "0", loss[1, 1], loss[1, 2])])
    frames = {"indexer_heads.pruning": table, "layer_sharing.schedules": shared, "facts": facts()}
    for row in changes(frames, RecommendationSettings(max_recall_loss=limit, tolerance=0.001)):
        assert isinstance(row["expected_loss"], float)
        assert isinstance(row["ci_high"], float)
        assert max(row["expected_loss"], row["ci_high"]) <= limit


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(3, 12))
def test_the_allocation_of_concave_curves_is_the_best_of_all(seed: int, total: int) -> None:
    """Against every allocation of so many keys over three layers of whole-key curves."""
    random = np.random.default_rng(seed)
    k = np.arange(1.0, 6.0)
    curves = {layer: (k, np.cumsum(np.sort(random.random(5))[::-1]) / 5) for layer in range(3)}
    found = allocate(curves, total)
    assert sum(found.values()) <= total
    every = (dict(enumerate(choice)) for choice in itertools.product(range(1, 6), repeat=3) if sum(choice) <= total)
    assert recall_of(curves, found) == pytest.approx(max(recall_of(curves, one) for one in every))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_an_allocation_stops_once_it_holds_enough(seed: int) -> None:
    random = np.random.default_rng(seed)
    k = np.array([8.0, 16.0, 32.0, 64.0, 128.0])
    curves = {layer: (k, 1 - np.exp(-k / scale)) for layer, scale in enumerate(random.uniform(5, 100, 4))}
    before = recall_of(curves, dict.fromkeys(curves, 64))
    found = allocate(curves, 64 * 4, before * 4)
    assert recall_of(curves, found) >= before - 1e-9
    assert sum(found.values()) <= 64 * 4
    largest = max(found, key=lambda layer: found[layer])
    if found[largest] > 1:
        less = found | {largest: found[largest] - 1}
        assert recall_of(curves, less) < recall_of(curves, found)


def test_the_envelope_lies_on_concave_curves_and_above_others() -> None:
    k, recall = np.array([1.0, 2.0, 4.0]), np.array([0.5, 0.7, 0.9])
    assert envelope(k, recall)[1].tolist() == [0.0, 0.5, 0.7, 0.9]
    hull = envelope(k, np.array([0.1, 0.7, 0.6]))
    assert all(recall_at((k, np.array([0.1, 0.7, 0.6])), x) <= np.interp(x, *hull) + 1e-12 for x in (1, 1.5, 2, 3, 4))


def test_without_results_there_is_no_advice() -> None:
    empty = recommendations.run({}, SETTINGS)["recommendations"]
    assert empty.is_empty()
    assert empty.columns == list(
        recommendations.run({"indexer_heads.pruning": pruning({(0, 1): (0.0, 0.0)}), "facts": facts()}, SETTINGS)[
            "recommendations"
        ].columns
    )
    assert recommendations.run({"facts": planted.facts(top_k=None), "efficiency.metrics": metrics()}, SETTINGS)[
        "recommendations"
    ].is_empty()


@pytest.mark.parametrize(("passed", "advised"), [(True, True), (None, True), (False, False)])
def test_of_a_model_that_leaks_nothing_is_recommended(passed: bool | None, advised: bool) -> None:
    audit = pl.DataFrame({"passed": [passed]}, schema={"passed": pl.Boolean})
    frames = {"indexer_heads.pruning": pruning({(0, 1): (0.0, 0.0)}), "facts": facts(), "audit": audit}
    assert (recommendations.run(frames, SETTINGS)["recommendations"].height > 0) is advised
