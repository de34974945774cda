"""A fitted indexer computes what transformers' own lightning indexer computes, and selects the same however it runs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from indexscope import IndexscopeError
from indexscope.analysis.capture import AttentionChunk, CapturedModel, capture_sparse, own_attention
from indexscope.analysis.capture.chunk import Observer
from indexscope.analysis.capture.facts import model_facts
from indexscope.analysis.capture.indexer import indexers
from indexscope.analysis.fitting.fitted import FittedIndexer, prefix
from indexscope.analysis.fitting.inlet import distinct
from indexscope.analysis.fitting.places import places_of, shape_at
from indexscope.analysis.fitting.scorer import LightningScorer
from indexscope.analysis.fitting.selector import lay_over, lift, top
from tests.analysis.capture.tiny_architectures import tiny
from tests.analysis.capture.tiny_families import FAMILIES, LENGTH, tokens

TOKEN_FAMILIES = ("deepseek_v32", "glm_moe_dsa", "axk2", "hy_v4", "mistral_large4")
DENSE = ("llama", "gpt2", "gemma3_text", "deepseek_v3", "llama4_text", "opt", "mistral", "cohere", "qwen3_next", "phi")


def random_indexer(model: PreTrainedModel, heads: int, dim: int, topk: int) -> FittedIndexer:
    places = places_of(model)
    torch.manual_seed(3)
    shapes = {layer: shape_at(places.widths[layer], heads, dim) for layer in places.first}
    weights = {
        prefix(layer) + name: one * 4
        for layer, shape in shapes.items()
        for name, one in LightningScorer(shape).state_dict().items()
    }
    return FittedIndexer(heads, dim, (topk,), shapes, weights)


def seen(
    model: PreTrainedModel, ids: torch.Tensor, chunk: int, attend: Observer = capture_sparse
) -> dict[int, list[AttentionChunk]]:
    found: dict[int, list[AttentionChunk]] = {}

    def observe(one: AttentionChunk) -> torch.Tensor:
        found.setdefault(one.layer, []).append(one)
        return attend(one)

    for _ in CapturedModel(model).run(ids, observe, chunk, head_scores=True):
        pass
    return found


def whole(chunks: list[AttentionChunk], field: str, fill: float) -> torch.Tensor:
    parts = [getattr(one, field).float() for one in chunks]
    width = max(part.shape[-1] for part in parts)
    return torch.cat([nn.functional.pad(part, (0, width - part.shape[-1]), value=fill) for part in parts], -2)


def test_it_scores_and_selects_as_transformers_own_indexer_of_the_same_weights() -> None:
    model, ids = FAMILIES["deepseek_v32"](), tokens()
    own = seen(model, ids, LENGTH)
    fitted = taken_from(model)
    assert fitted.shapes[0].source == "latent"
    assert fitted.shapes[0].rotary == (0, 1, 2, 3)
    lay_over(model, fitted, 8)
    assert not indexers(model)
    ours = seen(model, ids, LENGTH)
    for layer, (mine,) in ours.items():
        (theirs,) = own[layer]
        assert mine.scores is not None
        assert theirs.scores is not None
        torch.testing.assert_close(mine.scores, theirs.scores, rtol=1e-5, atol=1e-6)
        assert mine.head_scores is not None
        torch.testing.assert_close(mine.head_scores, theirs.head_scores, rtol=1e-5, atol=1e-6)
        # The capture sees the weights as the model has them, scaled where the model scales them.
        scored = torch.einsum("bqhk,bqh->bqk", mine.head_scores, mine.head_weights)
        torch.testing.assert_close(
            scored.masked_fill(~mine.eligible[:, 0], -torch.inf), mine.scores, rtol=1e-5, atol=1e-6
        )
        assert mine.selected is not None
        assert theirs.selected is not None
        edge = mine.scores.topk(8, -1).values[..., -1:]
        untied = ((mine.scores == edge).sum(-1) == 1) | (mine.eligible[:, 0].sum(-1) <= 8)
        assert float(untied.float().mean()) > 0.5
        assert torch.equal(mine.selected[:, 0][untied], theirs.selected[:, 0][untied])


def taken_from(model: PreTrainedModel) -> FittedIndexer:
    """The weights of a model's own indexers as a fitted indexer."""
    config, places = model.config, places_of(model)
    size = (config.index_n_heads, config.index_head_dim)
    shapes = {layer: shape_at(places.widths[layer], *size) for layer in places.first}
    weights = {
        prefix(int(one.layer_idx)) + name: tensor
        for one in indexers(model)
        for name, tensor in one.state_dict().items()
    }
    return FittedIndexer(*size, (config.index_topk,), shapes, weights)


@pytest.mark.parametrize("name", [*TOKEN_FAMILIES, *DENSE])
def test_a_sequence_in_chunks_selects_what_it_selects_whole(name: str) -> None:
    model = FAMILIES[name]() if name in FAMILIES else tiny(name)
    ids = tokens()
    lay_over(model, random_indexer(model, 2, 16, 6), 6)
    once, cut = seen(model, ids, LENGTH), seen(model, ids, 7)
    assert once.keys() == cut.keys()
    for layer, chunks in once.items():
        scores, parts = whole(chunks, "scores", -torch.inf), whole(cut[layer], "scores", -torch.inf)
        if scores.shape == parts.shape:  # not where a window drops keys
            torch.testing.assert_close(parts, scores, rtol=1e-3, atol=1e-4)
            same = whole(cut[layer], "selected", 0.0) == whole(chunks, "selected", 0.0)
            assert float(same.float().mean()) > 0.999
        for chunk in (*chunks, *cut[layer]):
            assert chunk.selected is not None
            assert chunk.scores is not None
            assert not bool((chunk.selected & ~chunk.eligible).any())
            n = chunk.eligible.sum(-1).expand(chunk.selected.shape[:-1])
            assert torch.equal(chunk.selected.sum(-1), n.clamp(max=6))


def test_the_model_itself_attends_to_what_the_capture_shows() -> None:
    model, ids = tiny("llama"), tokens()
    with own_attention(model), torch.inference_mode():
        dense = model(input_ids=ids).logits
    lay_over(model, random_indexer(model, 2, 16, 6), 6)
    captured = torch.cat([logits for _, logits in CapturedModel(model).run(ids, capture_sparse, LENGTH)], 1)
    with own_attention(model), torch.inference_mode():
        own = model(input_ids=ids, use_cache=False).logits
    torch.testing.assert_close(own, captured)
    assert float((own - dense).abs().max()) > 0.1
    lay_over(model, random_indexer(model, 2, 16, LENGTH), LENGTH)
    with own_attention(model), torch.inference_mode():
        torch.testing.assert_close(model(input_ids=ids, use_cache=False).logits, dense, rtol=1e-4, atol=1e-4)


def test_padding_is_never_selected() -> None:
    model, ids = tiny("llama"), tokens()
    mask = torch.ones_like(ids)
    mask[1, :13] = 0
    lay_over(model, random_indexer(model, 2, 16, 6), 6)

    def observe(one: AttentionChunk) -> torch.Tensor:
        assert one.selected is not None
        assert not bool(one.selected[1, ..., :13].any())
        return capture_sparse(one)

    for _ in CapturedModel(model).run(ids, observe, LENGTH, attention_mask=mask):
        pass


def test_threads_that_share_a_model_do_not_see_each_others_tokens() -> None:
    model = tiny("llama")
    lay_over(model, random_indexer(model, 2, 16, 6), 6)
    random = torch.Generator().manual_seed(0)
    batches = [torch.randint(97, (1, LENGTH), generator=random) for _ in range(8)]
    alone = [whole(seen(model, ids, 11)[1], "selected", 0.0) for ids in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda ids: whole(seen(model, ids, 11)[1], "selected", 0.0), batches * 3))
    for one, other in zip(alone * 3, together, strict=True):
        assert torch.equal(one, other)


def test_its_parameters_count_as_the_models_and_leave_with_it() -> None:
    model = tiny("llama")
    before = sum(one.numel() for one in model.parameters())
    fitted = random_indexer(model, 2, 16, 6)
    lay_over(model, fitted, 6)
    lay_over(model, fitted, 6)
    assert sum(one.numel() for one in model.parameters()) - before == sum(
        one.numel() for one in fitted.weights.values()
    )
    facts = model_facts(model).row(0, named=True)
    assert (facts["index_topk"], facts["indexer_heads"]) == (6, 2)
    lift(model)
    assert sum(one.numel() for one in model.parameters()) == before
    assert not CapturedModel(model).has_indexer


def test_of_equal_scores_the_later_keys_are_selected_however_many_are_left_out_behind_them() -> None:
    scores = torch.tensor([[0.0, 3.0, 0.0, 0.0, 2.0, 0.0]])
    expected = [False, True, False, True, True, True]
    for spare in range(5):
        padded = nn.functional.pad(scores, (0, spare), value=-torch.inf)
        assert top(padded, 4)[0, :6].tolist() == expected
        assert not bool(top(padded, 4)[0, 6:].any())
    assert top(scores, 9).all()


@pytest.mark.parametrize(("name", "count"), [("llama", 6), ("cohere", 6), ("llama4_text", 6), ("gpt2", 0), ("phi", 3)])
def test_every_frequency_of_a_model_is_found_once(name: str, count: int) -> None:
    model = tiny(name)
    assert len(places_of(model).widths[0].frequencies) == count


def test_half_of_the_dimensions_turn_by_frequencies_spread_over_the_models() -> None:
    widths = places_of(tiny("llama")).widths[0]
    wide = replace(widths, frequencies=tuple(range(32)), rotation=64)
    assert shape_at(wide, 4, 64).rotary == tuple(range(0, 32, 2))
    assert shape_at(wide, 4, 16).rotary == (0, 8, 16, 24)
    assert shape_at(wide, 4, 2).rotary == (0,)
    with pytest.raises(IndexscopeError, match="dim 15 is odd"):
        shape_at(wide, 4, 15)
    assert shape_at(replace(widths, frequencies=()), 4, 15).rotary == ()


def test_frequencies_are_told_in_halves_in_pairs_and_alone() -> None:
    angles = torch.tensor([[[0.0, 0.0, 0.0], [1.0, 0.1, 0.01]]])
    alone = (angles.cos(), angles.sin())
    assert distinct(alone) == (0, 1, 2)
    halves = torch.cat([angles, angles], -1)
    assert distinct((halves.cos(), halves.sin())) == (0, 1, 2)
    pairs = angles.repeat_interleave(2, -1)
    assert distinct((pairs.cos(), pairs.sin())) == (0, 2, 4)


def test_what_does_not_fit_is_refused_in_one_line() -> None:
    llama = tiny("llama")
    fitted = random_indexer(llama, 2, 16, 6)
    with pytest.raises(IndexscopeError, match="topk: is 0"):
        lay_over(llama, fitted, 0)
    with pytest.raises(IndexscopeError, match="was fitted to another model: layer 0 has another query latent"):
        lay_over(tiny("gpt2"), fitted, 6)
    wider = {layer: replace(shape, hidden=64, query=64) for layer, shape in fitted.shapes.items()}
    with pytest.raises(IndexscopeError, match="layer 0 is 48 wide, not 64"):
        lay_over(llama, replace(fitted, shapes=wider), 6)
    with pytest.raises(IndexscopeError, match="is for layer 7, which has no attention map"):
        lay_over(llama, replace(fitted, shapes={7: fitted.shapes[0]}), 6)
    with pytest.raises(IndexscopeError, match="do not select single tokens"):
        lay_over(FAMILIES["qwen4_exp"](), fitted, 6)
    own = FAMILIES["deepseek_v32"]()
    part = random_indexer(own, 2, 16, 6)
    with pytest.raises(IndexscopeError, match="has nothing for layer 1"):
        lay_over(own, replace(part, shapes={0: part.shapes[0]}), 6)
