"""Points, edits, steps and costs."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.flops import AttentionLayer, attended_pairs
from indexscope.analysis.optimise.baselines import drawn
from indexscope.analysis.optimise.cost import Cost, CostLayer
from indexscope.analysis.optimise.space import Layer, Point, Space, spaced
from indexscope.analysis.optimise.surrogate import Features, Proposer
from tests.analysis.optimise.planted import cost_of, space_of


@given(st.integers(0, 10_000))
def test_points_and_edits_are_one_to_one(seed: int) -> None:
    space = Space(7, (Layer(0, 3, 16), Layer(2, 3, 16), Layer(5, 2, 24)))
    point = drawn(space, np.random.default_rng(seed))
    edit = space.edit(point)
    assert space.point(edit) == point
    assert space.edit(space.point(edit) or space.origin) == edit
    for other in islice(space.neighbours(point), 40):
        assert other != point
        assert space.point(space.edit(other)) == other


def test_the_model_as_it_is_is_no_edit() -> None:
    space = space_of()
    assert space.edit(space.origin).changes_nothing
    assert space.point(Edit()) == space.origin
    assert 96 in space.layers[0].budgets


@pytest.mark.parametrize(
    "edit",
    [
        Edit(indexer_heads={1: (0,)}),
        Edit(topk={1: 8}),
        Edit(share="FS"),
        Edit(precision="fp8"),
        Edit(indexer_heads={0: (9,)}),
        Edit.model_validate({"selector": "oracle"}),
    ],
)
def test_an_edit_of_what_is_not_in_the_space_is_no_point(edit: Edit) -> None:
    assert Space(3, (Layer(0, 2, 8), Layer(2, 2, 8))).point(edit) is None


def test_layers_that_share_in_the_model_itself_stay_so() -> None:
    space = Space(4, (Layer(0, 2, 8), Layer(2, 2, 8)), sharing=(1, 3))
    edit = space.edit(space.origin.with_choice(1, None))
    assert edit.share == "FSSS"
    assert space.point(edit) == space.origin.with_choice(1, None)
    assert space.edit(space.origin).share == ""
    assert space.point(Edit(share="FFSS")) is None, "layer 1 has no indexer to select with"


def test_evenly_spaced_sharing_is_written_as_letters() -> None:
    assert space_of(6).edit(spaced(space_of(6), 3, 2, 0.5)) == Edit(
        indexer_heads={0: (0, 1), 3: (0, 1)}, topk={0: 32, 3: 32}, share="FSSFSS"
    )


def test_costs_agree_with_the_closed_form() -> None:
    # Two layers of 3 heads of 5 channels, k = 4, of 10 tokens; the third is dense with a window of 2.
    sparse, window = AttentionLayer(100.0, sparse=True, latent=60.0), AttentionLayer(10.0, window=2)
    layer = CostLayer(sparse, 3, 5, 4, token=7.0, token_head=11.0)
    cost = Cost((layer, layer, CostLayer(window)), (10,), time=0.5)
    pairs = 55

    def chosen(k: int) -> int:
        return sum(min(t + 1, k) for t in range(10))

    def indexer(heads: int) -> float:
        return 0.5 * (2 * heads * 6 * pairs + 10 * (7 + 11 * heads))

    beside = 10.0 * chosen(2)
    assert cost.base == 2 * indexer(3) + 2 * 60 * chosen(4) + beside
    edit = Edit(indexer_heads={0: (1,)}, topk={0: 3}, share="FSF")
    assert cost.flops(edit) == indexer(1) + 2 * 60 * chosen(3) + beside, "who shares takes the k of its source"
    assert cost.relative(edit) == cost.flops(edit) / cost.base
    assert cost.dense == 2 * 100 * pairs + beside
    assert cost.relative_to_dense(edit) == cost.flops(edit) / cost.dense
    indexers = Cost(cost.layers, cost.lengths, 0.5, whole=False)
    assert indexers.relative(edit) == indexer(1) / (2 * indexer(3))
    assert indexers.relative_to_dense(edit) == cost.relative_to_dense(edit)
    assert cost.flops(Edit(precision="bfloat16")) == 2 * 2 * indexer(3) + 2 * 60 * chosen(4) + beside
    assert cost.cheaper_precisions == ("fp4",)
    assert Cost(cost.layers, cost.lengths, 1.0).cheaper_precisions == ("fp8", "fp4", "int8")


def test_a_layer_that_shares_in_the_model_itself_takes_the_k_of_its_source() -> None:
    attention = AttentionLayer(1.0, sparse=True)
    cost = Cost((CostLayer(attention, 1, 1, 4), CostLayer(attention, topk=4)), (10,), whole=True)
    saved = cost.base - cost.flops(Edit(topk={0: 2}))
    assert saved == 2 * (float(attended_pairs(10, 4)) - float(attended_pairs(10, 2)))


def test_the_proposal_is_the_least_of_all_points() -> None:
    space = Space(3, tuple(Layer(layer, 2, 16) for layer in range(3)))
    cost = cost_of(space, (64,))
    proposer, random = Proposer(space, cost), np.random.default_rng(3)
    features = Features(space)
    seen: set[Point] = set()
    for _ in range(20_000):
        seen.add(drawn(space, random))
    for _ in range(5):
        coefficients = random.normal(0.05, 0.1, features.count)
        weight = float(random.lognormal(0, 2))

        def total(point: Point, coefficients: np.ndarray = coefficients, weight: float = weight) -> float:
            return float(features.of(point) @ coefficients) + weight * cost.relative(space.edit(point))

        found = total(proposer.least(coefficients, weight))
        assert found <= min(map(total, seen)) + 1e-12


def test_a_cheaper_proposal_is_allowed_more_loss() -> None:
    space = space_of(4)
    cost = cost_of(space)
    proposer = Proposer(space, cost)
    coefficients = np.abs(np.random.default_rng(0).normal(0.01, 0.01, proposer.features.count))
    points = [proposer.cheapest(coefficients, bound) for bound in (0.0, 0.01, 0.05, 0.2)]
    losses = [float(proposer.features.of(point) @ coefficients) for point in points]
    costs = [cost.relative(space.edit(point)) for point in points]
    assert all(loss <= bound + 1e-9 for loss, bound in zip(losses, (0.0, 0.01, 0.05, 0.2), strict=True))
    assert costs == sorted(costs, reverse=True) and costs[-1] < costs[0]
