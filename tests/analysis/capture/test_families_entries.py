"""What an entry is in each family, with scores written out in float64, and the families that nobody has described."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from transformers import DeepseekV32ForCausalLM, DynamicCache, PreTrainedModel
from transformers.models.deepseek_v32 import modeling_deepseek_v32 as v32
from transformers.models.llama.modeling_llama import LlamaAttention

from indexscope import IndexscopeError
from indexscope.analysis.capture import AttentionChunk, CapturedModel, capture_sparse, own_attention
from indexscope.analysis.capture.families import UNKNOWN
from indexscope.analysis.capture.indexer import arguments_of, indexers
from tests.analysis.capture.test_families import difference, model_of, own_logits, padded
from tests.analysis.capture.tiny_families import LENGTH, record, tokens
from tests.analysis.conftest import sharpened, tiny_dsa, tiny_llama

POOLED = {"glm5_next": 4, "qwen4_exp": 4, "minimax_m3": 4}


def first_selecting(model: PreTrainedModel, **options: Any) -> tuple[AttentionChunk, nn.Module, dict[str, Any]]:
    """The first chunk with scores of its own, its indexer, and what that indexer was called with."""
    arguments: dict[str, Any] = {}
    indexer = indexers(model)[0]

    def remember(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        arguments.update(arguments_of(module, args, kwargs))

    handle = indexer.register_forward_pre_hook(remember, with_kwargs=True)
    try:
        _, seen = record(model, tokens(), LENGTH, **options)
    finally:
        handle.remove()
    chunk = next(chunk for _, (chunk,) in sorted(seen.items()) if chunk.scores is not None)
    return chunk, indexer, arguments


def double(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().double() for name, value in module.named_parameters()}


def layer_norm(x: torch.Tensor, w: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    return nn.functional.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], 1e-6)


def rms(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight


def half_rotary(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate the first features of x [..., width] by cos, sin [..., rotated], pairing feature i with i + half."""
    turned, rest = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
    one, two = turned.chunk(2, -1)
    return torch.cat([turned * cos + torch.cat([-two, one], -1) * sin, rest], -1)


def causal(scores: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """-inf where the last token of an entry is after the query."""
    return scores.masked_fill(last[None, :] > torch.arange(LENGTH)[:, None], -torch.inf)


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert torch.equal(found.isfinite(), expected.isfinite())
    finite = expected.isfinite()
    assert torch.allclose(found[finite].double(), expected[finite], rtol=1e-4, atol=1e-5)


def test_token_scores_in_float64() -> None:
    chunk, indexer, given = first_selecting(model_of("deepseek_v32"))
    w, hidden = double(indexer), given["hidden_states"].double()
    cos, sin = (part.double()[:, :, None] for part in given["position_embeddings"])
    q = (given["q_resid"].double() @ w["wq_b.weight"].T).view(2, LENGTH, 8, 16)
    k = layer_norm(hidden @ w["wk.weight"].T, w, "k_norm")[:, :, None]
    q, k = half_rotary(q, cos, sin), half_rotary(k, cos, sin)[:, :, 0]
    scores = torch.einsum("bqjd,bsd->bqjs", q, k).div(4).relu()
    weights = hidden @ w["weights_proj.weight"].T / math.sqrt(8)
    assert_same(chunk.scores, causal(torch.einsum("bqj,bqjs->bqs", weights, scores), torch.arange(LENGTH)))


@pytest.mark.parametrize("side", ["none", "left"])
def test_pool_scores_in_float64(side: str) -> None:
    mask = padded(side)
    chunk, indexer, given = first_selecting(model_of("glm5_next"), attention_mask=mask)
    w, hidden = double(indexer), given["hidden_states"].double()
    start = 13 if side == "left" else 0
    for item, first in ((0, 0), (1, start)):
        count = (LENGTH - first) // 4
        rows = slice(first, first + 4 * count)
        k = layer_norm(hidden[item] @ w["wk.weight"].T, w, "k_norm")[rows].view(count, 4, 16)
        gate = (hidden[item] @ w["index_kpool_compress_gate"].T)[rows].view(count, 4, 16)
        pooled = ((gate + w["index_kpool_compress_ape"]).softmax(1) * k).sum(1)
        q = (given["q_resid"][item].double() @ w["wq_b.weight"].T).view(LENGTH, 8, 16)
        scores = torch.einsum("qjd,pd->qjp", q, pooled).div(4).relu()
        weights = hidden[item] @ w["weights_proj.weight"].T / math.sqrt(8)
        expected = causal(torch.einsum("qj,qjp->qp", weights, scores), first + 4 * torch.arange(count) + 3)
        assert_same(chunk.scores[item, :, :count], expected)
        assert not chunk.scores[item, :, count:].isfinite().any()


def test_block_scores_in_float64() -> None:
    chunk, indexer, given = first_selecting(model_of("qwen4_exp"))
    w, hidden = double(indexer), given["hidden_states"].double()
    cos, sin = (part.double() for part in given["position_embeddings"])
    qk = hidden @ w["index_qk_proj.weight"].T
    q = rms(qk[..., :128].view(2, LENGTH, 8, 16), 1 + w["q_layernorm.weight"])
    k = rms(qk[..., 128:].view(2, LENGTH // 4, 4, 16).mean(2), 1 + w["k_layernorm.weight"])
    q = half_rotary(q, cos[:, :, None], sin[:, :, None])
    k = half_rotary(k, cos[:, ::4], sin[:, ::4])
    scores = torch.einsum("bqjd,bpd->bqjp", q, k).relu().sum(2) / 4
    assert_same(chunk.scores, causal(scores, 4 * torch.arange(LENGTH // 4) + 3))


def test_group_scores_in_float64() -> None:
    chunk, indexer, given = first_selecting(model_of("minimax_m3"))
    w, hidden = double(indexer), given["hidden_states"].double()
    cos, sin = (part.double()[..., :16][:, None] for part in given["position_embeddings"])
    q = rms((hidden @ w["q_proj.weight"].T).view(2, LENGTH, 2, 16), 1 + w["q_norm.weight"]).transpose(1, 2)
    k = rms(hidden @ w["k_proj.weight"].T, 1 + w["k_norm.weight"])[:, None]
    scores = half_rotary(q, cos, sin) @ half_rotary(k, cos, sin).transpose(2, 3)
    scores = causal(scores, torch.arange(LENGTH)).view(2, 2, LENGTH, 10, 4).amax(-1)
    own = torch.arange(10) == torch.arange(LENGTH)[:, None] // 4
    assert_same(chunk.scores, scores.masked_fill(own, -torch.inf))


def test_compressed_scores_in_float64() -> None:
    chunk, indexer, given = first_selecting(model_of("deepseek_v4"))
    w, hidden = double(indexer), given["hidden_states"].double()
    count = LENGTH // 4
    kv = (hidden @ w["kv_proj.weight"].T).view(2, count, 4, 32)
    gate = (hidden @ w["gate_proj.weight"].T).view(2, count, 4, 32) + w["position_bias"]
    pooled = []
    for entry in range(count):
        parts = [(kv[:, entry, :, 16:], gate[:, entry, :, 16:])]
        if entry:
            parts.insert(0, (kv[:, entry - 1, :, :16], gate[:, entry - 1, :, :16]))
        values, gates = (torch.cat(part, 1) for part in zip(*parts, strict=True))
        pooled.append((gates.softmax(1) * values).sum(1))
    k = rms(torch.stack(pooled, 1), w["kv_norm.weight"])
    q = (given["q_residual"].double() @ w["q_b_proj.weight"].T).view(2, LENGTH, 8, 16)
    frequencies = indexer.rotary_emb.compress_inv_freq.double()

    def turn(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        angle = (positions[:, None] * frequencies).view(1, -1, *[1] * (x.ndim - 3), len(frequencies))
        width = 2 * len(frequencies)
        one, two = x[..., -width::2], x[..., -width + 1 :: 2]
        cos, sin = angle.cos(), angle.sin()
        return torch.cat(
            [x[..., :-width], torch.stack([one * cos - two * sin, two * cos + one * sin], -1).flatten(-2)], -1
        )

    q, k = turn(q, torch.arange(LENGTH).double()), turn(k, 4 * torch.arange(count).double())
    weights = hidden @ w["scorer.weights_proj.weight"].T / math.sqrt(8)
    scores = torch.einsum("bqjd,bpd->bqjp", q, k).relu() / 4
    expected = causal(torch.einsum("bqj,bqjp->bqp", weights, scores), 4 * torch.arange(count) + 3)
    assert_same(chunk.scores, expected)


@pytest.mark.parametrize("side", ["none", "left", "right"])
@pytest.mark.parametrize("family", POOLED)
def test_chosen_entries_and_forced_keys_make_up_the_selection(family: str, side: str) -> None:
    size, mask = POOLED[family], padded(side)
    _, seen = record(model_of(family), tokens(), LENGTH, attention_mask=mask)
    scored = [chunk for (chunk,) in seen.values() if chunk.scores is not None]
    assert scored
    for chunk in scored:
        first, last = (x.expand(2, -1) for x in (chunk.entries.first, chunk.entries.last))
        assert chunk.entries.kind == ("pool" if family == "glm5_next" else "block")
        assert torch.equal(last - first, torch.full_like(first, size - 1))
        start = torch.tensor([0, 13 if side == "left" and family != "minimax_m3" else 0])
        assert torch.equal(first, start[:, None] + size * torch.arange(first.shape[1]))
        keys = torch.arange(LENGTH)
        holds = (keys >= first[..., None]) & (keys <= last[..., None])
        chosen = chunk.chosen if chunk.chosen.ndim == 4 else chunk.chosen[:, None]
        told = torch.einsum("bgqe,bek->bgqk", chosen.float(), holds.float()).bool() & chunk.eligible
        assert torch.equal(told | chunk.always, chunk.selected.expand_as(told))
        assert not (told & chunk.always).any()
        assert not (chosen & ~(chunk.scores.isfinite().view_as(chosen))).any()
        local = 1 if family == "minimax_m3" else 0
        assert chosen.sum(-1).max() == (3 - local if family == "minimax_m3" else 2)
        # Each query's chosen entries are the best of those up for selection.
        scores = chunk.scores.view_as(chosen)
        worst = scores.masked_fill(~chosen, torch.inf).amin(-1)
        best_left = scores.masked_fill(chosen, -torch.inf).amax(-1)
        assert (worst >= best_left).all()


def test_compressed_entries_follow_the_window_on_the_key_axis() -> None:
    _, seen = record(model_of("deepseek_v4"), tokens(), 16)
    assert all(chunk.positions is None and chunk.entries is None for chunk in seen[0])
    for layer, rate, before in ((1, 4, 4), (2, 6, 0)):
        for chunk in seen[layer]:
            end = chunk.start + chunk.query.shape[2]
            count, window = end // rate, min(end, 8 + chunk.query.shape[2])
            assert chunk.entries.kind == "compressed"
            expected = [*range(end - window, end), *[-1] * count]
            assert chunk.positions.tolist() == expected
            assert len(expected) == chunk.key.shape[2]
            assert chunk.entries.first.tolist() == [[max(0, rate * e - before) for e in range(count)]]
            assert chunk.entries.last.tolist() == [[rate * e + rate - 1 for e in range(count)]]
            t = torch.arange(chunk.start, end)[:, None]
            near = (chunk.positions >= 0) & (chunk.positions <= t) & (chunk.positions > t - 9)
            ready = torch.zeros_like(near)
            ready[:, window:] = torch.arange(count) < (t + 1) // rate
            assert torch.equal(chunk.eligible.expand(2, -1, -1, -1)[1, 0], near | ready)
            if layer == 1:
                assert torch.equal(chunk.always.expand(2, -1, -1, -1)[0, 0], near)
                assert torch.equal(chunk.chosen, chunk.selected[:, 0, :, window:])
                assert torch.equal(chunk.chosen.sum(-1)[0], ((t[:, 0] + 1) // rate).clamp_max(3))
            else:
                assert chunk.selected is None
                assert chunk.scores is None


def test_recall_has_a_finite_reference_in_every_family() -> None:
    for family in ("hy_v4", "deepseek_v4", "glm5_next", "qwen4_exp", "minimax_m3"):
        for chunk in (c for (c,) in record(model_of(family), tokens(), LENGTH)[1].values() if c.selected is not None):
            p = chunk.logits().masked_fill(~chunk.eligible, -torch.inf).softmax(-1)
            selected = chunk.selected.repeat_interleave(p.shape[1] // chunk.selected.shape[1], 1)
            recall = (p * selected).sum(-1)
            assert recall.isfinite().all()
            assert (recall > 0).all()
            assert recall.mean() < 0.999


# --- families that nobody has described ---------------------------------------------------------------------------


class StrangeIndexer(v32.DeepseekV32Indexer):
    """The same shape under a class name that is in no registry."""


class ToyIndexer(nn.Module):
    """An indexer of nobody's: one head, no ReLU, keys kept in the cache that it is given."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(width, 8), nn.Linear(width, 8)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor, layer: int, cache: Any) -> torch.Tensor:
        kept = cache.__dict__.setdefault("toy_keys", {})
        kept[layer] = torch.cat([*([kept[layer]] if layer in kept else []), self.key(hidden)], 1)
        scores = self.query(hidden) @ kept[layer].transpose(1, 2)
        return scores.masked_fill(~mask[:, 0], -torch.inf).topk(min(8, scores.shape[-1])).indices


class FoldingAttention(LlamaAttention):
    """Puts the selection into its mask itself; or forgets E_t while doing so; or drops the selection."""

    way = "folds"

    def forward(self, hidden_states, position_embeddings, attention_mask, past_key_values, **kwargs):
        if attention_mask is None:  # the model's own sdpa does without
            attention_mask = torch.ones(1, 1, *2 * hidden_states.shape[1:2], dtype=torch.bool).tril()
        chosen = self.indexer(hidden_states, attention_mask, self.layer_idx, past_key_values)
        keep = attention_mask.new_zeros(len(chosen), *attention_mask.shape[1:]).scatter_(-1, chosen[:, None], True)
        mask = {"folds": attention_mask & keep, "peeks": keep, "drops": attention_mask}[self.way]
        return super().forward(hidden_states, position_embeddings, mask, past_key_values, **kwargs)


def folding(way: str) -> PreTrainedModel:
    model = tiny_llama()
    for layer in model.model.layers:
        layer.self_attn.__class__ = FoldingAttention
        layer.self_attn.way = way
        layer.self_attn.indexer = ToyIndexer(48)
    return sharpened(model)


def strange(model: DeepseekV32ForCausalLM) -> DeepseekV32ForCausalLM:
    model.config.model_type = "strange"
    for layer in model.model.layers:
        layer.self_attn.indexer.__class__ = StrangeIndexer
    return model


def test_an_unknown_family_of_the_same_shape_is_captured() -> None:
    model, known = strange(tiny_dsa()), tiny_dsa()
    captured = CapturedModel(model)
    assert captured.captured is UNKNOWN
    assert captured.family == "strange"
    mask = padded("left")
    for chunk in (16, LENGTH):
        logits, seen = record(model, tokens(), chunk, attention_mask=mask, head_scores=True)
        same, expected = record(known, tokens(), chunk, attention_mask=mask, head_scores=True)
        assert torch.equal(logits, same)
        for layer, chunks in seen.items():
            for one, other in zip(chunks, expected[layer], strict=True):
                for name in ("eligible", "selected", "scores", "head_scores", "head_weights"):
                    assert torch.equal(getattr(one, name), getattr(other, name))
    dense, _ = record(model, tokens(), 16, select=False)
    assert torch.allclose(dense, record(known, tokens(), 16, select=False)[0])


@pytest.mark.parametrize("side", ["none", "left"])
@pytest.mark.parametrize("chunk", [7, LENGTH])
def test_an_unknown_family_may_fold_its_selection_into_the_mask(chunk: int, side: str) -> None:
    model, mask = folding("folds"), padded(side)
    # No token twice: this indexer knows no positions, and equal tokens would tie.
    ids = torch.stack([torch.randperm(97, generator=torch.Generator().manual_seed(i))[:LENGTH] for i in range(2)])
    logits, seen = record(model, ids, chunk, attention_mask=mask)
    with own_attention(model), torch.inference_mode():
        expected = model(input_ids=ids, attention_mask=mask, past_key_values=DynamicCache()).logits
    assert difference(logits, expected, mask) < 1e-4
    _, dense = record(tiny_llama(), ids, chunk, attention_mask=mask)
    for layer, chunks in seen.items():
        for one, plain in zip(chunks, dense[layer], strict=True):
            eligible = (c.eligible.expand(2, -1, -1, -1) for c in (one, plain))
            assert torch.equal(*eligible)
            best = one.scores.topk(min(8, one.scores.shape[-1])).indices
            told = (
                torch.zeros_like(one.eligible).expand_as(one.selected).scatter(-1, best[:, None], True) & one.eligible
            )
            assert torch.equal(one.selected, told)


@pytest.mark.parametrize(("way", "message"), [("peeks", "attends to keys after"), ("drops", "neither passes")])
def test_a_family_that_does_not_follow_the_shape_is_named(way: str, message: str) -> None:
    with pytest.raises(IndexscopeError, match=r"FoldingAttention \(model.layers.0.self_attn\): " + message):
        record(folding(way), tokens(), LENGTH)


class UntoppedIndexer(v32.DeepseekV32Indexer):
    def forward(self, hidden_states, *args, **kwargs):
        return torch.arange(4).expand(*hidden_states.shape[:2], -1).to(torch.int32)


class PoolingIndexer(v32.DeepseekV32Indexer):
    def forward(self, hidden_states, *args, **kwargs):
        batch, queries, _ = hidden_states.shape
        return torch.zeros(batch, queries, 3).topk(2).indices.to(torch.int32)


@pytest.mark.parametrize(
    ("indexer", "message"),
    [
        (
            UntoppedIndexer,
            r"DeepseekV32Attention \(model.layers.0.self_attn\): UntoppedIndexer .* selects without torch",
        ),
        (PoolingIndexer, r"PoolingIndexer \(model.layers.0.self_attn.indexer\) scores \[2, 40, 3\], not"),
    ],
)
def test_an_indexer_of_another_shape_is_named(indexer: type[nn.Module], message: str) -> None:
    model = tiny_dsa()
    for layer in model.model.layers:
        layer.self_attn.indexer.__class__ = indexer
    with pytest.raises(IndexscopeError, match=message):
        record(model, tokens(), LENGTH)


def test_padding_between_tokens_is_refused() -> None:
    mask = torch.ones(2, LENGTH, dtype=torch.int64)
    mask[0, 5] = 0
    with pytest.raises(IndexscopeError, match="padding between tokens"):
        record(tiny_llama(), tokens(), LENGTH, attention_mask=mask)
    mask[0, 6:] = 0
    mask[1, :3] = mask[1, -3:] = 0
    logits, _ = record(tiny_llama(), tokens(), 7, attention_mask=mask)
    assert difference(logits, own_logits(tiny_llama(), tokens(), mask), mask) < 1e-4


def test_queries_that_are_padding_have_no_keys_and_give_no_nan() -> None:
    mask = padded("left")
    for family in ("deepseek_v32", "hy_v4", "deepseek_v4", "minimax_m3"):
        _, seen = record(model_of(family), tokens(), 7, attention_mask=mask)
        for chunk in (c for chunks in seen.values() for c in chunks):
            blank = ~mask.bool()[:, chunk.start : chunk.start + chunk.query.shape[2]]
            eligible = chunk.eligible.expand(2, -1, -1, -1)[:, 0]
            assert not eligible[blank].any()
            assert eligible[~blank].any(-1).all()
            assert capture_sparse(chunk).isfinite().all()


def test_a_model_whose_attention_never_reaches_the_interface_is_named() -> None:
    model = tiny_llama()
    for layer in model.model.layers:
        layer.self_attn.forward = lambda hidden_states, **kwargs: (hidden_states, None)
    with pytest.raises(IndexscopeError, match="llama: none of its layers calls"):
        record(model, tokens(), LENGTH)


def test_a_cache_that_drops_what_the_model_attends_to_is_named() -> None:
    model = tiny_llama()
    model.config.sliding_window = 9
    record(model, tokens(), LENGTH)
    with pytest.raises(
        IndexscopeError, match=r"LlamaAttention \(model.layers.0.self_attn\): .* cache drop the first 6"
    ):
        record(model, tokens(), 7)
