"""What each selector selects, beside slow references written from its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from indexscope.analysis.capture import AttentionChunk
from indexscope.analysis.edits.apply import apply_edit
from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.edits.selectors import highest, scrambled
from indexscope.analysis.features import extract_samples
from indexscope.analysis.features.rows import AttentionRows
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.samples import Sample
from tests.analysis.capture.tiny_families import FAMILIES, LENGTH, record, tokens


def layers_of(edit: Edit) -> tuple[dict[int, AttentionChunk], dict[int, AttentionChunk]]:
    """Whole chunks of the tiny model as edited, and as it is, whose first layer sees the same hidden states."""
    model, ids = FAMILIES["deepseek_v32"](), tokens()
    _, before = record(model, ids, LENGTH, head_scores=True)
    apply_edit(model, edit)
    _, after = record(model, ids, LENGTH)
    return {layer: chunks[0] for layer, chunks in after.items()}, {layer: one[0] for layer, one in before.items()}


def test_the_oracle_keeps_the_keys_with_most_attention() -> None:
    after, _ = layers_of(Edit(selector="oracle", topk=6))
    for chunk in after.values():
        p = AttentionRows(chunk).mean.double().numpy()
        for batch in range(2):
            for t in range(LENGTH):
                best = set(np.argsort(-p[batch, t, : t + 1], kind="stable")[:6].tolist())
                assert set(torch.nonzero(chunk.selected[batch, 0, t])[:, 0].tolist()) == best


def test_the_recall_of_the_oracle_is_the_oracle_recall() -> None:
    model = FAMILIES["deepseek_v32"]()
    apply_edit(model, Edit(selector="oracle"))
    _, seen = record(model, tokens(batch=1), LENGTH)
    for chunk in (chunks[0] for chunks in seen.values()):
        p, own = AttentionRows(chunk).mean[0], chunk.selected[0, 0]
        mass = (p * own).sum(-1)
        best = p.sort(-1, descending=True).values.cumsum(-1)[torch.arange(LENGTH), own.sum(-1) - 1]
        assert torch.allclose(mass, best, atol=1e-6)


def test_recent_keys_are_the_last_and_the_first() -> None:
    after, _ = layers_of(Edit(selector={"recent": {"window": 5, "sink": 2}}))
    for chunk in after.values():
        for t in range(LENGTH):
            wanted = [s for s in range(t + 1) if s < 2 or s > t - 5]
            assert torch.nonzero(chunk.selected[0, 0, t])[:, 0].tolist() == wanted


def test_random_keys_are_drawn_evenly_and_differ_between_layers_and_seeds() -> None:
    chosen = {}
    for seed in range(40):
        after, _ = layers_of(Edit(selector={"random": {"seed": seed}}, topk=4))
        for layer, chunk in after.items():
            chosen[seed, layer] = chunk.selected[0, 0]
            counts = chunk.selected[0, 0].sum(-1)
            assert torch.equal(counts, torch.arange(1, LENGTH + 1).clamp_max(4))
    last = torch.stack([mask[-1] for mask in chosen.values()]).sum(0).numpy()
    assert last.sum() == 4 * len(chosen)
    assert chisquare(last).pvalue > 1e-4
    masks = list(chosen.values())
    overlap = np.mean([float((masks[i][-1] & masks[i + 1][-1]).sum()) / 4 for i in range(len(masks) - 1)])
    assert abs(overlap - 4 / LENGTH) < 0.05


@given(st.integers(0, 2**31), st.integers(0, 2**20))
def test_scrambled_numbers_are_distinct_and_not_negative(start: int, step: int) -> None:
    numbers = start + (step + 1) * torch.arange(50)
    found = scrambled(numbers)
    assert len(found.unique()) == 50 and int(found.min()) >= 0


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_blocks_are_kept_by_their_pooled_scores_and_the_own_block_always(pool: str) -> None:
    size, keep = 4, 3
    after, before = layers_of(Edit(selector={"block": {"size": size, "keep": keep, "pool": pool}}))
    scores = before[0].scores.double().numpy()
    for batch in range(2):
        for t in range(LENGTH):
            row, own = scores[batch, t, : t + 1], t // size
            blocks = [row[b * size : (b + 1) * size] for b in range(own)]
            pooled = [block.max() if pool == "max" else block.mean() for block in blocks]
            kept = {own, *sorted(range(own), key=lambda b: (-pooled[b], b))[: keep - 1]}
            wanted = [s for s in range(t + 1) if s // size in kept]
            assert torch.nonzero(after[0].selected[batch, 0, t])[:, 0].tolist() == wanted
    entries = after[0].entries
    assert entries is not None and entries.kind == "block"
    assert entries.last[0].tolist() == [min(s + size - 1, LENGTH - 1) for s in range(0, LENGTH, size)]


@torch.inference_mode()
def test_two_stages_pick_blocks_by_the_score_of_their_mean_key_then_keys() -> None:
    size, keep, k = 4, 3, 6
    after, before = layers_of(Edit(selector={"two_stage": {"block": size, "keep": keep}}, topk=k))
    model, ids = FAMILIES["deepseek_v32"](), tokens()
    indexer, caught = model.model.layers[0].self_attn.indexer, {}
    handle = indexer.register_forward_pre_hook(
        lambda module, args, kwargs: caught.update(kwargs, args=args), with_kwargs=True
    )
    record(model, ids, LENGTH)
    handle.remove()
    hidden, latent, (cos, sin) = caught["args"][0].clone(), caught["args"][1].clone(), caught["args"][2]
    rope = indexer.qk_rope_head_dim

    def turned(x: torch.Tensor) -> torch.Tensor:  # [batch, tokens, heads, width], rotated in two halves
        a, b = x[..., : rope // 2], x[..., rope // 2 : rope]
        c, s = cos[..., : rope // 2].unsqueeze(2), sin[..., : rope // 2].unsqueeze(2)
        return torch.cat([a * c - b * s, b * c + a * s, x[..., rope:]], -1)

    query = turned(indexer.wq_b(latent).view(2, LENGTH, 8, 16)).double()
    key = turned(indexer.k_norm(indexer.wk(hidden)).unsqueeze(2))[:, :, 0].double()
    weights = indexer.weights_proj(hidden).double()
    scores = before[0].scores.double()
    for batch in range(2):
        for t in range(LENGTH):
            own = t // size
            means = [key[batch, b * size : (b + 1) * size].mean(0) for b in range(own)]
            pooled = [float(weights[batch, t] @ torch.relu(query[batch, t] @ mean)) for mean in means]
            kept = {own, *sorted(range(own), key=lambda b: (-pooled[b], b))[: keep - 1]}
            inside = [s for s in range(t + 1) if s // size in kept]
            wanted = sorted(sorted(inside, key=lambda s: (-float(scores[batch, t, s]), s))[:k])
            assert torch.nonzero(after[0].selected[batch, 0, t])[:, 0].tolist() == wanted
            outside = [s for s in range(LENGTH) if s not in inside]
            assert bool(after[0].scores[batch, t, outside].isneginf().all())


def test_two_stages_that_keep_every_block_select_as_the_indexer_does() -> None:
    after, before = layers_of(Edit(selector={"two_stage": {"block": 4, "keep": 10}}))
    assert torch.equal(after[0].selected, before[0].selected)
    assert torch.equal(after[2].selected, before[2].selected)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(0, 14), st.data())
def test_the_highest_are_the_first_among_equals(row: list[int], k: int, data: st.DataObject) -> None:
    up = data.draw(st.lists(st.booleans(), min_size=len(row), max_size=len(row)))
    mask = highest(torch.tensor([[row]]).float(), torch.tensor([[[up]]]), k)
    order = sorted((place for place in range(len(row)) if up[place]), key=lambda place: (-row[place], place))
    assert torch.nonzero(mask[0, 0, 0])[:, 0].tolist() == sorted(order[:k])


def test_extraction_measures_an_edited_model_like_any_other() -> None:
    model = FAMILIES["deepseek_v32"]()
    apply_edit(model, Edit(selector="oracle"))
    samples = [Sample(0, "a", tuple(tokens(batch=1)[0].tolist()))]
    found = extract_samples(model, samples, ExtractSettings())["indexer"].sum()
    assert found["selection_recall"][0] == pytest.approx(found["oracle_recall"][0], rel=1e-6)
