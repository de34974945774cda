"""Claims about sharing a selection across layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from indexscope.analysis.layer_sharing import LayerSharingSettings
from indexscope.analysis.layer_sharing import run as layer_sharing
from indexscope.analysis.layer_sharing.tables import LAYER_SHARING, SCHEDULES, SIMILARITY
from indexscope.analysis.metrics.stream import Sharded
from indexscope.analysis.metrics.tables import METRICS, PER_SAMPLE
from tests.analysis.planted import shuffled

SETTINGS = LayerSharingSettings(resamples=200)


def table(losses: np.ndarray, weights: Sequence[float], own: Sequence[bool] | None = None) -> pl.DataFrame:
    """Rows with own_recall 0.9 and recall 0.9 - losses[sample, layer, source]; overlap is 1 - loss / 2."""
    count, layers = losses.shape[:2]
    rows = []
    for sample in range(count):
        for layer in range(layers):
            for source in range(layer + 1):
                lost = float(losses[sample, layer, source]) if source < layer else 0.0
                values = (1 - lost, 1 - lost / 2, 0.9 - lost, 0.9, 0.95, 0.1) if weights[sample] else (None,) * 6
                kept = own is None or own[layer]
                rows.append((sample, layer, source, kept, int(weights[sample]), weights[sample], *values))
    return pl.DataFrame(rows, schema=LAYER_SHARING.schema, orient="row")


def random_table(samples: int = 11, layers: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray, pl.DataFrame]:
    random = np.random.default_rng(seed)
    losses = random.random((samples, layers, layers)) * 0.5
    weights = random.integers(1, 9, samples).astype(float)
    return losses, weights, table(losses, weights.tolist())


def test_losses_are_ratios_of_sums_over_samples() -> None:
    losses, weights, frame = random_table()
    found = layer_sharing.run({"layer_sharing": frame}, SETTINGS)
    mean = np.average(losses, axis=0, weights=weights)
    for layer, source, loss, overlap, low, high, n in (
        found["similarity"].select("layer", "source", "loss", "overlap", "ci_low", "ci_high", "n").iter_rows()
    ):
        assert loss == pytest.approx(mean[layer, source])
        assert overlap == pytest.approx(1 - mean[layer, source] / 2)
        assert low < loss < high and n == 11
    assert found["similarity"].height == 10
    metrics = {(row["metric"], row["layer"]): row for row in found["metrics"].iter_rows(named=True)}
    near = [mean[layer, layer - 1] for layer in range(1, 5)]
    assert metrics["sharing_loss", None]["value"] == pytest.approx(np.mean(near))
    assert metrics["sharing_loss", 3]["value"] == pytest.approx(near[2])
    assert metrics["neighbour_overlap", None]["value"] == pytest.approx(1 - np.mean(near) / 2)
    assert ("sharing_loss", 0) not in metrics


def test_schedules_report_the_loss_averaged_over_all_layers() -> None:
    losses, weights, frame = random_table()
    found = layer_sharing.run({"layer_sharing": frame}, SETTINGS)["schedules"]
    mean = np.average(losses, axis=0, weights=weights)
    assert found.height == 5 * 3
    for row in found.iter_rows(named=True):
        kept = [int(layer) for layer in row["layers"].split(",")]
        each = [0.0 if layer in kept else mean[layer, max(k for k in kept if k < layer)] for layer in range(5)]
        assert len(kept) == row["indexers"] and kept[0] == 0
        assert row["loss"] == pytest.approx(np.mean(each))
        assert row["indexer_share"] == row["indexers"] / 5
        if row["indexers"] < 5:
            assert row["worst_loss"] == pytest.approx(max(each)) and each[row["worst_layer"]] == pytest.approx(
                max(each)
            )
            assert row["ci_low"] < row["loss"] < row["ci_high"]
        else:
            assert (row["loss"], row["ci_low"], row["ci_high"], row["worst_layer"]) == (0.0, 0.0, 0.0, None)
    exact = found.filter(method="exact").sort("indexers")["loss"].to_numpy()
    for method in ("greedy", "even"):
        assert (exact <= found.filter(method=method).sort("indexers")["loss"].to_numpy() + 1e-12).all()


def test_held_out_losses_are_of_schedules_that_the_other_half_chose() -> None:
    losses = np.zeros((6, 3, 3))
    losses[0::2, 1, 0], losses[0::2, 2, 0], losses[0::2, 2, 1] = 0.4, 0.1, 0.1  # even ranks want layer 1's indexer
    losses[1::2, 1, 0], losses[1::2, 2, 0], losses[1::2, 2, 1] = 0.1, 0.5, 0.5  # odd ones want layer 2's
    found = layer_sharing.run({"layer_sharing": table(losses, [1.0] * 6)}, SETTINGS)["schedules"]
    row = found.filter(indexers=2, method="exact").row(0, named=True)
    assert row["layers"] == "0,2"
    assert row["loss"] == pytest.approx((0.4 + 0.1) / 2 / 3)
    # Even samples under the odd half's (0, 2) lose 0.4, odd ones under (0, 1) lose 0.5.
    assert row["loss_held_out"] == pytest.approx((0.4 + 0.5) / 2 / 3)
    even = found.filter(indexers=2, method="even").row(0, named=True)
    assert even["loss_held_out"] == pytest.approx(even["loss"])


def test_choosing_and_judging_on_the_same_samples_is_optimistic_where_there_is_nothing_to_choose() -> None:
    random = np.random.default_rng(2)
    losses = 0.3 + 0.2 * random.standard_normal((12, 10, 10))  # all pairs alike but for noise
    found = layer_sharing.run({"layer_sharing": table(losses, [1.0] * 12)}, SETTINGS)["schedules"]
    row = found.filter(indexers=4, method="exact").row(0, named=True)
    truth = 0.3 * 6 / 10
    assert row["loss"] < truth - 0.02
    assert abs(row["loss_held_out"] - truth) < abs(row["loss"] - truth)


def test_a_single_sample_has_neither_intervals_nor_a_held_out_loss() -> None:
    found = layer_sharing.run({"layer_sharing": table(np.full((1, 3, 3), 0.2), [4.0])}, SETTINGS)
    row = found["schedules"].filter(indexers=1, method="exact").row(0, named=True)
    assert row["loss"] == pytest.approx(0.4 / 3)
    assert (row["ci_low"], row["loss_held_out"], row["held_out_ci_low"], row["n"]) == (None, None, None, 1)


def test_layers_that_share_already_can_neither_keep_an_indexer_nor_speak_for_neighbours() -> None:
    losses = np.full((4, 4, 4), 0.2)
    losses[:, 1, 0] = losses[:, 3, 2] = 0.0
    found = layer_sharing.run({"layer_sharing": table(losses, [1.0] * 4, [True, False, True, False])}, SETTINGS)
    assert found["schedules"]["indexers"].unique().sort().to_list() == [1, 2]
    both = found["schedules"].filter(indexers=2, method="exact").row(0, named=True)
    assert (both["layers"], both["loss"], both["indexer_share"]) == ("0,2", 0.0, 1.0)
    one = found["schedules"].filter(indexers=1, method="exact").row(0, named=True)
    assert one["loss"] == pytest.approx(0.4 / 4)
    assert found["metrics"]["layer"].to_list() == [None, 2, None, 2]


def test_samples_without_a_query_in_effect_count_for_nothing() -> None:
    _, _, frame = random_table(samples=9)
    silent = table(np.full((1, 5, 5), 0.9), [0.0]).with_columns(sample=pl.lit(99, pl.Int32))
    with_silent = layer_sharing.run({"layer_sharing": pl.concat([frame, silent])}, SETTINGS)
    without = layer_sharing.run({"layer_sharing": frame}, SETTINGS)
    pairs = ["layer", "source", "loss", "overlap", "n"]
    assert_frame_equal(with_silent["similarity"].select(pairs), without["similarity"].select(pairs))
    lonely = layer_sharing.run({"layer_sharing": silent}, SETTINGS)
    assert all(part.is_empty() for part in lonely.values())


class Halved(Mapping[str, pl.DataFrame]):
    """The same table in two shards."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame

    def shards(self, tables: Sequence[str]) -> Iterator[Mapping[str, pl.DataFrame]]:
        yield {"layer_sharing": self.frame.filter(pl.col("sample") % 3 != 1)}
        yield {}
        yield {"layer_sharing": self.frame.filter(pl.col("sample") % 3 == 1)}

    def __getitem__(self, name: str) -> pl.DataFrame:
        raise AssertionError("the table was read whole")

    def __iter__(self) -> Iterator[str]:
        return iter(("layer_sharing",))

    def __len__(self) -> int:
        return 1


def test_shards_and_the_order_of_rows_change_nothing() -> None:
    _, _, frame = random_table()
    whole = layer_sharing.run({"layer_sharing": frame}, SETTINGS)
    halved = Halved(frame)
    assert isinstance(halved, Sharded)
    for other in (
        layer_sharing.run(halved, SETTINGS),
        layer_sharing.run(shuffled({"layer_sharing": frame}, 1), SETTINGS),
    ):
        for name, expected in whole.items():
            assert_frame_equal(other[name], expected, abs_tol=1e-12)


def test_models_without_a_probe_or_indexer_give_empty_frames_of_the_right_shape() -> None:
    schemas = {
        "similarity": SIMILARITY.schema,
        "schedules": SCHEDULES.schema,
        "metrics": METRICS.schema,
        "per_sample": PER_SAMPLE.schema,
    }
    for features in ({}, {"layer_sharing": LAYER_SHARING.empty()}):
        found = layer_sharing.run(features, SETTINGS)
        assert {name: dict(frame.schema) for name, frame in found.items()} == schemas
        assert all(frame.is_empty() for frame in found.values())
