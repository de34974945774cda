"""Claims about which keys topk may choose, against sorting one query at a time."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indexscope.analysis.closeup.order import choice, earliest, first, held, own_priority, top


def made(seed: int, queries: int = 5, keys: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores with many ties and infinities, keys up for selection, and k from 0 to n_t."""
    random = torch.Generator().manual_seed(seed)
    scores = torch.randint(-2, 3, (queries, keys), generator=random).float()
    scores[scores == 2] = torch.inf
    up = torch.rand(queries, keys, generator=random) > 0.3
    n = up.sum(-1)
    k = (torch.rand(queries, generator=random) * (n + 1)).long().clamp(max=n)
    k[0], k[1] = 0, n[1]
    return scores.masked_fill(~up, -torch.inf), up, k


def slow_top(scores: torch.Tensor, up: torch.Tensor, k: int, priority: list[int]) -> list[int]:
    """Keys of one query, best first and then by priority."""
    keys = up.nonzero()[:, 0].tolist()
    return sorted(sorted(keys, key=lambda s: (-float(scores[s]), priority[s]))[:k])


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 100_000))
def test_the_best_keys_are_those_of_a_sort_by_score_and_priority(seed: int) -> None:
    scores, up, k = made(seed)
    random = np.random.default_rng(seed)
    priority = torch.from_numpy(np.stack([random.permutation(12) for _ in range(5)]).astype(np.int32))
    for given_priority in (None, priority):
        found = top(scores, up, k, given_priority)
        for q in range(5):
            order = list(range(12)) if given_priority is None else given_priority[q].tolist()
            assert found[q].nonzero()[:, 0].tolist() == slow_top(scores[q], up[q], int(k[q]), order)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 100_000))
def test_many_selections_at_once_are_those_of_each(seed: int) -> None:
    parts = [made(seed + place) for place in range(3)]
    _, up, k = parts[0]
    scores = torch.stack([part[0].masked_fill(~up, -torch.inf) for part in parts])
    together = choice(scores, up, k)
    for place in range(3):
        alone = choice(scores[place], up, k)
        for name in ("sure", "tied", "room", "is_tie"):
            assert torch.equal(getattr(together, name)[place], getattr(alone, name))
        assert torch.equal(together.by(earliest(up))[place], top(scores[place], up, k))
        assert torch.equal(together.nearest(up, up)[place], alone.nearest(up, up))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 100_000))
def test_tied_keys_of_the_models_own_take_the_earliest_places_of_all_that_tie(seed: int) -> None:
    scores, up, k = made(seed)
    exact = choice(scores, up, k)
    own = torch.rand(5, 12, generator=torch.Generator().manual_seed(seed)) > 0.5
    found = own_priority(exact, own)
    for q in range(5):
        tied = exact.tied[q].nonzero()[:, 0].tolist()
        order = sorted(tied, key=lambda s: (not bool(own[q, s]), s))
        expected = list(range(12))
        for place, key in zip(tied, order, strict=True):
            expected[key] = place
        assert found[q].tolist() == expected


def test_as_many_of_a_mask_are_taken_as_there_are() -> None:
    mask = torch.tensor([[True, False, True, True], [False] * 4, [True] * 4])
    found = first(mask, torch.tensor([3, 0, 2, 1], dtype=torch.int32).expand(3, 4), torch.tensor([2, 3, 0]))
    assert found.tolist() == [[False, False, True, True], [False] * 4, [False] * 4]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 100_000))
def test_attention_in_its_own_order_is_held_as_if_it_were_the_scores(seed: int) -> None:
    scores, up, _ = made(seed)
    up[:, 0] = True
    p = torch.rand(5, 12, generator=torch.Generator().manual_seed(seed)) * up
    p[0] = up[0].float()
    torch.testing.assert_close(held(p, up), held(p, up, p), atol=1e-12, rtol=1e-12)
    assert scores.shape == p.shape
