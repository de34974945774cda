"""Edits of a model under a fitted indexer: as of the model's own indexer, where that has the same weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from indexscope import IndexscopeError
from indexscope.analysis.capture import AttentionChunk
from indexscope.analysis.capture.facts import model_facts
from indexscope.analysis.capture.layers import layer_facts
from indexscope.analysis.edits.apply import apply_edit, edited
from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.fitting.fitted import FittedIndexer, weights_of
from indexscope.analysis.fitting.places import places_of, shape_at
from indexscope.analysis.fitting.scorer import LightningScorer
from indexscope.analysis.fitting.selector import lay_over
from tests.analysis.capture.tiny_families import FAMILIES, LENGTH, record, tokens
from tests.analysis.edits.test_apply import EVERY_KIND, logits_of

EDITS = [
    *EVERY_KIND,
    Edit(indexer_heads={0: (1, 4), 2: (7,)}),
    Edit(share="FSF", precision="int8", topk=5),
    Edit(share="FSS", selector={"block": {"size": 4, "keep": 2}}),
    Edit(indexer_heads={0: (1, 4)}, share="FSS", selector={"two_stage": {"block": 4, "keep": 3}}, precision="fp8"),
]


def under_its_own() -> PreTrainedModel:
    """The tiny deepseek_v32 with indexers of its own weights laid over it."""
    model = FAMILIES["deepseek_v32"]()
    own = {layer: block.self_attn.indexer for layer, block in enumerate(model.model.layers)}
    places = places_of(model)
    scorers = {layer: LightningScorer(shape_at(places.widths[layer], 8, 16)) for layer in own}
    for layer, indexer in own.items():
        scorers[layer].load_state_dict(indexer.state_dict())
    shapes = {layer: scorer.shape for layer, scorer in scorers.items()}
    return lay_over(model, FittedIndexer(8, 16, (8,), shapes, weights_of(scorers)), 8)


def differing(one: AttentionChunk, other: AttentionChunk) -> torch.Tensor:
    """Keys that only one selects; of scores that are equal at zero, as ReLU makes them, either may take others."""
    apart = one.selected != other.selected
    if one.scores is None or one.scores.shape != one.selected[:, 0].shape:
        return apart
    return apart & (one.scores != 0)[:, None]


@pytest.mark.parametrize("edit", EDITS, ids=str)
def test_an_edit_of_a_fitted_indexer_is_that_of_the_models_own(edit: Edit) -> None:
    fitted, own, ids = under_its_own(), FAMILIES["deepseek_v32"](), tokens()
    apply_edit(fitted, edit)
    apply_edit(own, edit)
    for chunk in (LENGTH, 7):
        ours, theirs = record(fitted, ids, chunk)[1], record(own, ids, chunk)[1]
        # With few heads many scores are zero: once other keys are chosen among them, later layers see other states.
        for layer in range(1 if edit.indexer_heads else 3):
            pairs = list(zip(ours[layer], theirs[layer], strict=True))
            apart = sum(int(differing(one, other).sum()) for one, other in pairs)
            assert apart <= 0.01 * sum(int(one.selected.sum()) for one, _ in pairs), layer
            if layer == 0 and pairs[0][1].scores is not None:
                for one, other in pairs:
                    assert one.scores is not None
                    assert torch.allclose(one.scores, other.scores, atol=2e-4, rtol=1e-4)
    assert (logits_of(fitted, ids) - record(fitted, ids, LENGTH)[0]).abs().amax(-1).quantile(0.8) < 2e-4


@pytest.mark.parametrize("edit", EDITS, ids=str)
def test_a_model_under_a_fitted_indexer_is_given_back_to_the_bit(edit: Edit) -> None:
    model, ids = under_its_own(), tokens()
    before, names = logits_of(model, ids), list(model.state_dict())
    with edited(model, edit):
        assert not torch.equal(logits_of(model, ids), before)
        copied = copy.deepcopy(model)
        assert torch.equal(logits_of(copied, ids), logits_of(model, ids))
    assert torch.equal(logits_of(model, ids), before)
    assert sorted(model.state_dict()) == sorted(names)


def test_what_is_left_of_a_fitted_indexer_is_what_counts() -> None:
    model = under_its_own()
    apply_edit(model, Edit(indexer_heads={0: (1,), 2: (0, 3)}, topk={"default": 5, 2: 9}, share="FSF", precision="fp4"))
    facts, layers = model_facts(model).row(0, named=True), layer_facts(model)
    assert layers["indexer_heads"].to_list() == [1, None, 2]
    assert layers["index_topk"].to_list() == [5, 5, 9]
    one, two = (heads * 16 * 32 + 48 * 16 + 2 * 16 + 48 * heads for heads in (1, 2))
    assert facts["indexer_parameters"] == one + two
    assert facts["indexer_precision"] == "fp4"


def test_heads_that_a_fitted_indexer_lacks_are_refused() -> None:
    model = under_its_own()
    with pytest.raises(IndexscopeError, match="there is no indexer head 8; layer 0 has 8"):
        apply_edit(model, Edit(indexer_heads={0: (8,)}))
    assert isinstance(model.model.layers[0].self_attn.indexscope_scorer, nn.Module)
