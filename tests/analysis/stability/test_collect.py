"""Claims about what ties and rounding change of a selection."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indexscope.analysis.capture import CapturedModel
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.closeup.looking import collect_samples
from indexscope.analysis.closeup.order import choice, own_priority, top
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.settings import ExtractSettings
from indexscope.analysis.stability.collect import VARIANTS, stability_collector
from indexscope.analysis.stability.rounding import ROUNDINGS, as_fp8, as_int8
from tests.analysis.closeup.made_rows import made, sample, topk
from tests.analysis.conftest import tiny_dsa
from tests.analysis.samples import samples


def stability(*layers, length: int = 16) -> dict[str, dict[str, float]]:
    """The table's rows by variant, where there is one bucket."""
    collector = stability_collector()(sample(length))
    collector.add(layers)
    table = collector.tables()["selection_stability"]
    return {row["variant"]: row for row in table.iter_rows(named=True)}


def random_choice(scores: torch.Tensor, k: int, seed: int) -> torch.Tensor:
    """One of the selections that topk may make, ties broken at random."""
    noise = torch.rand(scores.shape, generator=torch.Generator().manual_seed(seed))
    order = np.lexsort((noise.numpy(), -scores.numpy()), axis=-1)[..., :k].copy()
    return torch.zeros(scores.shape, dtype=torch.bool).scatter(-1, torch.from_numpy(order), True)


@pytest.mark.parametrize(("above", "tied", "k"), [(2, 5, 4), (0, 8, 4), (3, 2, 4), (4, 6, 4), (3, 1, 4), (1, 3, 4)])
def test_planted_ties_leave_a_known_share_open(above: int, tied: int, k: int) -> None:
    """Of m keys equal at the k-th score r are taken: the earliest and the latest choice differ in min(r, m - r)."""
    scores = torch.zeros(1, 16)
    scores[0, torch.randperm(16, generator=torch.Generator().manual_seed(1))[: above + tied]] = 1.0
    scores[0, scores[0].nonzero()[:above, 0]] = 2.0
    p = torch.rand(1, 16, generator=torch.Generator().manual_seed(2))
    p = p / p.sum()
    found = stability(made(p, scores, topk(scores, torch.tensor([15]), k)))
    # Where all of the k fall above the ties, the zeros or ones below are no matter.
    room = k - above
    members = tied if room else above
    room = room or above
    open_ = min(room, members - room)
    row = found["ties"]
    assert row["changed"] == open_ / k and row["any_changed"] == float(open_ > 0)
    assert row["near_tie"] == float(members > room)
    assert row["tie_share"] == (room / k if members > room else 0.0)
    equal = (scores[0] == (1.0 if k - above else 2.0)).nonzero()[:, 0]
    expected = p[0, equal[len(equal) - room :]].sum() - p[0, equal[:room]].sum()
    assert row["recall_change"] == pytest.approx(float(expected), abs=1e-6)
    for name in ROUNDINGS:
        assert found[name]["changed"] == 0.0


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 15), st.sampled_from(["bfloat16", "float16", "fp8", "int8"]))
def test_exact_precision_changes_nothing_however_ties_were_broken(seed: int, k: int, variant: str) -> None:
    """Scores that each format holds exactly: whole numbers, or powers of two relative to the largest."""
    random = torch.Generator().manual_seed(seed)
    scores = torch.randint(-7, 8, (3, 16), generator=random).float()
    if variant == "fp8":
        scores = torch.where(scores > 0, 2.0**scores, 0.0)
    if variant == "int8":
        scores[:, 0] = 127.0
    p = torch.rand(3, 16, generator=random)
    query = torch.tensor([15, 15, 15])
    row = stability(made(p, scores, random_choice(scores, k, seed), query))[variant]
    assert (row["changed"], row["any_changed"], row["recall_change"]) == (0.0, 0.0, 0.0)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 5))
def test_a_lost_key_is_lost_to_every_way_of_breaking_exact_ties(seed: int, k: int) -> None:
    """Brute force over all selections that topk may make of six keys."""
    random = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 3, (1, 6), generator=random).float()
    up = torch.ones(1, 6, dtype=torch.bool)
    other = torch.rand(1, 6, generator=random).argsort(-1) < k
    exact = choice(scores, up, torch.tensor([k]))
    sets = [set(keys) for keys in itertools.combinations(range(6), k)]
    best = max(sum(float(scores[0, s]) for s in keys) for keys in sets)
    valid = [keys for keys in sets if sum(float(scores[0, s]) for s in keys) == best]
    mine = set(other[0].nonzero()[:, 0].tolist())
    fewest = min(len(keys - mine) for keys in valid)
    assert int(exact.lost(other)) == fewest
    own = random_choice(scores, k, seed)
    nearest = set(exact.nearest(other, own)[0].nonzero()[:, 0].tolist())
    assert nearest in valid and len(nearest - mine) == fewest
    # With the model's own choice first, topk of the exact scores is that choice.
    assert torch.equal(top(scores, up, torch.tensor([k]), own_priority(exact, own)), own)


def test_int8_loses_exactly_the_keys_whose_margin_is_below_half_a_step() -> None:
    """Largest score 127, so that a step is 1: 9.6 and 10.4 become equal, and the earlier key wins; 9 and 10 stay."""
    close, wide, order = (torch.linspace(-20.0, -5.0, 16).flip(0) for _ in range(3))
    for row in (close, wide, order):
        row[0] = 127.0
    close[3], close[9] = 9.6, 10.4  # the k-th key comes later: lost
    wide[3], wide[9] = 9.0, 10.0  # a whole step apart: kept
    order[3], order[9] = 10.4, 9.6  # equal after rounding, but the selected key comes first: kept
    scores = torch.stack([close, wide, order])
    query = torch.tensor([15, 15, 15])
    p = torch.full((3, 16), 0.01)
    p[0, 9], p[0, 3] = 0.5, 0.2
    weight = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    row = stability(made(p, scores, topk(scores, query, 2), query, weight))["int8"]
    assert row["changed"] == pytest.approx(0.5 * 1 / 8) and row["any_changed"] == pytest.approx(1 / 8)
    assert row["recall_change"] == pytest.approx((0.2 - 0.5) / 8, abs=1e-6)
    assert row["near_tie"] == pytest.approx(6 / 8) and (row["queries"], row["weight"]) == (3, 8.0)


@pytest.mark.parametrize(
    ("variant", "gap", "changed"),
    [("bfloat16", 2**-9, 0.5), ("bfloat16", 2**-6, 0.0), ("float16", 2**-12, 0.5), ("float16", 2**-9, 0.0)],
)
def test_half_precision_loses_keys_closer_than_its_digits(variant: str, gap: float, changed: float) -> None:
    scores = torch.zeros(1, 16)
    scores[0, 5], scores[0, 2], scores[0, 9] = 3.0, 1.0, 1.0 + gap
    found = stability(made(torch.ones(1, 16), scores, topk(scores, torch.tensor([15]), 2)))
    assert found[variant]["changed"] == changed
    assert found[variant]["near_tie"] == float(changed > 0) and found["ties"]["near_tie"] == 0.0


def test_fp8_rounds_head_scores_with_a_scale_of_their_own() -> None:
    """Beside 16 of its own head a 1.06 becomes 1; a head of small scores keeps its digits."""
    up = torch.ones(1, 3, dtype=torch.bool)
    heads = torch.tensor([[[448.0, 17.0, 16.0], [0.448, 0.017, 0.016]]])
    weights = torch.tensor([[1.0, 100.0]])
    scores = (heads * weights[..., None]).sum(1)
    rounded = as_fp8(scores, up, heads, weights)
    # 17 lies between the representable 16 and 18, and falls to the even of the two.
    expected = torch.tensor([[448.0 + 44.8, 16.0 + 1.6, 16.0 + 1.6]])
    torch.testing.assert_close(rounded, expected)


def test_fp8_rounds_the_scores_themselves_where_heads_are_no_parts_of_them() -> None:
    up = torch.ones(1, 3, dtype=torch.bool)
    scores = torch.tensor([[448.0, 17.0, -30.5]])
    expected = torch.tensor([[448.0, 16.0, -30.0]])
    torch.testing.assert_close(as_fp8(scores, up, None, None), expected)
    torch.testing.assert_close(as_fp8(scores, up, torch.ones(1, 2, 3), torch.ones(1, 2)), expected)


def test_exact_head_scores_give_back_the_scores_bit_by_bit() -> None:
    heads = 2.0 ** torch.randint(0, 6, (4, 3, 10), generator=torch.Generator().manual_seed(0)).float()
    weights = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    scores = torch.einsum("qj,qjk->qk", weights, heads)
    up = torch.ones(4, 10, dtype=torch.bool)
    assert torch.equal(as_fp8(scores, up, heads, weights), scores)


def test_future_keys_never_set_the_scale() -> None:
    scores, up = torch.tensor([[1.0, 0.5, -torch.inf]]), torch.tensor([[True, True, False]])
    assert as_int8(scores, up, None, None)[0, 0] == 1.0
    heads = torch.tensor([[[1.0, 0.5, 1e6]]])
    torch.testing.assert_close(as_fp8(scores, up, heads, torch.ones(1, 1))[0, :2], scores[0, :2])


def test_queries_that_select_everything_do_not_count() -> None:
    scores = torch.zeros(1, 16)
    assert stability(made(torch.ones(1, 16), scores, torch.ones(1, 16, dtype=torch.bool))) == {}


def test_a_real_model_with_few_heads_has_ties_and_its_own_selection_is_among_the_valid_ones() -> None:
    source = CapturedModel(tiny_dsa(index_heads=2))
    attempt = Attempt(source, ExtractSettings(chunk=32), Journal())
    seen = []

    class Spy:
        def __init__(self, made_for) -> None: ...

        def add(self, layers) -> None:
            seen.extend(layers)

        def tables(self) -> dict:
            return {}

    table = collect_samples(source, samples(90), [stability_collector(), Spy], 16, attempt)["selection_stability"]
    assert sorted(table["variant"].unique()) == sorted(VARIANTS)
    by_variant = {row["variant"]: row for row in table.group_by("variant").mean().iter_rows(named=True)}
    assert by_variant["ties"]["changed"] > 0.02 and by_variant["ties"]["near_tie"] > 0.05
    assert by_variant["float16"]["changed"] <= by_variant["int8"]["changed"]
    for rows in seen:
        up = rows.eligible & (rows.scores > -torch.inf)
        exact = choice(rows.scores, up, rows.selected.sum(-1))
        assert int(exact.lost(rows.selected).sum()) == 0
        assert torch.equal(exact.nearest(rows.selected, rows.selected), rows.selected)


def test_only_layers_with_scores_of_their_own_are_measured() -> None:
    scores = torch.arange(16.0)[None]
    chosen = topk(scores, torch.tensor([15]), 3)
    collector = stability_collector()(sample(16))
    collector.add([made(torch.ones(1, 16), None, chosen), made(torch.ones(1, 16), scores, chosen, layer=3)])
    assert collector.tables()["selection_stability"]["layer"].unique().to_list() == [3]
    assert isinstance(collector.tables()["selection_stability"], pl.DataFrame)
