"""Claims about what is said of single indexer heads."""

from __future__ import annotations

import datasketches
import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from transformers import DeepseekV32ForCausalLM

from indexscope.analysis.capture import CapturedModel
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.closeup.collect import CloseupSample, Tables
from indexscope.analysis.closeup.looking import collect_samples
from indexscope.analysis.closeup.rows import CloseupRows
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.features.extract import extract_samples
from indexscope.analysis.indexer_heads.collect import head_collector, pruning_collector
from indexscope.analysis.indexer_heads.tables import HEADS, PAIRS, POSITIONS, SCORES
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.samples import Sample
from tests.analysis.capture.tiny_families import FAMILIES
from tests.analysis.closeup.head_rows import Array, chances, closeup_rows, collected, only, random_rows, reference


def tokens(seed: int, length: int, vocabulary: int = 6) -> torch.Tensor:
    return torch.randint(vocabulary, (length,), generator=torch.Generator().manual_seed(seed))


def roles(length: int = 64, queries: tuple[int, ...] = (31, 47, 63)) -> tuple[CloseupRows, torch.Tensor]:
    """Head 0 scores the previous token, 1 the sinks, 2 duplicates 0, 3 scores nothing, 4 induction, 5 everything."""
    ids = tokens(0, length)
    relu = np.zeros((len(queries), 6, length))
    for q, t in enumerate(queries):
        relu[q, 0, t - 1] = relu[q, 2, t - 1] = 2.0
        relu[q, 1, :4] = (1.0, 0.9, 0.8, 0.7)
        relu[q, 4, [s for s in range(1, t + 1) if ids[s - 1] == ids[t]]] = 0.1
        relu[q, 5, : t + 1] = 0.5
    return closeup_rows(relu, queries, k=5, weights=np.tile([1.0, 1.0, 0.5, 1.0, 1.0, 1.0], (len(queries), 1))), ids


@pytest.fixture(scope="module")
def planted() -> Tables:
    rows, ids = roles()
    return collected(head_collector(), [[rows]], ids)


@pytest.mark.parametrize(("head", "role"), [(0, "previous"), (1, "sink"), (2, "previous"), (4, "induction")])
def test_a_head_with_a_role_has_all_its_score_there(planted: Tables, head: int, role: str) -> None:
    assert only(planted["indexer_heads"], indexer_head=head)[role] == pytest.approx(1.0)


def test_a_head_that_scores_all_keys_alike_looks_where_uniform_scoring_would(planted: Tables) -> None:
    row = only(planted["indexer_heads"], indexer_head=5)
    for name in ("mean_distance", "local", "sink", "self", "previous", "induction"):
        assert row[name] == pytest.approx(row[f"uniform_{name}"])
    assert row["uniform_previous"] == pytest.approx(np.mean([1 / 32, 1 / 48, 1 / 64]))


def test_a_head_that_scores_nothing_is_no_better_than_chance_and_costs_nothing_to_remove(planted: Tables) -> None:
    row = only(planted["indexer_heads"], indexer_head=3)
    assert row["active_share"] == 0.0
    assert row["contribution"] == 0.0
    assert row["focus_weight"] == 0.0
    assert row["previous"] is None
    assert row["own_overlap"] == pytest.approx(row["random_overlap"])
    assert row["own_recall"] == pytest.approx(row["random_recall"])
    assert row["recall_without"] == row["recall_with"]
    assert row["kept_without"] == row["kept"]


def test_a_duplicate_has_cosine_one_whatever_its_weight(planted: Tables) -> None:
    pairs = planted["indexer_head_pairs"]
    twins = only(pairs, head_a=0, head_b=2)
    assert twins["cosine"] == pytest.approx(1.0)
    assert twins["correlation"] == pytest.approx(1.0)
    assert only(pairs, head_a=0, head_b=1)["cosine"] == pytest.approx(0.0)
    silent = only(pairs, head_a=1, head_b=3)
    assert silent["cosine"] is None
    assert silent["cosine_weight"] == 0.0
    # A head that scores all keys alike has a cosine with others, but correlates with nothing.
    assert only(pairs, head_a=0, head_b=5)["correlation"] is None


def test_the_chances_of_tied_keys_are_those_of_drawing_among_them() -> None:
    assert chances([3.0, 1.0, 0.0, 0.0, 0.0], 3) == pytest.approx([1, 1, 1 / 3, 1 / 3, 1 / 3])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sparse", [0.0, 0.6, 0.97])
def test_every_mean_equals_a_slow_reference(seed: int, sparse: float) -> None:
    rows, ids = random_rows(seed, sparse=sparse), tokens(seed, 40)
    found = collected(head_collector(), [[rows]], ids)["indexer_heads"]
    for head, expected in enumerate(reference(rows, ids.tolist())):
        row = only(found, indexer_head=head)
        for name, value in expected.items():
            assert row[name] == pytest.approx(value, abs=1e-9), name
        assert {name for name, value in row.items() if value is None}.isdisjoint(expected)


def test_heads_without_weights_count_alike() -> None:
    random = np.random.default_rng(5)
    relu, ids = random.exponential(1.0, (2, 3, 30)) * (random.random((2, 3, 30)) > 0.5), tokens(5, 30)
    bare = collected(head_collector(), [[closeup_rows(relu, (20, 29), 4)]], ids)
    ones = collected(head_collector(), [[closeup_rows(relu, (20, 29), 4, np.ones((2, 3)))]], ids)
    for name, frame in bare.items():
        assert_frame_equal(frame, ones[name])


def test_a_head_with_a_negative_weight_prefers_what_it_does_not_score() -> None:
    relu = np.zeros((1, 2, 20))
    relu[0, 0, :10], relu[0, 1] = 1.0, np.arange(20)
    rows = closeup_rows(relu, (19,), 5, np.array([[-2.0, 1.0]]))
    row = only(collected(head_collector(), [[rows]], tokens(0, 20))["indexer_heads"], indexer_head=0)
    assert (row["positive_share"], row["negative_share"]) == (0.0, 1.0)
    assert row["focus_weight"] == 0.0
    # Any 5 of the 10 keys that it leaves alone, among which are all 5 selected ones.
    assert row["own_overlap"] == pytest.approx(0.5)


def test_queries_that_select_everything_do_not_count() -> None:
    relu = np.random.default_rng(0).random((3, 2, 30))
    rows = closeup_rows(relu, (5, 15, 29), k=10, stands_for=(6.0, 10.0, 14.0))
    found = collected(head_collector(), [[rows]], tokens(0, 30))["indexer_heads"]
    assert found["queries"].to_list() == [2, 2]
    assert found["weight"].to_list() == [24.0, 24.0]


@pytest.mark.parametrize("seed", range(3))
def test_pairs_equal_a_slow_reference(seed: int) -> None:
    rows = random_rows(seed)
    assert rows.head_scores is not None and rows.head_weights is not None and rows.selected is not None
    found = collected(head_collector(), [[rows]], tokens(seed, 40))["indexer_head_pairs"]
    assert found.height == 6
    for a, b in ((0, 1), (1, 3), (2, 3)):
        values: dict[str, list[float]] = {"cosine": [], "correlation": [], "overlap": []}
        for q, t in enumerate(rows.query.tolist()):
            one, two = (rows.head_scores[q, j, : t + 1].double().numpy() for j in (a, b))
            k = int(rows.selected[q].sum())
            values["cosine"].append(float(one @ two / np.sqrt(one @ one * (two @ two))))
            values["correlation"].append(float(np.corrcoef(one, two)[0, 1]))
            w = rows.head_weights[q].double().numpy()
            x = np.dot(chances((w[a] * one).tolist(), k), chances((w[b] * two).tolist(), k))
            values["overlap"].append(float(x / (2 * k - x)))
        row = only(found, head_a=a, head_b=b)
        for name, numbers in values.items():
            assert row[name] == pytest.approx(np.average(numbers, weights=rows.weight.numpy()), abs=1e-6), name


@pytest.mark.parametrize("seed", range(3))
def test_scores_have_exact_moments_and_close_quantiles(seed: int) -> None:
    rows = random_rows(seed, heads=10, keys=300, k=40)
    assert rows.head_scores is not None and rows.head_weights is not None and rows.selected is not None
    found = collected(head_collector(), [[rows]], tokens(seed, 300))["indexer_head_scores"]
    for head in (0, 9):
        for group, wanted in (("selected", True), ("unselected", False)):
            values: list[float] = []
            for q, t in enumerate(rows.query.tolist()):
                own = (rows.head_weights[q, head] * rows.head_scores[q, head, : t + 1]).double().numpy()
                kept = own[rows.selected[q, : t + 1].numpy() == wanted]
                values += np.repeat(kept, int(rows.weight[q])).tolist()
            row = only(found, indexer_head=head, group=group)
            assert row["count"] == len(values)
            assert row["mean"] == pytest.approx(np.mean(values), abs=1e-6)
            assert row["m2"] == pytest.approx(np.var(values) * len(values), rel=1e-6)
            assert (row["minimum"], row["maximum"]) == pytest.approx((min(values), max(values)))
            assert row["zeros"] == sum(value == 0 for value in values)
            digest = datasketches.tdigest_float.deserialize(row["sketch"])
            assert digest.get_total_weight() == len(values)
            # Sampled scores are few and heavy: the 90 % quantile lies within a step of them.
            near = [np.quantile(values, level) for level in (0.84, 0.96)]
            assert near[0] * (1 - 0.01 * np.sign(near[0])) <= digest.get_quantile(0.9) <= near[1] + 0.01 * abs(near[1])


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.integers(1, 20), st.integers(24, 90))
def test_chance_is_given_as_many_selections_as_each_head_makes(seed: int, k: int, keys: int) -> None:
    rows = random_rows(seed, keys=keys, k=k, sparse=0.8)
    found = collected(head_collector(), [[rows]], tokens(seed, keys))["indexer_head_positions"]
    sums = found.group_by("indexer_head", "axis").agg(pl.col("selections", "expected_selections").sum())
    assert sums["selections"].to_numpy() == pytest.approx(sums["expected_selections"].to_numpy())
    assert sums["selections"].to_numpy() == pytest.approx(float((rows.weight * rows.k * rows.in_effect).sum()))


def test_the_previous_token_head_is_selected_there_and_its_other_picks_are_chance(planted: Tables) -> None:
    rows = planted["indexer_head_positions"]
    near = only(rows, indexer_head=0, axis="distance", bin=1)
    assert near["selections"] == pytest.approx(3.0)
    assert near["expected_selections"] == pytest.approx(5 / 32 + 5 / 48 + 5 / 64)
    far = only(rows, indexer_head=0, axis="distance", bin=4)
    # Distances 8 to 15: 4 picks among the 31, 47 and 63 keys that it does not score.
    assert far["selections"] == pytest.approx(8 * 4 * (1 / 31 + 1 / 47 + 1 / 63))


def test_chunks_add_up_to_the_whole() -> None:
    random = np.random.default_rng(3)
    relu = random.exponential(1.0, (4, 3, 50)) * (random.random((4, 3, 50)) > 0.7)
    relu[:2, :, 31:] = 0.0
    ids, queries = tokens(3, 50), (20, 30, 40, 49)
    whole = collected(head_collector(), [[closeup_rows(relu, queries, 7)]], ids)
    parts = [[closeup_rows(relu[:2, :, :31], queries[:2], 7)], [closeup_rows(relu[2:], queries[2:], 7)]]
    halves = collected(head_collector(), parts, ids)
    for name, frame in whole.items():
        if name == "indexer_head_scores":
            frame, halves[name] = frame.drop("sketch"), halves[name].drop("sketch")
        assert_frame_equal(frame, halves[name], rel_tol=1e-12)


def test_layers_without_heads_of_their_own_give_empty_tables() -> None:
    bare = CloseupRows(**{**vars(random_rows(0)), "head_scores": None})
    found = collected(head_collector(), [[bare]], tokens(0, 40))
    for name, schema in (
        ("indexer_heads", HEADS.schema),
        ("indexer_head_pairs", PAIRS.schema),
        ("indexer_head_scores", SCORES.schema),
        ("indexer_head_positions", POSITIONS.schema),
    ):
        assert found[name].is_empty()
        assert found[name].schema == pl.Schema(schema)


class _Scores:
    """Compares the sum over heads with the index scores, and keeps the tables."""

    def __init__(self, sample: CloseupSample) -> None:
        self.own = head_collector()(sample)

    def add(self, layers: list[CloseupRows]) -> None:
        for rows in layers:
            assert rows.head_scores is not None and rows.head_weights is not None and rows.scores is not None
            together = (rows.head_scores * rows.head_weights[..., None]).sum(1)
            torch.testing.assert_close(together[rows.eligible], rows.scores[rows.eligible], rtol=1e-4, atol=1e-5)
        self.own.add(layers)

    def tables(self) -> Tables:
        return self.own.tables()


def test_a_real_indexer_has_a_row_for_every_layer_and_head(dsa: DeepseekV32ForCausalLM) -> None:
    """Removing no head keeps the model's own selection, and the recall is that of the extraction."""
    samples = [Sample(i, f"s{i}", tuple(tokens(i, 60, 97).tolist())) for i in range(2)]
    extract = ExtractSettings(chunk=16)
    source = CapturedModel(dsa)
    found = collect_samples(source, samples, (_Scores,), 4096, Attempt(source, extract, Journal()))
    heads = found["indexer_heads"]
    assert heads.height == 2 * 3 * 8
    assert heads["queries"].unique().to_list() == [52]
    assert heads["kept"].min() == pytest.approx(1.0, abs=1e-6)
    assert heads["contribution"].sum() == pytest.approx(2 * 3)
    features = extract_samples(dsa, samples, extract)["indexer"].filter(pl.col("queries_in_effect") > 0)
    for (sample, layer), own in features.group_by("sample", "layer"):
        expected = np.average(own["selection_recall"].to_numpy(), weights=own["queries_in_effect"].to_numpy())
        row = only(heads, sample=sample, layer=layer, indexer_head=0)  # type: ignore[arg-type]
        assert row["recall"] == pytest.approx(expected, abs=1e-5)
        assert row["recall_with"] == pytest.approx(expected, abs=1e-5)


def random_selectors(keys: int, k: int) -> tuple[Array, Array]:
    """Selections of random heads and of chance by distance, [heads x draws, bins]."""
    random = np.random.default_rng(keys + k)
    relu = random.random((8, 60, keys))
    rows = closeup_rows(relu, tuple(range(keys - 8, keys)), k)
    found = collected(head_collector(), [[rows]], tokens(0, keys))["indexer_head_positions"]
    wide = found.filter(pl.col("axis") == "distance").pivot(
        on="bin", index="indexer_head", values=["selections", "expected_selections"]
    )
    columns = wide.columns[1:]
    half = len(columns) // 2
    return wide.select(columns[:half]).to_numpy(), wide.select(columns[half:]).to_numpy()


@pytest.mark.parametrize("keys", [32, 100, 400])
@pytest.mark.parametrize("k", [1, 4, 16])
def test_random_heads_show_no_lift_at_any_k_and_length(keys: int, k: int) -> None:
    """Over 480 random selections each bin's count is within four standard deviations of chance."""
    selections, expected = random_selectors(keys, k)
    total, chance = selections.sum(axis=0), expected.sum(axis=0)
    assert np.all(np.abs(total - chance) <= 4 * np.sqrt(chance) + 1e-9)


@pytest.mark.parametrize("family", ["glm_moe_dsa", "hy_v4", "mistral_large4", "glm5_next", "qwen4_exp", "minimax_m3"])
def test_every_family_gives_rows_where_its_heads_score_tokens(family: str) -> None:
    samples = [Sample(0, "s0", tuple(tokens(0, 48, 97).tolist()))]
    source = CapturedModel(FAMILIES[family]())
    makers = (head_collector(), pruning_collector({layer: np.arange(8) for layer in range(4)}))
    found = collect_samples(source, samples, makers, 16, Attempt(source, ExtractSettings(chunk=16), Journal()))
    pooled = family in ("glm5_next", "qwen4_exp", "minimax_m3")
    for name, frame in found.items():
        assert frame.is_empty() == pooled, name
    if not pooled:
        heads = found["indexer_heads"]
        assert (heads["kept"] <= 1 + 1e-9).all()
        assert heads["kept"].mean() == pytest.approx(1.0, abs=0.05)
