from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from scipy.special import comb

from indexscope import IndexscopeError
from indexscope.analysis.closeup.classes import CLASSES
from indexscope.analysis.comparison.gates import evaluate
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.selection_changes import pairs as pairs_module
from indexscope.analysis.selection_changes.run import run
from indexscope.analysis.selection_changes.sums import jaccard_by_chance
from indexscope.analysis.settings import ComparisonSettings
from tests.analysis.selection_changes.made import Selected, attended, names, selections, token_kinds

SETTINGS = ComparisonSettings(resamples=100)
Frames = dict[str, pl.DataFrame]


def of(table: pl.DataFrame, metric: str, layer: int | None = None) -> float:
    rows = table.filter((pl.col("metric") == metric) & pl.col("layer").eq_missing(layer))
    assert rows.height == 1, f"{metric} has {rows.height} rows"
    return float(rows["value"][0])


def changed(before: Frames, after: Frames) -> Frames:
    return run({"base": before, "light": after}, "base", SETTINGS)


# Positions 3, 7 and 15 stand for 4, 4 and 8 queries. At 3 nothing is left out.
BEFORE: Selected = {
    (0, 1, 0, 3): [0, 1, 2, 3],
    (0, 1, 0, 7): [0, 1, 6, 7],
    (0, 1, 0, 15): [0, 8, 14, 15],
}
AFTER: Selected = {
    (0, 1, 0, 3): [0, 1, 2, 3],
    (0, 1, 0, 7): [0, 5, 6, 7],
    (0, 1, 0, 15): [13, 14, 15],
}
STANDS = {3: 4, 7: 4, 15: 8}
BASE, LIGHT = selections(BEFORE, weights=STANDS), selections(AFTER, weights=STANDS)


def test_two_selections_with_known_differences_give_exact_numbers() -> None:
    found = changed({"selections": BASE}, {"selections": LIGHT})["metrics"]
    # At 7 three of 5 keys are shared, at 15 two of 5; they weigh 4 and 8.
    assert of(found, "selection_overlap_with_baseline") == pytest.approx((4 * 3 / 5 + 8 * 2 / 5) / 12)
    assert of(found, "selection_kept") == pytest.approx((4 * 3 / 4 + 8 * 2 / 4) / 12)
    assert of(found, "selection_added") == pytest.approx((4 * 1 / 4 + 8 * 1 / 3) / 12)
    assert of(found, "selection_kept", 1) == of(found, "selection_kept")
    assert found.filter(pl.col("metric").str.contains("mass")).is_empty(), "without attention nothing is said of it"
    assert found["n"].unique().to_list() == [1] and found["ci_low"].is_null().all()


def test_what_was_dropped_and_added_is_counted_by_distance_and_place() -> None:
    by = changed({"selections": BASE}, {"selections": LIGHT})["selection_changes_by"]
    rows = by.filter(pl.col("layer").is_null() & (pl.col("axis") == "distance"))
    assert rows["label"].to_list() == ["0", "1", "2-3", "4-7", "8-15"]
    # At 7: 0, 6, 7 kept (distances 7, 1, 0), 1 dropped (6), 5 added (2). At 15: 14, 15 kept, 0 and 8 dropped (15, 7),
    # 13 added (2).
    assert rows["kept"].to_list() == [12, 12, 0, 4, 0]
    assert rows["dropped"].to_list() == [0, 0, 0, 4 + 8, 8]
    assert rows["added"].to_list() == [0, 0, 4 + 8, 0, 0]
    assert rows["eligible"].to_list() == [12, 12, 24, 48, 64]
    assert rows["dropped_share"].to_list() == pytest.approx([0, 0, 0, 12 / 20, 8 / 20])
    # At 7 each of the four keys is dropped with 1 / 4, at 15 with 2 / 4.
    assert rows["dropped_expected"].to_list() == pytest.approx([1 + 4, 1 + 4, 0, 2 + 4, 4])
    assert rows["dropped_lift"].to_list() == [0, 0, None, 2, 2]
    # Of the keys that the baseline leaves out, 1 of 4 is added at 7 and 1 of 12 at 15; two each are 2 or 3 tokens back.
    assert rows["added_expected"][2] == pytest.approx(4 * 2 / 4 + 8 * 2 / 12) and rows["added_share"][2] == 1.0
    assert rows["added_expected"].sum() == pytest.approx(4 + 8) and rows["added_lift"][2] == pytest.approx(3.6)
    tenths = by.filter(pl.col("layer").is_null() & (pl.col("axis") == "relative"))
    assert tenths["eligible"].sum() == rows["eligible"].sum() == 4 * 8 + 8 * 16
    # At 7 key 1 is rank 1 of 8, the second tenth; at 15 keys 0 and 8 are in tenths 0 and 5.
    assert dict(tenths.filter(pl.col("dropped") > 0).select("label", "dropped").iter_rows()) == {
        "0-10 %": 8,
        "10-20 %": 4,
        "50-60 %": 8,
    }
    layer = by.filter((pl.col("layer") == 1) & (pl.col("axis") == "distance"))
    assert_frame_equal(
        layer.select("bin", "kept", "dropped", "added", "added_lift"),
        rows.select("bin", "kept", "dropped", "added", "added_lift"),
    )


def test_where_it_changed_is_told_by_layer_and_position() -> None:
    where = changed({"selections": BASE}, {"selections": LIGHT})["selection_changes_where"]
    cells = {(row["layer"], row["bucket"]): row for row in where.iter_rows(named=True)}
    assert list(cells) == [(None, 3), (None, 4), (1, 3), (1, 4)]
    assert cells[1, 3]["overlap"] == pytest.approx(3 / 5) and cells[None, 4]["overlap"] == pytest.approx(2 / 5)
    assert cells[1, 4]["queries"] == 8 and cells[1, 4]["kept"] == pytest.approx(1 / 2)


ATTENTION = {
    (0, 1, 7): np.array([0.25, 0.125, 0, 0, 0, 0.0625, 0.0625, 0.5]),
    (0, 1, 15): np.array([0.5, *[0.0] * 7, 0.125, *[0.0] * 4, 0.03125, 0.09375, 0.25]),
}


def test_lost_attention_is_that_of_dropped_keys_less_that_of_added_ones() -> None:
    before = {"selections": BASE, "attended": attended(BEFORE, ATTENTION, 16, STANDS)}
    found = changed(before, {"selections": LIGHT})
    dropped = (4 * 0.125 + 8 * (0.5 + 0.125)) / 12
    added = (4 * 0.0625 + 8 * 0.03125) / 12
    table = found["metrics"]
    assert of(table, "selection_mass_dropped") == pytest.approx(dropped)
    assert of(table, "selection_mass_added") == pytest.approx(added)
    assert of(table, "selection_mass_lost") == pytest.approx(dropped - added)
    assert of(table, "selection_mass_estimated") == 0.0
    assert "selection_mass_lost_own" not in table["metric"].to_list()
    by = found["selection_changes_by"].filter(pl.col("layer").is_null() & (pl.col("axis") == "distance"))
    assert by["mass_dropped"].sum() == pytest.approx(dropped) and by["mass_added"].sum() == pytest.approx(added)
    own = changed({"selections": LIGHT}, {**before, "selections": BASE})["metrics"]
    assert of(own, "selection_mass_lost_own") == pytest.approx(added - dropped)


def test_attention_of_fewer_queries_than_have_selections_is_weighted_by_what_those_stand_for() -> None:
    stored = attended(BEFORE, ATTENTION, 16, {7: 8, 15: 8})
    table = changed({"selections": BASE, "attended": stored}, {"selections": LIGHT})["metrics"]
    assert of(table, "selection_mass_dropped") == pytest.approx((8 * 0.125 + 8 * (0.5 + 0.125)) / 16)
    assert of(table, "selection_kept") == pytest.approx((4 * 3 / 4 + 8 * 2 / 4) / 12), "the others are not touched"


def test_attention_on_keys_that_are_not_stored_is_shared_evenly_and_said_to_be_estimated() -> None:
    stored = attended(BEFORE, {(0, 1, 15): ATTENTION[0, 1, 15]}, 2)
    before = {"selections": BASE, "attended": stored}
    table = changed(before, {"selections": LIGHT})["metrics"]
    # Keys 0 and 15 are stored. 8 and 14, selected, share 0.125 + 0.09375; the other 12 keys share 0.03125.
    assert of(table, "selection_mass_dropped") == pytest.approx(0.5 + 0.21875 / 2)
    assert of(table, "selection_mass_added") == pytest.approx(0.03125 / 12)
    assert of(table, "selection_mass_estimated") == pytest.approx(0.21875 / 2 + 0.03125 / 12)


def test_kinds_of_keys_come_with_what_is_eligible() -> None:
    # Ids 0 and 1 are digits, id 2 is punctuation; the text repeats with period 3.
    ids = [0, 1, 2] * 5 + [0]
    classes = [CLASSES.index("digit"), CLASSES.index("digit"), CLASSES.index("punctuation")]
    before = {"selections": BASE, "token_kinds": token_kinds({0: ids}, classes)}
    by = changed(before, {"selections": LIGHT})["selection_changes_by"].filter(pl.col("layer").is_null())
    rows = {row["label"]: row for row in by.filter(pl.col("axis") == "kind").iter_rows(named=True)}
    assert set(rows) == {"digit", "punctuation", "induction", "repeated", "first occurrence"}
    # At 7 (id 1): 1 (digit, repeated, first) dropped, 5 (punctuation, follows id 1: induction) added.
    # At 15 (id 0): 0 (digit, repeated, first) and 8 (punctuation) dropped, 13 (digit, follows id 0: induction) added.
    assert rows["punctuation"]["dropped"] == 8 and rows["digit"]["dropped"] == 4 + 8
    assert rows["punctuation"]["added"] == 4 and rows["digit"]["added"] == 8
    assert rows["induction"]["added"] == 4 + 8 and rows["induction"]["dropped"] == 0
    assert rows["repeated"]["dropped"] == 4 + 8 and rows["first occurrence"]["dropped"] == 4 + 8
    assert rows["digit"]["eligible"] == 4 * 6 + 8 * 11 and rows["punctuation"]["eligible"] == 4 * 2 + 8 * 5
    assert rows["induction"]["eligible"] == 4 * 2 + 8 * 5, "keys after an earlier copy: 2, 5 and 1, 4, 7, 10, 13"
    assert rows["repeated"]["eligible"] == 4 * 2 + 8 * 5 and rows["first occurrence"]["eligible"] == 12 * 3
    assert rows["induction"]["added_share"] == 1.0, "shares of relations are of all keys, they overlap with classes"
    # The baseline selects none of these; it leaves out 4 keys at 7 and 12 at 15, of which the candidate adds one each.
    assert rows["induction"]["added_expected"] == pytest.approx(4 * 2 / 4 + 8 * 5 / 12)


def test_without_a_tokenizer_relations_remain() -> None:
    before = {"selections": BASE, "token_kinds": token_kinds({0: [5] * 16}, None)}
    by = changed(before, {"selections": LIGHT})["selection_changes_by"]
    kinds = by.filter((pl.col("axis") == "kind") & pl.col("layer").is_null())
    assert kinds["label"].to_list() == ["induction", "repeated", "first occurrence"]


def drawn(random: np.random.Generator, samples: int, length: int, k: int, layers: Sequence[int] = (0, 2)) -> Selected:
    """Random selections at every 16th part of the length."""
    return {
        (sample, layer, 0, query): random.choice(query + 1, min(k, query + 1), replace=False).tolist()
        for sample in range(samples)
        for layer in layers
        for query in range(length // 16 - 1, length, length // 16)
    }


def test_identical_models_overlap_wholly_and_change_nothing() -> None:
    random = np.random.default_rng(1)
    chosen = drawn(random, 9, 128, 8)
    mass = {(s, layer, q): random.dirichlet(np.ones(q + 1)) for s, layer, _, q in chosen}
    frames = {
        "selections": selections(chosen),
        "attended": attended(chosen, mass, 20),
        "token_kinds": token_kinds({0: [1, 2] * 64}, None),
        "samples": names(range(9)),
    }
    found = changed(frames, frames)
    exact = {"selection_overlap_with_baseline": 1.0, "selection_kept": 1.0}
    for row in found["metrics"].iter_rows(named=True):
        if row["metric"] != "selection_overlap_by_chance":
            expected = exact.get(row["metric"], 0.0)
            assert (row["value"], row["ci_low"], row["ci_high"]) == (expected,) * 3
    by = found["selection_changes_by"]
    assert (by["dropped"].sum(), by["added"].sum(), by["mass_dropped"].sum()) == (0, 0, 0)
    assert by["dropped_lift"].is_null().all() and by["kept"].sum() > 0
    assert (found["selection_changes_where"]["overlap"] == 1).all()
    worst = found["selection_changes_worst"]
    assert worst.height == 18 and (worst["overlap"] == 1).all() and worst["name"][0] == "text 0"


def test_a_random_candidate_overlaps_as_chance_has_it_and_prefers_nothing() -> None:
    random = np.random.default_rng(2)
    samples, length, k = 60, 256, 12
    found = changed(
        {"selections": selections(drawn(random, samples, length, k))},
        {"selections": selections(drawn(random, samples, length, k))},
    )
    # E over X ~ hypergeometric(n, k, k) of X / (2k - X), from the counts of ways alone.
    jaccards = []
    for n in range(16, length + 1, 16):
        ways = [comb(k, x, exact=True) * comb(n - k, k - x, exact=True) for x in range(k + 1)]
        jaccards.append(sum(way * x / (2 * k - x) for x, way in enumerate(ways)) / sum(ways))
    expected = np.mean(jaccards)
    table = found["metrics"]
    row = table.row(
        by_predicate=(pl.col("metric") == "selection_overlap_with_baseline") & pl.col("layer").is_null(), named=True
    )
    assert of(table, "selection_overlap_by_chance") == pytest.approx(expected)
    # Standard error of the mean over samples is a fourth of the interval's width.
    assert abs(row["value"] - expected) < (row["ci_high"] - row["ci_low"])
    assert row["ci_high"] - row["ci_low"] < 0.01
    by = found["selection_changes_by"].filter(pl.col("layer").is_null() & (pl.col("eligible") > 1250))
    covered = 0
    for name in ("dropped", "added"):
        covered += ((by[f"{name}_ci_low"] <= 1) & (by[f"{name}_ci_high"] >= 1)).sum()
        assert by[f"{name}_lift"].to_list() == pytest.approx([1.0] * by.height, abs=0.15)
    assert covered >= 0.8 * 2 * by.height


@given(n=st.integers(1, 40), data=st.data())
@hypothesis_settings(max_examples=40, deadline=None)
def test_chance_is_the_mean_over_all_selections(n: int, data: st.DataObject) -> None:
    before, after = data.draw(st.integers(0, n)), data.draw(st.integers(0, n))
    found = float(jaccard_by_chance(np.array([n]), np.array([before]), np.array([after]))[0])
    if before + after == 0:
        assert np.isnan(found)
        return
    ways = {x: comb(before, x, exact=True) * comb(n - before, after - x, exact=True) for x in range(after + 1)}
    mean = sum(way * x / (before + after - x) for x, way in ways.items() if way) / comb(n, after, exact=True)
    assert found == pytest.approx(mean)


@dataclass(frozen=True)
class Gate:
    name: str
    rule: str


class Split(dict[str, pl.DataFrame]):
    """Tables in shards of a few samples."""

    def shards(self, tables: Sequence[str]) -> Iterator[Mapping[str, pl.DataFrame]]:
        for first in range(0, 7, 2):
            yield {name: self[name].filter(pl.col("sample").is_between(first, first + 1)) for name in tables}


def test_shards_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    first, second = (drawn(random, 7, 64, k) for k in (8, 6))
    mass = {(s, layer, q): random.dirichlet(np.ones(q + 1)) for s, layer, _, q in first if s < 3}
    one = {"selections": selections(first), "attended": attended(first, mass, 9), "samples": names(range(7))}
    one["token_kinds"] = token_kinds({s: random.integers(0, 9, 64).tolist() for s in range(3)}, list(range(6)) * 2)
    other = {"selections": selections(second)}
    whole = changed(one, other)
    monkeypatch.setattr(pairs_module, "KEYS_AT_ONCE", 500)
    split = changed(Split(one), Split(other))
    for name, table in whole.items():
        assert table.height and table.null_count().sum_horizontal()[0] < table.height * table.width
        assert_frame_equal(split[name], table, abs_tol=1e-12)


def test_groups_of_a_layer_share_the_weight_of_a_query() -> None:
    one = {(0, 0, group, 9): keys for group, keys in enumerate(([0, 1], [0, 1], [0, 1], [0, 1]))} | {
        (0, 1, 0, 9): [5, 9]
    }
    other = one | {(0, 0, 3, 9): [2, 3]}
    found = changed({"selections": selections(one)}, {"selections": selections(other)})["metrics"]
    assert of(found, "selection_kept", 0) == pytest.approx(3 / 4) and of(found, "selection_kept") == pytest.approx(
        7 / 8
    )


def test_worst_samples_are_listed_from_the_worst_on() -> None:
    random = np.random.default_rng(4)
    first = drawn(random, 14, 64, 4)
    second = {cell: keys if cell[0] % 5 else keys[: 1 + cell[1]] for cell, keys in first.items()}
    mass = {(s, layer, q): np.full(q + 1, 1 / (q + 1)) for s, layer, _, q in first if s in (1, 5)}
    one = {"selections": selections(first), "attended": attended(first, mass, 64), "samples": names(range(14))}
    one["examples"] = pl.DataFrame({"sample": [5, 9]})
    worst = changed(one, {"selections": selections(second)})["selection_changes_worst"]
    overlap, lost = (worst.filter(pl.col("by") == by) for by in ("overlap", "mass_lost"))
    assert overlap["sample"].to_list() == [0, 5, 10, 1, 2, 3, 4, 6, 7, 8], "equal ones by sample, ten at most"
    assert overlap["layer"][:3].to_list() == [0, 0, 0] and overlap["layer_overlap"][0] == pytest.approx(1 / 4)
    assert overlap["overlap"][0] == pytest.approx((1 / 4 + 3 / 4) / 2) and overlap["name"][1] == "text 5"
    assert lost["sample"].to_list() == [5, 1] and lost["rank"].to_list() == [1, 2]
    assert overlap["excerpt"][:3].to_list() == [False, True, False]


@pytest.mark.parametrize(
    "after",
    [
        selections({}),
        selections({(0, 3, 0, 15): [1]}),
        selections(AFTER, unit="entry", weights=STANDS),
        selections({cell: [0] for cell in BEFORE}, eligible=2),
    ],
    ids=["selects nothing", "other layers", "other entries", "another window"],
)
def test_what_cannot_be_compared_is_left_out(after: pl.DataFrame) -> None:
    found = changed({"selections": BASE}, {"selections": after})
    assert all(table.is_empty() for table in found.values())
    assert all(table.is_empty() for table in changed({"selections": BASE}, {}).values())


def test_queries_of_one_model_only_are_refused_by_name() -> None:
    later = {(0, 1, 0, 14): [0, 1], **{cell: keys for cell, keys in AFTER.items() if cell[3] < 15}}
    with pytest.raises(
        IndexscopeError, match=r"selections of light against base: .* stored for one model only"
    ) as caught:
        changed({"selections": BASE}, {"selections": selections(later)})
    assert "\n" not in str(caught.value)


def test_its_rows_are_metrics_of_the_candidate_that_gates_can_name() -> None:
    table = changed({"selections": BASE}, {"selections": LIGHT})["metrics"]
    metrics = table.rename({"candidate": "model"})
    assert metrics["model"].unique().to_list() == ["light"]
    comparisons = pl.DataFrame({"candidate": ["light"]})
    gates = [Gate("kept", "selection_kept >= 0.58"), Gate("more", "selection_kept.value > 0.59")]
    judged = evaluate(gates, comparisons, metrics)
    assert judged["value"].to_list() == pytest.approx([7 / 12, 7 / 12]) and judged["passed"].to_list() == [True, False]
    with pytest.raises(IndexscopeError, match=r"compares with the baseline by itself"):
        evaluate([Gate("drop", "selection_kept.difference >= 0")], comparisons, metrics)
    assert all(
        REGISTRY[name].paired and REGISTRY[name].unit == unit
        for name, unit in metrics.select("metric", "unit").iter_rows()
    )
