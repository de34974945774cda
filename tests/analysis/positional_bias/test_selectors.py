"""Claims about selectors whose bias is known: a random one has none, a planted one is recovered exactly."""

from __future__ import annotations

from functools import cache

import numpy as np
import polars as pl
import pytest

from indexscope.analysis.positional_bias import PositionalBiasSettings
from indexscope.analysis.positional_bias import run as positional_bias
from indexscope.analysis.positional_bias.bias import CAP
from indexscope.analysis.positional_bias.chance import eligible_counts, floor
from indexscope.analysis.positional_bias.lift import poisson_interval
from tests.analysis.positional_bias.selectors import at_random, first, nearest, table

SETTINGS = PositionalBiasSettings(resamples=200)
REPEATS = 12
FAR_AND_OLDEST = (pl.col("distance") > 5) & (pl.col("relative") == 0)
# Length and k: hardly any query, few keys, k close to n, one key, the usual.
CASES = [
    (3, 1), (4, 3), (8, 1), (8, 7), (20, 2), (20, 10), (20, 19), (60, 1), (60, 8), (60, 50), (60, 59), (200, 16),
    (200, 190),
]  # fmt: skip


def overall(result: dict[str, pl.DataFrame]) -> dict[str, float]:
    rows = result["metrics"].filter(pl.col("layer").is_null())
    return dict(rows.select("metric", "value").iter_rows())


@cache
def at_chance(length: int, k: int) -> tuple[list[bool], list[dict[str, float]]]:
    """Whether each band of a random selector covers 1, and its metrics, over repetitions of ten samples."""
    covers: list[bool] = []
    metrics = []
    for seed in range(REPEATS):
        result = positional_bias.run({"positions": table(at_random, [length] * 10, k, seed)}, SETTINGS)
        bands = result["lift"].filter(pl.col("layer").is_null() & pl.col("ci_low").is_not_null())
        covers += ((bands["ci_low"] <= 1 + 1e-9) & (bands["ci_high"] >= 1 - 1e-9)).to_list()
        metrics.append(overall(result))
    return covers, metrics


@pytest.mark.parametrize(("length", "k"), CASES)
def test_random_selector_has_no_positional_bias_at_any_k_and_length(length: int, k: int) -> None:
    """Its bias is the floor, its lifts are 1, and its bands cover 1 at about the nominal rate of 95 %."""
    covers, metrics = at_chance(length, k)
    assert np.mean(covers) > 0.95 - 4 * np.sqrt(0.05 * 0.95 / len(covers))
    bias = np.array([row["positional_bias"] for row in metrics])
    expected = np.array([row["positional_bias_floor"] for row in metrics])
    noise = bias.std(ddof=1) / np.sqrt(REPEATS)
    assert abs(bias.mean() - expected.mean()) < 3.5 * noise + 0.02 * expected.mean()
    assert np.mean([row["recency_lift"] for row in metrics]) == pytest.approx(1.0, abs=0.1)


def test_bands_of_random_selectors_cover_one_at_the_nominal_rate() -> None:
    covers = [one for case in CASES for one in at_chance(*case)[0]]
    assert 0.93 < np.mean(covers) < 0.99


def test_samples_of_any_lengths_are_at_the_floor_too() -> None:
    lengths = np.random.default_rng(0).integers(5, 120, 10).tolist()
    found = [
        overall(positional_bias.run({"positions": table(at_random, lengths, 4, seed)}, SETTINGS)) for seed in range(30)
    ]
    bias = np.array([row["positional_bias"] for row in found])
    expected = np.mean([row["positional_bias_floor"] for row in found])
    assert abs(bias.mean() - expected) < 4 * bias.std(ddof=1) / np.sqrt(30)


@pytest.mark.parametrize(("selector", "name"), [(nearest, "recent"), (first, "oldest")])
@pytest.mark.parametrize(("length", "k"), [(9, 8), (40, 3), (150, 40), (150, 1), (150, 140)])
def test_a_window_and_a_sink_are_recovered_exactly(selector: object, name: str, length: int, k: int) -> None:
    """The bias by its definition, from counts of a loop over queries and the closed form of chance."""
    result = positional_bias.run({"positions": table(selector, [length] * 3, k)}, SETTINGS)  # type: ignore[arg-type]
    found = overall(result)
    # By distance bin, those of the oldest tenth beyond distance 32 apart.
    chosen, chance = np.zeros((12, 2)), np.zeros((12, 2))
    for t in range(k, length):
        for s in range(t + 1):
            place = int(t - s).bit_length(), int(t - s >= 32 and 10 * s // (t + 1) == 0)
            chance[place] += k / (t + 1)
            chosen[place] += t - s < k if name == "recent" else s < k
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.nan_to_num(chance * np.minimum(np.abs(np.log2(chosen / chance)), CAP) / chance.sum())
    parts = {"recency_bias": terms[:6], "oldest_bias": terms[6:, 1], "other_bias": terms[6:, 0]}
    for part, own in {"positional_bias": terms, **parts}.items():
        assert found[part] == pytest.approx(own.sum(), rel=1e-9, abs=1e-12), part
    assert found["recency_lift"] == pytest.approx(chosen[:6].sum() / chance[:6].sum())
    tenth = [(k * -(-n // 10) / n, min(k, -(-n // 10))) for n in range(k + 1, length + 1)]
    if name == "oldest":
        assert found["oldest_lift"] == pytest.approx(sum(hit for _, hit in tenth) / sum(even for even, _ in tenth))


@pytest.mark.parametrize("distance", [0, 1, 5, 33, 100])
def test_a_single_distance_is_recovered_exactly(distance: int) -> None:
    """Its bin has lift queries / expected, all others are never selected."""
    length = 160

    def selector(random, t, s, k):  # type: ignore[no-untyped-def]
        return np.where(t >= distance, t - s == distance, t == s)

    result = positional_bias.run({"positions": table(selector, [length] * 3, 1)}, SETTINGS)
    lift = result["lift"].filter(pl.col("layer").is_null() & (pl.col("axis") == "distance"))
    own, before = int(distance).bit_length(), max(distance - 1, 0)  # queries that see too little take themselves
    chance = {
        b: sum(sum(int(d).bit_length() == b for d in range(n)) / n for n in range(2, length + 1)) for b in range(9)
    }
    chosen = {b: 0 for b in chance} | ({0: before} if distance else {}) | {own: length - 1 - before}
    for row in lift.iter_rows(named=True):
        assert row["lift"] == pytest.approx(chosen[row["bin"]] / chance[row["bin"]])


def test_a_selection_that_follows_the_attention_exceeds_it_by_nothing() -> None:
    """Attention spread evenly over the selected keys has the same lift, and so the same bias."""
    positions = table(nearest, [60, 90, 41], 8, attention=lambda t, s: (t - s < 8) * 1.0)
    found = overall(positional_bias.run({"positions": positions}, SETTINGS))
    assert found["excess_bias"] == pytest.approx(0.0, abs=1e-9)
    assert found["attention_positional_bias"] == pytest.approx(found["positional_bias"])
    assert found["attention_recency_lift"] == pytest.approx(found["recency_lift"])
    assert found["attention_oldest_lift"] == pytest.approx(found["oldest_lift"])


def test_a_selection_without_bias_differs_from_a_local_attention_by_the_attention_s_bias() -> None:
    """log2(1 / lift of the attention) = -log2(lift of the attention), weighed by the same expectation."""
    decay = np.array([0.9])
    positions = table(at_random, [90] * 4, 8, attention=lambda t, s: decay ** np.maximum(t - s, 0))
    positions = positions.with_columns(selections=pl.col("expected_selections"))
    found = overall(positional_bias.run({"positions": positions}, SETTINGS))
    rows = positions.group_by("distance", FAR_AND_OLDEST.alias("oldest")).sum()
    logs = np.minimum(np.abs(np.log2((rows["attention_mass"] / rows["attention_expected"]).to_numpy())), CAP)
    weights = rows["expected_selections"].to_numpy()
    assert found["excess_bias"] == pytest.approx((weights * logs).sum() / weights.sum())
    assert found["positional_bias"] == pytest.approx(0.0, abs=1e-9)


def times(factor: pl.Expr) -> tuple[dict[str, float], pl.DataFrame]:
    """Metrics of a selector that takes each key so many times as often as by chance, and what chance gives."""
    even = table(at_random, [400] * 3, 40).with_columns(selections=pl.col("expected_selections") * factor)
    return overall(positional_bias.run({"positions": even}, SETTINGS)), even


def expected_of(even: pl.DataFrame, among: pl.Expr) -> float:
    return float(even.filter(among)["expected_selections"].sum() / even["expected_selections"].sum())


def test_the_parts_of_the_bias_are_those_of_the_keys_they_name() -> None:
    near = pl.col("distance") <= 5
    found, even = times(pl.when(FAR_AND_OLDEST).then(2.0).when(near).then(0.25).otherwise(1.0))
    assert found["oldest_bias"] == pytest.approx(expected_of(even, FAR_AND_OLDEST))
    assert found["recency_bias"] == pytest.approx(2 * expected_of(even, near))
    assert found["other_bias"] == pytest.approx(0.0, abs=1e-12)
    assert found["positional_bias"] == pytest.approx(found["oldest_bias"] + found["recency_bias"])


def test_the_oldest_keys_do_not_hide_behind_others_of_the_same_distance() -> None:
    """Twice the oldest tenth, and as much less of the other keys of its distances, is no bias by distance alone."""
    bin_ = pl.col("distance") == 8
    _, even = times(pl.lit(1.0))
    old, rest = expected_of(even, bin_ & FAR_AND_OLDEST), expected_of(even, bin_ & ~FAR_AND_OLDEST)
    less = 1 - old / rest
    found, moved = times(pl.when(bin_ & FAR_AND_OLDEST).then(2.0).when(bin_).then(less).otherwise(1.0))
    by_distance = moved.group_by("distance").sum()
    assert by_distance["selections"].to_numpy() == pytest.approx(by_distance["expected_selections"].to_numpy())
    assert found["recency_bias"] == pytest.approx(0.0, abs=1e-12)
    assert found["oldest_bias"] == pytest.approx(old)
    assert found["other_bias"] == pytest.approx(-rest * np.log2(less))


def test_interval_of_a_bin_without_a_selection_is_not_certain() -> None:
    """Two keys expected, none selected in ten samples: resampling sees no scatter, the exact interval does."""
    positions = table(at_random, [60] * 10, 1, 0)
    own = pl.col("distance") == 0
    positions = positions.with_columns(
        selections=pl.when(own).then(0.0).otherwise("selections"),
        expected_selections=pl.when(own)
        .then(0.2 / pl.len().over("sample", "distance"))
        .otherwise("expected_selections"),
    )
    row = positional_bias.run({"positions": positions}, SETTINGS)["lift"].row(0, named=True)
    assert (row["lift"], row["ci_low"]) == (0.0, 0.0)
    assert row["ci_high"] == pytest.approx(-np.log(0.025) / 2)


def test_exact_interval_of_a_count_is_garwoods() -> None:
    low, high = poisson_interval(np.array([0.0, 5.0]), 0.95)
    assert low == pytest.approx([0.0, 1.6235], abs=1e-4)
    assert high == pytest.approx([3.6889, 11.6683], abs=1e-4)


def test_floor_equals_a_simulation() -> None:
    """Hypergeometric draws of three bins, small counts and large ones."""
    random = np.random.default_rng(0)
    for queries, n, k in ((4, 10, 3), (400, 50, 20), (30, 12, 11)):
        keys = np.array([1, 3, n - 4])
        drawn = random.multivariate_hypergeometric(keys, k, size=(4000, queries)).sum(axis=1)
        even = queries * k * keys / n
        with np.errstate(divide="ignore"):
            heights = np.minimum(np.abs(np.log2(drawn / even)), CAP)
        simulated = (heights * even).sum(axis=1) / even.sum()
        variance = queries * k * keys / n * (1 - keys / n) * (n - k) / (n - 1)
        assert floor(even, variance, CAP) == pytest.approx(simulated.mean(), rel=0.1), (queries, n, k)


@pytest.mark.parametrize("step", [1, 3, 8])
def test_eligible_keys_are_found_again_from_the_sum_of_their_inverses(step: int) -> None:
    n = 9 + step * np.arange(50)
    assert eligible_counts(50, 8.0, float((1 / n).sum())) == pytest.approx(n, abs=1)
