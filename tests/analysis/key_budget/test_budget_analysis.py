"""Claims about budgets over samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from indexscope.analysis.key_budget import KeyBudgetSettings
from indexscope.analysis.key_budget import run as key_budget
from indexscope.analysis.key_budget.curve import fixed
from indexscope.analysis.key_budget.tables import KEYS_NEEDED, RECALL_AT_K, SCORE_DRIFT
from indexscope.analysis.metrics.sums import from_per_sample
from indexscope.analysis.statistics.resampling import ratio

SETTINGS = KeyBudgetSettings(resamples=200)
KS = (1, 2, 3, 4, 6, 8, 12, 16)


def close_up(
    keys: Sequence[float], layers: int = 1, scored: bool = True, mass: float = 0.96, length: int = 16
) -> dict[str, pl.DataFrame]:
    """Samples whose queries need so many keys for 95 %, and whose recall at k is k / 16 up to the length."""
    needed, curve = [], []
    for sample, count in enumerate(keys):
        for layer in range(layers):
            needed.append(
                {"sample": sample, "layer": layer, "bucket": 4, "target": 0.95, "queries": 2, "weight": 10.0 + sample,
                 "eligible": 16.0, "attended": 8.0, "own_k": 8, "own_recall": 0.5, "oracle_keys": count - 1,
                 "oracle_mass": mass, "indexer_keys": count + layer if scored else None,
                 "indexer_mass": mass if scored else None}
            )  # fmt: skip
            for k in KS:
                if k <= length:
                    recall = min(1.0, k / length)
                    curve.append(
                        {"sample": sample, "layer": layer, "k": k, "queries": 2, "weight": 10.0 + sample,
                         "indexer_recall": recall if scored else None, "oracle_recall": recall**0.5,
                         "kept": float(min(k, length))}
                    )  # fmt: skip
    return {
        "keys_needed": pl.DataFrame(needed, schema=KEYS_NEEDED.schema),
        "recall_at_k": pl.DataFrame(curve, schema=RECALL_AT_K.schema),
    }


def row(frame: pl.DataFrame, **where: object) -> dict[str, float]:
    for name, value in where.items():
        frame = frame.filter(pl.col(name).eq_missing(pl.lit(value, dtype=frame.schema[name])))
    return frame.row(0, named=True)


def test_a_fixed_budget_is_read_off_the_curve_and_an_adaptive_one_is_a_weighted_mean() -> None:
    """Recall k / 16 reaches 0.95 at k = 15.2; the keys of each query's own are 9 and 13, weighted 10 to 11."""
    found = key_budget.run(close_up([9, 13]), SETTINGS)
    plain = row(found["budgets"], layer=None, method="fixed")
    assert (plain["k"], plain["keys"], plain["recall"]) == pytest.approx((15.2, 15.2, 0.95))
    own = row(found["budgets"], layer=0, method="adaptive indexer")
    mean = (9 * 10 + 13 * 11) / 21
    assert own["keys"] == pytest.approx(mean) and own["k"] is None and own["recall"] == pytest.approx(0.96)
    assert own["share"] == pytest.approx(mean / 16) and own["relative_attention"] == pytest.approx(mean / 8)
    model = row(found["budgets"], layer=0, method="model")
    assert (model["k"], model["keys"], model["recall"], model["target"]) == (8, 8, 0.5, None)


def test_a_budget_by_layer_is_the_mean_of_the_layers_own() -> None:
    """Recall k / 16 in layer 0 and min(1, k / 4) in layer 1: 15.2 and 3.8 keys, where one k for both needs 14.4."""
    tables = close_up([9, 13], layers=2)
    steep = pl.when(pl.col("layer") == 1).then((pl.col("k") / 4).clip(0, 1)).otherwise(pl.col("indexer_recall"))
    tables["recall_at_k"] = tables["recall_at_k"].with_columns(indexer_recall=steep)
    budgets = key_budget.run(tables, SETTINGS)["budgets"]
    own = row(budgets, layer=None, method="fixed by layer")
    assert (own["keys"], own["recall"], own["k"]) == (pytest.approx(9.5), pytest.approx(0.95), None)
    assert own["ci_low"] == pytest.approx(9.5) == own["ci_high"]
    assert row(budgets, layer=None, method="fixed")["k"] == pytest.approx(14.4)
    assert budgets.filter(pl.col("method") == "fixed by layer").height == 1


def test_the_saving_compares_budgets_that_hold_as_much() -> None:
    """The adaptive keys hold 0.96, which a fixed k reaches at 15.36, not the target's 15.2."""
    found = key_budget.run(close_up([9, 13]), SETTINGS)
    saving = row(found["metrics"], metric="adaptive_saving_95", layer=None)
    assert saving["value"] == pytest.approx(1 - ((9 * 10 + 13 * 11) / 21) / 15.36)
    assert row(found["metrics"], metric="oracle_keys_95", layer=0)["value"] == pytest.approx((8 * 10 + 12 * 11) / 21)


def savings(first: float, second: float) -> pl.DataFrame:
    """adaptive_saving_95 of two layers whose queries need so many keys, where a fixed k takes 15.36 and 3.84."""
    tables, later = close_up([0, 0], layers=2), pl.col("layer") == 1
    needed = pl.when(later).then(second).otherwise(first)
    tables["keys_needed"] = tables["keys_needed"].with_columns(indexer_keys=needed)
    steep = pl.when(later).then((pl.col("k") / 4).clip(0, 1)).otherwise(pl.col("indexer_recall"))
    tables["recall_at_k"] = tables["recall_at_k"].with_columns(indexer_recall=steep)
    return key_budget.run(tables, SETTINGS)["metrics"].filter(pl.col("metric") == "adaptive_saving_95")


def test_what_layers_differ_by_is_no_saving_of_a_k_for_each_query() -> None:
    """Queries of a layer need the same, layers 15.36 and 3.84 keys: the saving is 0, however unlike the layers are."""
    found = savings(15.36, 3.84)
    assert found["value"].to_list() == pytest.approx([0.0, 0.0, 0.0], abs=1e-12)


def test_the_saving_over_layers_is_the_mean_of_theirs_by_the_keys_of_the_fixed_budgets() -> None:
    """12.8 of 15.36 keys and 3.6 of 3.84: savings of 1 / 6 and 1 / 16, together 2.8 of 19.2."""
    found = savings(12.8, 3.6)
    assert found["layer"].to_list() == [None, 0, 1]
    assert found["value"].to_list() == pytest.approx([2.8 / 19.2, 1 / 6, 1 / 16])


@pytest.mark.parametrize("layer", [None, 0])
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_the_saving_by_sample_is_its_first_order_expansion(layer: int | None, seed: int) -> None:
    """Its weighted mean is the saving; leaving a sample's weight out a little moves the saving by its derivative."""
    random = np.random.default_rng(seed)
    tables = close_up(random.uniform(4, 12, 5).tolist(), layers=2, mass=0.9)
    uneven = pl.col("indexer_recall").pow(0.8 - 0.2 * pl.col("layer")) * (
        1 - 0.05 * pl.col("sample") * (pl.col("k") < 16)
    )
    tables["recall_at_k"] = tables["recall_at_k"].with_columns(indexer_recall=uneven)

    def saving(weights: np.ndarray) -> tuple[float, pl.DataFrame]:
        factors = pl.DataFrame({"sample": np.arange(5, dtype=np.int32), "factor": weights})
        scaled = {
            name: frame.join(factors, on="sample").with_columns(weight=pl.col("weight") * pl.col("factor"))
            for name, frame in tables.items()
        }
        found = key_budget.run(scaled, KeyBudgetSettings(resamples=10))
        return row(found["metrics"], metric="adaptive_saving_95", layer=layer)["value"], found["per_sample"]

    value, rows = saving(np.ones(5))
    sums = from_per_sample(rows).of(["adaptive_saving_95"])
    column = sums.cells.index(("adaptive_saving_95", layer))
    numerator, denominator = sums.numerator[:, column], sums.denominator[:, column]
    assert float(ratio(numerator.sum(), denominator.sum())) == pytest.approx(value)
    for sample in range(5):
        step = np.ones(5)
        step[sample] += 1e-5
        moved = (saving(step)[0] - value) / 1e-5
        expected = (numerator[sample] - value * denominator[sample]) / denominator.sum()
        assert moved == pytest.approx(expected, abs=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0.01, 1.0), min_size=3, max_size=8), st.floats(0.0, 1.0))
def test_the_fixed_budget_inverts_the_curve(steps: list[float], share: float) -> None:
    recall = np.cumsum(steps) / np.sum(steps)
    grid = 2.0 ** np.arange(len(recall))
    target = recall[0] + share * (1 - recall[0])
    found = fixed(grid, recall, 3 * grid, np.array(min(target, recall[-1])))
    assert np.interp(float(found.k), grid, recall) == pytest.approx(target)
    assert float(found.keys) == pytest.approx(3 * float(found.k))
    assert float(fixed(grid, recall, grid, np.array(recall[0] / 2)).k) == 1.0
    assert np.isnan(fixed(grid, recall * 0.5, grid, np.array(0.9)).k)


def test_short_samples_hold_everything_beyond_their_own_end() -> None:
    long, short = close_up([5]), close_up([5], length=4)
    short = {name: frame.with_columns(sample=pl.lit(1, pl.Int32)) for name, frame in short.items()}
    both = {name: pl.concat([long[name], short[name]]) for name in long}
    curve = key_budget.run(both, SETTINGS)["curve"].filter(pl.col("layer").is_null())
    expected = [(min(1, k / 16) + min(1, k / 4)) / 2 for k in KS]
    assert curve["indexer_recall"].to_list() == pytest.approx(expected)
    assert curve["kept"].to_list() == pytest.approx([(k + min(k, 4)) / 2 for k in KS])
    assert curve["n"].to_list() == [2] * len(KS)


def test_all_layers_are_those_with_scores_but_every_layer_has_an_oracle() -> None:
    scored, shared = close_up([9, 13]), close_up([20, 30], scored=False)
    shared = {name: frame.with_columns(layer=pl.lit(1, pl.Int16)) for name, frame in shared.items()}
    found = key_budget.run({name: pl.concat([scored[name], shared[name]]) for name in scored}, SETTINGS)
    budgets, metrics = found["budgets"], found["metrics"]
    everywhere = row(metrics, metric="oracle_keys_95", layer=None)["value"]
    assert everywhere == pytest.approx((8 * 10 + 12 * 11 + 19 * 10 + 29 * 11) / 42)
    assert row(budgets, layer=None, method="adaptive oracle")["keys"] == pytest.approx((8 * 10 + 12 * 11) / 21)
    assert set(budgets.filter(pl.col("layer") == 1)["method"]) == {"model", "adaptive oracle"}
    assert (
        metrics.filter((pl.col("metric") == "indexer_keys_95") & (pl.col("layer") == 1))
        .filter(pl.col("value").is_not_null())
        .is_empty()
    )


def test_a_dense_model_and_no_probe_give_frames_and_no_errors() -> None:
    dense = key_budget.run(close_up([9, 13], scored=False), SETTINGS)
    assert set(dense["metrics"]["metric"]) == {"oracle_keys_95"}
    assert dense["curve"]["indexer_recall"].null_count() == dense["curve"].height > 0
    nothing = key_budget.run({}, SETTINGS)
    empty = key_budget.run({name: frame.clear() for name, frame in close_up([9]).items()}, SETTINGS)
    for name, frame in nothing.items():
        assert frame.is_empty() and frame.schema == dense[name].schema and empty[name].schema == frame.schema


class Shards(Mapping[str, pl.DataFrame]):
    def __init__(self, tables: Mapping[str, pl.DataFrame]) -> None:
        self.tables = tables

    def __getitem__(self, name: str) -> pl.DataFrame:
        return self.tables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tables)

    def __len__(self) -> int:
        return len(self.tables)

    def shards(self, names: Sequence[str]) -> Iterator[Mapping[str, pl.DataFrame]]:
        for sample in (2, 0, 3, 1):
            yield {name: self.tables[name].filter(pl.col("sample") == sample) for name in names if name in self.tables}


def test_shards_in_any_order_give_the_same() -> None:
    tables = close_up([9, 13, 5, 7], layers=2)
    whole, parts = key_budget.run(tables, SETTINGS), key_budget.run(Shards(tables), SETTINGS)
    for name, frame in whole.items():
        assert_frame_equal(frame, parts[name])


def test_drift_is_a_mean_over_the_queries_that_it_is_of() -> None:
    rows = [
        {"sample": sample, "layer": 0, "bucket": 5, "queries": 4, "weight": 8.0, "mean": float(sample), "sd": 1.0,
         "zero_share": 0.5, "queries_in_effect": 2 * sample, "weight_in_effect": 3.0 * sample,
         **dict.fromkeys(("threshold", "margin", "selected_mean", "selected_sd", "unselected_mean", "unselected_sd"),
                         2.0 if sample else None)}
        for sample in (0, 1)
    ]  # fmt: skip
    found = key_budget.run({"score_drift": pl.DataFrame(rows, schema=SCORE_DRIFT.schema)}, SETTINGS)["drift"]
    assert row(found, quantity="mean")["value"] == 0.5 and row(found, quantity="mean")["n"] == 2
    assert row(found, quantity="threshold")["value"] == 2.0 and row(found, quantity="threshold")["n"] == 1
