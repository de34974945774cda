"""Every indexer family of transformers, captured exactly: against the model's own forward with its own attention."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from indexscope.analysis.capture import own_attention
from indexscope.analysis.capture.facts import model_facts
from indexscope.analysis.capture.indexer import WatchTopk, index_dim, index_heads, indexers
from indexscope.analysis.capture.model import CapturedModel
from tests.analysis.capture.tiny_families import EVERYTHING, FAMILIES, LENGTH, record, tokens

TOLERANCE = 1e-4  # of the largest logit; measured: below 1e-5
MODELS: dict[str, PreTrainedModel] = {}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def model_of(family: str) -> PreTrainedModel:
    if family not in MODELS:
        MODELS[family] = FAMILIES[family]()
    return MODELS[family]


def padded(side: str) -> torch.Tensor | None:
    """The second of two sequences is 13 tokens shorter."""
    if side == "none":
        return None
    mask = torch.ones(2, LENGTH, dtype=torch.int64)
    mask[1, slice(0, 13) if side == "left" else slice(LENGTH - 13, LENGTH)] = 0
    return mask


def own_logits(model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    with own_attention(model), torch.inference_mode():
        return model(input_ids=ids, attention_mask=mask).logits


def difference(one: torch.Tensor, other: torch.Tensor, mask: torch.Tensor | None = None) -> float:
    """Largest change of a logit of a token, of the largest logit."""
    change = (one.float() - other.float()).abs().amax(-1)
    return float((change if mask is None else change[mask.bool()]).max() / other.float().abs().max())


@contextmanager
def spied(model: PreTrainedModel) -> Iterator[tuple[dict[int, torch.Tensor], dict[str, WatchTopk]]]:
    """The masks that reach the model's own attention functions, by layer, and what its own indexers compute."""
    masks: dict[int, torch.Tensor] = {}
    watches: dict[str, WatchTopk] = {}
    home = sys.modules[type(model).__module__]
    before = {"sdpa": ALL_ATTENTION_FUNCTIONS["sdpa"], "eager": home.eager_attention_forward}

    def spy(function: Any) -> Any:
        def attend(module: Any, query: Any, key: Any, value: Any, mask: torch.Tensor | None, **kwargs: Any) -> Any:
            seen = torch.ones(1, 1, query.shape[2], key.shape[2], dtype=torch.bool).tril() if mask is None else mask
            masks[module.layer_idx] = seen if seen.dtype == torch.bool else seen > torch.finfo(seen.dtype).min / 2
            return function(module, query, key, value, mask, **kwargs)

        return attend

    def watch(path: str, indexer: torch.nn.Module) -> Any:
        forward = indexer.forward

        def watched(*args: Any, **kwargs: Any) -> Any:
            watches[path] = WatchTopk(heads=True)
            with watches[path]:
                return forward(*args, **kwargs)

        return watched

    found = {path: module for path, module in model.named_modules() if module in set(indexers(model))}
    forwards = {path: module.__dict__.get("forward") for path, module in found.items()}
    for path, module in found.items():
        module.forward = watch(path, module)
    ALL_ATTENTION_FUNCTIONS["sdpa"] = spy(before["sdpa"])
    home.eager_attention_forward = spy(before["eager"])
    try:
        with own_attention(model):
            yield masks, watches
    finally:
        ALL_ATTENTION_FUNCTIONS["sdpa"] = before["sdpa"]
        home.eager_attention_forward = before["eager"]
        for path, module in found.items():
            del module.forward
            if forwards[path] is not None:
                module.forward = forwards[path]


@pytest.mark.parametrize("side", ["none", "left", "right"])
@pytest.mark.parametrize("chunk", [7, 16, LENGTH])
def test_captured_logits_are_the_models_own(family: str, chunk: int, side: str) -> None:
    model, ids, mask = model_of(family), tokens(), padded(side)
    logits, _ = record(model, ids, chunk, attention_mask=mask)
    assert difference(logits, own_logits(model, ids, mask), mask) < TOLERANCE


@pytest.mark.parametrize("side", ["none", "left", "right"])
def test_selection_is_what_the_models_own_attention_sees(family: str, side: str) -> None:
    model, ids, mask = model_of(family), tokens(), padded(side)
    _, seen = record(model, ids, LENGTH, attention_mask=mask)
    with spied(model) as (masks, _), torch.inference_mode():
        model(input_ids=ids, attention_mask=mask)
    real = torch.ones(2, LENGTH, dtype=torch.bool) if mask is None else mask.bool()
    assert sorted(seen) == sorted(masks)
    for layer, (chunk,) in seen.items():
        attended = chunk.eligible if chunk.selected is None else chunk.selected
        attended = attended.expand(2, -1, -1, -1)
        own = masks[layer].expand(2, -1, -1, -1)
        own = own[:, :: own.shape[1] // attended.shape[1]] & real[:, None, :, None]
        assert torch.equal(attended, own)
        assert not (attended & ~chunk.eligible).any()
    selecting = [chunk for (chunk,) in seen.values() if chunk.selected is not None]
    assert selecting
    for chunk in selecting:
        assert (chunk.selected.sum(-1) < chunk.eligible.sum(-1)).float().mean() > 0.3, "selection is in effect"


def test_scores_and_head_scores_are_those_of_the_models_own_indexers(family: str) -> None:
    model, ids = model_of(family), tokens()
    _, seen = record(model, ids, LENGTH, head_scores=True)
    with spied(model) as (_, watches), torch.inference_mode():
        model(input_ids=ids)
    scored = {layer: chunk for layer, (chunk,) in seen.items() if chunk.scores is not None}
    assert len(scored) == len(watches) == len(indexers(model))
    for watch, chunk in zip(watches.values(), scored.values(), strict=True):
        if family == "qwen4_exp":
            rows = chunk.scores[chunk.scores.isfinite().any(-1)]
            own = torch.nn.utils.rnn.pad_sequence(watch.calls, True, -torch.inf)
        else:
            rows, own = chunk.scores, watch.calls[-1]
            own = own.masked_fill(own <= torch.finfo(own.dtype).min, -torch.inf).masked_fill(own.isinf(), -torch.inf)
        assert torch.equal(rows.isfinite(), own.isfinite())
        # Later layers' inputs differ by rounding between two attention functions.
        assert torch.allclose(rows, own, rtol=1e-4, atol=1e-4)
        if family == "minimax_m3":
            assert chunk.head_scores is None
            assert chunk.scores.shape[1] == index_heads(indexers(model)[0])
            continue
        assert chunk.head_scores.shape[:3] == (2, LENGTH, 8)
        assert (chunk.head_scores >= 0).all()
        summed = torch.einsum("bqj,bqjs->bqs", chunk.head_weights.double(), chunk.head_scores.double())
        finite = chunk.scores.isfinite()
        assert torch.allclose(summed[finite], chunk.scores.double()[finite], rtol=1e-5, atol=1e-5)


def test_head_scores_are_kept_only_when_asked_for(family: str) -> None:
    _, seen = record(model_of(family), tokens(), LENGTH)
    assert all(chunk.head_scores is None and chunk.head_weights is None for (chunk,) in seen.values())


@pytest.mark.parametrize("side", ["none", "left"])
def test_without_selection_the_model_is_its_dense_self(family: str, side: str) -> None:
    if family == "minimax_m3" and side == "left":
        pytest.skip("queries that are padding see other keys than in the dense model, and its indexer scores them")
    model, ids, mask = model_of(family), tokens(), padded(side)
    dense = FAMILIES[family](**EVERYTHING[family])
    dense.load_state_dict(model.state_dict())
    expected = own_logits(dense, ids, mask)
    for chunk in (7, LENGTH):
        logits, seen = record(model, ids, chunk, select=False, attention_mask=mask)
        assert difference(logits, expected, mask) < TOLERANCE
        assert all(c.selected is None and c.scores is None for chunks in seen.values() for c in chunks)
    assert difference(own_logits(model, ids, mask), expected, mask) > 0.01, "the selection matters"


@pytest.mark.parametrize("chunk", [7, 16])
def test_chunks_show_what_the_whole_sequence_shows(family: str, chunk: int) -> None:
    model, ids, mask = model_of(family), tokens(), padded("right")
    _, whole = record(model, ids, LENGTH, attention_mask=mask)
    _, pieces = record(model, ids, chunk, attention_mask=mask)
    for layer, (expected,) in whole.items():
        for piece in pieces[layer]:
            rows = slice(piece.start, piece.start + piece.query.shape[2])
            for name in ("scores", "chosen"):
                part, full = getattr(piece, name), getattr(expected, name)
                if part is None:
                    continue
                full = full[..., rows, :]
                later = full[..., part.shape[-1] :]
                assert not (later if name == "chosen" else later.isfinite()).any()
                full = full[..., : part.shape[-1]]
                assert torch.equal(part, full) if name == "chosen" else torch.allclose(part, full, rtol=1e-4, atol=1e-4)
            if expected.positions is None:
                for name in ("eligible", "selected", "always"):
                    part, full = getattr(piece, name), getattr(expected, name)
                    assert (part is None) == (full is None)
                    if part is not None:
                        last = rows.stop
                        full = full[..., rows, last - part.shape[-1] : last].expand(*part.shape)
                        assert torch.equal(part, full)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 9])
def test_short_sequences(family: str, length: int) -> None:
    model, ids = model_of(family), tokens(length)
    expected = own_logits(model, ids)
    for chunk in (3, LENGTH):
        logits, seen = record(model, ids, chunk, head_scores=True)
        assert difference(logits, expected) < TOLERANCE
        for chunks in seen.values():
            assert all(c.eligible.any(-1).all() for c in chunks)
            assert all(c.selected is None or c.selected.any(-1).all() for c in chunks)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2**-6), (torch.float16, 2**-9)])
def test_half_precision_costs_no_more_than_the_precision_does(
    family: str, dtype: torch.dtype, tolerance: float
) -> None:
    """Half of the queries agree within the type's rounding; where a score passes the k-th, a query moves further."""
    model, ids = FAMILIES[family]().to(dtype), tokens()
    single = FAMILIES[family]()
    single.load_state_dict({name: value.float() for name, value in model.state_dict().items()})
    with spied(model) as (_, watches), torch.inference_mode():
        own = model(input_ids=ids).logits.float()
    logits, seen = record(model, ids, LENGTH)

    def change(other: torch.Tensor) -> torch.Tensor:
        return (other.float() - own).abs().amax(-1) / own.abs().max()

    moved, rounded = change(logits), change(own_logits(single, ids))
    assert float(moved.median()) < tolerance
    assert (moved > 4 * tolerance).float().mean() <= (rounded > 4 * tolerance).float().mean() + 0.1
    first = seen[min(seen)][0].scores
    if first is not None and family != "qwen4_exp":
        own_scores = next(iter(watches.values())).calls[-1]
        finite = first.isfinite()
        assert torch.equal(first[finite], own_scores[finite].float()), "the first layer's are bitwise equal"


def test_facts_come_from_the_family_s_own_names(family: str) -> None:
    model = model_of(family)
    facts = model_facts(model).row(0, named=True)
    fitted = indexers(model)
    assert facts["indexer_layers"] == len(fitted)
    assert (facts["indexer_heads"], facts["indexer_dim"]) == (index_heads(fitted[0]), index_dim(fitted[0]))
    assert facts["indexer_heads"] == (2 if family == "minimax_m3" else 8)
    assert facts["index_topk"] == {"deepseek_v4": 3, "minimax_m3": 12}.get(family, 8)
    captured = CapturedModel(model)
    assert (captured.index_topk, captured.vocabulary, captured.max_length) == (facts["index_topk"], 97, 512)
    assert captured.has_indexer
    skipped = {"glm5_next": 0, "qwen4_exp": 1}
    notes = f"layer {skipped.get(family)} (linear attention) has no attention map and is skipped"
    assert captured.notes == ((notes,) if family in skipped else ())
