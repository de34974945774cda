from __future__ import annotations

import numpy as np
import pytest
import torch

from interpretability.inputs import as_maps, as_selection, as_token_ids, token_texts
from tests.interpretability.planted import random_maps, uniform


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rank", [2, 3, 4])
def test_weights_of_any_rank_and_dtype_are_maps_by_sample_and_head(dtype: torch.dtype, rank: int) -> None:
    given = random_maps(1, 20)[(0,) * (4 - rank)].to(dtype)
    maps = as_maps(given)
    assert maps.weights.shape == (1, 1, 20, 20)
    assert maps.weights.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.equal(maps.weights[0, 0], given.reshape(20, 20).to(maps.weights.dtype))
    assert (maps.batch, maps.heads, maps.length, maps.causal) == (1, 1, 20, True)
    assert torch.equal(maps.eligible, torch.ones(20, 20).tril().bool())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_numpy_weights_are_the_same_maps(dtype: type[np.floating]) -> None:
    maps = as_maps(np.stack([uniform(9), np.eye(9)]).astype(dtype))
    assert (maps.batch, maps.heads, maps.batched) == (1, 2, False)
    assert torch.equal(maps.weights[0, 1].double(), torch.eye(9, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_that_were_rounded_to_half_precision_are_judged_so_after_a_cast_too(dtype: torch.dtype) -> None:
    exact = random_maps(2, 300, seed=3)
    rounded = exact.to(dtype).float()
    assert float((rounded.sum(-1) - 1).abs().max()) > 1e-4
    assert torch.equal(as_maps(rounded.numpy()).weights, rounded)
    with pytest.raises(ValueError, match="rows that do not sum to 1"):
        as_maps(exact * 0.999)
    with pytest.raises(ValueError, match="rows that do not sum to 1"):
        as_maps(rounded * 0.9)


def test_gradients_and_transposed_memory_do_not_matter() -> None:
    given = random_maps(2, 8).transpose(-1, -2).contiguous().transpose(-1, -2).requires_grad_()
    assert not as_maps(given).weights.requires_grad


def test_maps_in_which_all_queries_see_the_future_are_not_causal() -> None:
    both_ways = torch.full((3, 10, 10), 0.1)
    maps = as_maps(both_ways)
    assert not maps.causal
    assert bool(maps.eligible.all())
    assert as_maps(random_maps(1, 10)).causal
    assert not as_maps(random_maps(1, 10), causal=False).causal


WEIGHTS = random_maps(2, 8, batch=3)


def spoilt(place: tuple[int, ...], value: float) -> torch.Tensor:
    weights = WEIGHTS.clone()
    weights[place] = value
    return weights


LEAK = torch.zeros(1, 2, 8, 8)
LEAK[..., 0] = 1
LEAK[0, 1, 2, 0], LEAK[0, 1, 2, 5] = 0.5, 0.5


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            spoilt((1, 0, 4, 2), torch.nan),
            "attention_weights hold NaN or infinity, first at sample 1 head 0 query 4",
        ),
        (spoilt((2, 1, 3, 1), torch.inf), "first at sample 2 head 1 query 3 key 1"),
        (spoilt((0, 1, 5, 2), 3.0), "have 1 rows that do not sum to 1, first sample 0 head 1 query 5 with"),
        (spoilt((0, 1, 5, 2), -0.5), "hold negative weights, first at sample 0 head 1 query 5 key 2"),
        (torch.zeros(2, 4, 4), "have 8 rows that do not sum to 1, first head 0 query 0 with 0"),
        (torch.ones(4), r"has shape \[4\]; give \[S, S\], \[heads, S, S\] or \[batch, heads, S, S\]"),
        (torch.ones(1, 1, 1, 1, 4, 4), r"has shape \[1, 1, 1, 1, 4, 4\]; give"),
        (torch.ones(2, 4, 5), r"has shape \[2, 4, 5\], 4 queries and 5 keys; give square maps"),
        (torch.ones(0, 4, 4), r"has shape \[0, 4, 4\]; give at least one map"),
        (torch.ones(4, 4, dtype=torch.int64), "is torch.int64; give floating-point weights, after the softmax"),
        ([], "holds no layer; give at least one layer's weights"),
        ([WEIGHTS, None], r"attention_weights\[1\] is NoneType; give a torch tensor"),
        ([WEIGHTS, WEIGHTS[:2]], r"layers 0 and 1 of unlike shapes .*; give one layer, e.g. attention_weights\[0\]"),
        ([WEIGHTS, [WEIGHTS, WEIGHTS]], r"attention_weights\[1\] holds 2 layers; give one list of layers"),
        ([WEIGHTS, torch.full((3, 2, 8, 8), 0.125)], "is causal in one of the layers 0 and 1"),
        (
            [WEIGHTS, spoilt((1, 0, 4, 2), 3.0)],
            r"attention_weights\[1\] have 1 rows that do not sum to 1, first sample 1",
        ),
        ("weights", "is str; give a torch tensor or a numpy array"),
        (LEAK, "put weight on keys after the query in 7% of the rows, first sample 0 head 1 query 2; mask the future"),
    ],
)
def test_weights_that_cannot_be_meant_are_one_line_with_a_remedy(weights: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as found:
        as_maps(weights)
    assert "\n" not in str(found.value) and ";" in str(found.value)


def test_layers_are_further_heads_in_order_as_a_list_or_in_front() -> None:
    layers = [random_maps(2, 8, seed, batch=3) for seed in range(4)]
    for form in (layers, tuple(layers), torch.stack(layers), torch.stack(layers).numpy(), [w.half() for w in layers]):
        maps = as_maps(form)
        assert (maps.layers, maps.heads, maps.batch, maps.batched) == (4, 8, 3, True)
        assert maps.called(5) == "layer 2 head 1"
        for layer, expected in enumerate(layers):
            assert torch.allclose(maps.layer(layer).weights, expected, atol=1e-3)
    assert as_maps([layers[0]]).called(1) == "head 1"


def _keys(layer: int, sample: int = 0, head: int = 0, length: int = 8) -> torch.Tensor:
    """A mask that tells its layer, sample and head by the early key that its last queries select."""
    mask = torch.eye(length, dtype=torch.bool)
    mask[6:, (layer + 2 * sample + 3 * head) % 6] = True
    return mask


def test_selections_of_layers_are_never_misread_as_those_of_heads_or_samples() -> None:
    heads, samples = 2, 3
    for layers in (2, 3, 4):  # as many as heads, as samples, as neither
        maps = as_maps([random_maps(heads, 8, batch=samples)] * layers)
        by_head = torch.stack(
            [
                torch.stack(
                    [torch.stack([_keys(layer, item, head) for head in range(heads)]) for item in range(samples)]
                )
                for layer in range(layers)
            ]
        )
        one = by_head[:, :, 0]
        for form in (one, one.numpy(), list(one), [mask.unsqueeze(1) for mask in one]):
            found = as_selection(form, maps)
            assert found.shape == (samples, layers, 8, 8)
            for head in range(maps.heads):
                for item in range(samples):
                    assert torch.equal(maps.of_head(found, head)[item], _keys(head // heads, item))
        for form in (by_head, list(by_head)):
            found = as_selection(form, maps)
            for head in range(maps.heads):
                assert torch.equal(maps.of_head(found, head)[1], _keys(head // heads, 1, head % heads))
        shared = as_selection(_keys(1), maps)
        assert torch.equal(maps.of_head(shared, maps.heads - 1)[2], _keys(1))
    alone = as_maps([random_maps(heads, 8)[0]] * 4)
    masks = torch.stack([_keys(layer) for layer in range(4)])
    for form in (masks, masks[:, None]):
        assert torch.equal(alone.of_head(as_selection(form, alone), 5)[0], _keys(2))


def test_a_selection_of_other_layers_says_how_to_pick_one() -> None:
    masks = torch.eye(8).bool().expand(4, 3, 8, 8)
    single, double = as_maps(WEIGHTS), as_maps([WEIGHTS, WEIGHTS])
    for selected, maps, message in (
        (masks, single, r"of several layers this one's, e.g. selected_tokens\[0\]"),
        (list(masks), single, r"holds 4 layers and the weights are of one; give its own, e.g. selected_tokens\[0\]"),
        (masks[:, :, None], single, r"of one layer; give selected_tokens\[layer\]"),
        (list(masks), double, "holds 4 layers and the weights 2; give one selection a layer"),
        (masks[:, :, None], double, r"has shape \[4, 3, 1, 8, 8\] for 2 layers; give one selection a layer"),
    ):
        with pytest.raises(ValueError, match=message):
            as_selection(selected, maps)


def test_a_causal_analysis_refuses_weights_that_see_the_future() -> None:
    with pytest.raises(ValueError, match="say causal=False if the model may see it"):
        as_maps(torch.full((4, 4), 0.25), causal=True)


def test_all_forms_of_a_selection_are_the_same_mask() -> None:
    maps = as_maps(random_maps(4, 12, batch=2))
    mask = torch.zeros(12, 12, dtype=torch.bool)
    mask[:, 0] = True
    mask.fill_diagonal_(True)
    indices = torch.stack([torch.zeros(12, dtype=torch.int64), torch.arange(12)], dim=-1)
    indices[0, 1] = -1
    forms = [mask, mask.expand(2, 12, 12), mask.expand(2, 4, 12, 12), mask.expand(4, 12, 12), mask.numpy()]
    forms += [indices, indices.expand(2, 12, 2), indices.expand(2, 4, 12, 2), indices.int().numpy()]
    for form in forms:
        found = as_selection(form, maps)
        assert found.shape in ((2, 1, 12, 12), (2, 4, 12, 12))
        assert torch.equal(found, mask.expand(found.shape))


def test_three_dimensions_are_samples_of_a_batch_and_else_heads() -> None:
    masks = torch.stack([torch.eye(6).bool(), torch.ones(6, 6).tril().bool()])
    by_head = as_selection(masks, as_maps(random_maps(2, 6)[0]))
    assert torch.equal(by_head, masks[None])
    by_sample = as_selection(masks, as_maps(random_maps(2, 6, batch=2)))
    assert torch.equal(by_sample, masks[:, None])


def test_picks_that_topk_has_to_make_beyond_the_query_are_left_out() -> None:
    weights = random_maps(1, 10)
    found = as_selection(weights[0, 0].topk(4, dim=-1).indices, as_maps(weights))
    assert found.sum(-1).flatten().tolist() == [1, 2, 3, 4, 4, 4, 4, 4, 4, 4]


MAPS = as_maps(random_maps(2, 8, batch=3))
FUTURE = torch.eye(8).bool()
FUTURE[2, 5] = True
LATE = torch.zeros(8, 2, dtype=torch.int64)
LATE[4, 1] = 6


@pytest.mark.parametrize(
    ("selected", "message"),
    [
        (FUTURE, "selected_tokens lets query 2 select key 5, after it .sample 0, head 0., and 2 more such; combine"),
        (LATE, "selected_tokens lets query 4 select key 6, after it"),
        (torch.full((8, 3), 8), "holds keys 8 to 8; give keys 0 to 7, or -1 for none"),
        (torch.full((8, 3), -2), "holds keys -2 to -2"),
        (torch.eye(8), r"is torch.float32; give a bool mask \(mask > 0\), or integer indices"),
        (torch.eye(8, dtype=torch.int64), "looks like a mask of 0 and 1; give it as bool"),
        (torch.eye(7).bool(), r"has shape \[7, 7\]; give \[..., 8, 8\]"),
        (torch.zeros(8, dtype=torch.bool), r"has shape \[8\]; give \[S, S\], with leading"),
        (torch.zeros(5, 8, 8, dtype=torch.bool), r"has shape \[5, 8, 8\] for 3 samples of 2 heads"),
        (torch.zeros(3, 5, 8, 2, dtype=torch.int64), r"has shape \[3, 5, 8, 2\] for 3 samples of 2 heads"),
    ],
)
def test_selections_that_cannot_be_meant_are_one_line_with_a_remedy(selected: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message) as found:
        as_selection(selected, MAPS)
    assert "\n" not in str(found.value)


def test_tokens_are_ids_that_are_equal_where_tokens_are() -> None:
    texts = as_token_ids([" a", " b", " a", "c"], 2, 4)
    assert texts.shape == (2, 4)
    assert texts[0].tolist() == [0, 1, 0, 2]
    assert as_token_ids(torch.tensor([[7, 8], [9, 7]]), 2, 2).tolist() == [[7, 8], [9, 7]]
    assert token_texts(["▁the", "Ġcat", "Ċ"], 1, 3) == [[" the", " cat", "\n"]]
    assert token_texts([3, 4], 1, 2) is None


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ("the cat", "tokens is one string; split it into its 4 tokens"),
        (["a", "b"], r"tokens has shape \[2\]; give \[4\] or \[2, 4\]"),
        ([["a"], ["b", "c"]], "holds rows of different lengths"),
        (np.ones(4), "holds float64; give integer ids or strings"),
    ],
)
def test_tokens_that_cannot_be_meant_are_refused(tokens: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_token_ids(tokens, 2, 4)
