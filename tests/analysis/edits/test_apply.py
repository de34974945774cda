"""Edited models run as edited: equal to models that were made so, and given back to the bit."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from indexscope import IndexscopeError
from indexscope.analysis.capture import CapturedModel, capture_sparse, own_attention
from indexscope.analysis.capture.audit import audit_causality
from indexscope.analysis.capture.indexer import indexers
from indexscope.analysis.edits.apply import apply_edit, edited
from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.edits.places import places_of
from tests.analysis.capture.tiny_architectures import DENSE, tiny
from tests.analysis.capture.tiny_families import FAMILIES, LENGTH, glm_moe_dsa, record, tokens

BY_TOKEN = ("deepseek_v32", "glm_moe_dsa", "axk2", "dots3_note", "hy_v4", "mistral_large4")
EVERY_KIND = [
    Edit(topk=5),
    Edit(precision="fp8"),
    Edit(precision="fp4", topk={"default": 6, 0: 3}),
    Edit(selector="oracle"),
    Edit(selector="random", topk=4),
    Edit(selector={"recent": {"window": 3, "sink": 2}}),
    Edit(selector={"block": {"size": 4, "keep": 2}}),
    Edit(selector={"two_stage": {"block": 4, "keep": 3}}),
]


def logits_of(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    with own_attention(model), torch.inference_mode():
        return model(input_ids=ids, use_cache=False).logits


def state(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same_state(model: PreTrainedModel, before: dict[str, torch.Tensor]) -> bool:
    now = model.state_dict()
    return now.keys() == before.keys() and all(torch.equal(now[name], before[name]) for name in before)


@pytest.mark.parametrize("family", BY_TOKEN)
def test_an_edit_that_changes_nothing_is_bit_equal_to_the_model(family: str) -> None:
    model, ids = FAMILIES[family](), tokens()
    before = logits_of(model, ids)
    everything = {
        layer: tuple(range(place.indexer.n_heads)) for layer, place in places_of(model).items() if place.indexer
    }
    for edit in (Edit(), Edit(indexer_heads=everything, topk=8, selector="learned")):
        with edited(model, edit):
            assert torch.equal(logits_of(model, ids), before)


@pytest.mark.parametrize("family", BY_TOKEN)
def test_a_model_is_given_back_to_the_bit_whatever_was_edited(family: str) -> None:
    model, ids = FAMILIES[family](), tokens()
    layers = [layer for layer, place in places_of(model).items() if place.indexer]
    before, weights = logits_of(model, ids), state(model)
    for edit in (*EVERY_KIND, Edit(indexer_heads={layers[0]: (1,), layers[-1]: (0, 6)}, precision="int8")):
        with edited(model, edit):
            assert not torch.equal(logits_of(model, ids), before), edit
        assert torch.equal(logits_of(model, ids), before), edit
        assert same_state(model, weights), edit


@pytest.mark.parametrize("family", BY_TOKEN)
def test_dropping_heads_equals_a_checkpoint_built_by_hand_without_them(family: str) -> None:
    model, ids = FAMILIES[family](), tokens()
    kept = (2, 5)
    by_hand = FAMILIES[family](index_n_heads=len(kept))
    weights = dict(model.state_dict())
    for name, small in by_hand.state_dict().items():
        if small.shape != weights[name].shape:
            rows = len(small) // len(kept)
            weights[name] = torch.cat([weights[name][head * rows : (head + 1) * rows] for head in kept])
    by_hand.load_state_dict(weights)
    layers = [layer for layer, place in places_of(model).items() if place.indexer]
    apply_edit(model, Edit(indexer_heads=dict.fromkeys(layers, kept)))
    assert torch.equal(logits_of(model, ids), logits_of(by_hand, ids))
    ours, theirs = record(model, ids, 16)[1], record(by_hand, ids, 16)[1]
    for layer in layers:
        for one, other in zip(ours[layer], theirs[layer], strict=True):
            assert torch.equal(one.selected, other.selected)
            assert torch.equal(one.scores, other.scores)


def test_sharing_equals_a_checkpoint_that_was_saved_with_shared_layers() -> None:
    model, ids = glm_moe_dsa(indexer_types=["full"] * 4), tokens()
    shared = glm_moe_dsa(indexer_types=["full", "shared", "shared", "full"])
    shared.load_state_dict({name: model.state_dict()[name] for name in shared.state_dict()})
    apply_edit(model, Edit(share="FSSF"))
    assert torch.equal(logits_of(model, ids), logits_of(shared, ids))
    assert len(indexers(model)) == len(indexers(shared)) == 2
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in shared.parameters())


@pytest.mark.parametrize("edit", EVERY_KIND, ids=str)
@pytest.mark.parametrize("share", ["", "FSF", "FSS"])
def test_layers_that_share_select_what_their_source_selects(edit: Edit, share: str) -> None:
    model, ids = FAMILIES["deepseek_v32"](), tokens()
    apply_edit(model, edit.model_copy(update={"share": share}))
    _, seen = record(model, ids, 16)
    own = edit.model_copy(update={"share": share}).sources(range(3))
    for layer, source in own.items():
        for one, other in zip(seen[layer], seen[source], strict=True):
            assert torch.equal(one.selected, other.selected)
    if not share and edit.selector.name != "recent":
        assert any(not torch.equal(a.selected, b.selected) for a, b in zip(seen[0], seen[1], strict=True))


def test_each_layer_selects_as_many_keys_as_the_edit_says() -> None:
    model, ids = FAMILIES["deepseek_v32"](), tokens()
    apply_edit(model, Edit(topk={"default": 5, 1: 11}))
    _, seen = record(model, ids, LENGTH)
    n = torch.arange(1, LENGTH + 1)
    for layer, k in ((0, 5), (1, 11), (2, 5)):
        assert torch.equal(seen[layer][0].selected.sum(-1)[0, 0], n.clamp_max(k))
    assert CapturedModel(model).index_topk == 11


@pytest.mark.parametrize("edit", EVERY_KIND, ids=str)
@pytest.mark.parametrize("family", BY_TOKEN)
def test_a_sequence_in_chunks_gives_what_it_gives_whole(family: str, edit: Edit) -> None:
    model, ids = FAMILIES[family](), tokens()
    apply_edit(model, edit)
    (logits, whole), (_, chunked) = record(model, ids, LENGTH), record(model, ids, 7)
    for layer in places_of(model):
        padded = [nn.functional.pad(one.selected, (0, LENGTH - one.selected.shape[-1])) for one in chunked[layer]]
        apart = (torch.cat(padded, 2) != whole[layer][0].selected).sum() / whole[layer][0].selected.sum()
        assert apart < 0.01, (layer, apart)  # what rounds to equal scores is chosen either way
    assert (logits - logits_of(model, ids)).abs().amax(-1).quantile(0.8) < 2e-4


@pytest.mark.parametrize("edit", EVERY_KIND, ids=str)
def test_padding_changes_nothing(edit: Edit) -> None:
    model, ids = FAMILIES["deepseek_v32"](), tokens()
    apply_edit(model, edit)
    # What goes by places in the sequence, and roundings of rotated keys, see another sequence behind padding.
    left = edit.precision is None and edit.selector.name not in ("random", "block", "two_stage")
    pad, mask = torch.zeros((2, 5), dtype=torch.int64), torch.ones((2, LENGTH + 5), dtype=torch.int64)
    padded = torch.cat([pad, ids] if left else [ids, pad], 1)
    mask[:, slice(0, 5) if left else slice(LENGTH, None)] = 0
    real = slice(5, None) if left else slice(0, LENGTH)
    plain, _ = record(model, ids, LENGTH)
    found, _ = record(model, padded, LENGTH + 5, attention_mask=mask)
    assert torch.allclose(plain, found[:, real], atol=2e-4)


@pytest.mark.parametrize("edit", EVERY_KIND, ids=str)
def test_no_edit_lets_a_query_see_the_future(edit: Edit) -> None:
    model = FAMILIES["deepseek_v32"]()
    apply_edit(model, edit)
    audit = audit_causality(model, [tokens(batch=1)[0].tolist()]).row(0, named=True)
    assert audit["passed"] and audit["future_selected"] == 0


def test_the_dense_reference_of_an_edited_model_is_that_of_the_model() -> None:
    ids = tokens()
    dense, _ = record(FAMILIES["deepseek_v32"](), ids, 16, select=False)
    for edit in (*EVERY_KIND, Edit(share="FSS", indexer_heads={0: (3,)})):
        model = FAMILIES["deepseek_v32"]()
        apply_edit(model, edit)
        assert torch.equal(record(model, ids, 16, select=False)[0], dense)


@pytest.mark.parametrize("edit", [Edit(share="FSS"), *EVERY_KIND], ids=str)
def test_threads_that_share_an_edited_model_do_not_see_each_others_selections(edit: Edit) -> None:
    model = FAMILIES["deepseek_v32"]()
    apply_edit(model, edit)
    batches = [tokens(batch=1, seed=seed) for seed in range(4)]
    alone = [record(model, ids, 8)[0] for ids in batches]
    found: dict[int, list[torch.Tensor]] = {place: [] for place in range(4)}

    def work(place: int) -> None:
        for _ in range(3):
            found[place].append(record(model, batches[place], 8)[0])

    workers = [threading.Thread(target=work, args=(place,)) for place in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(torch.equal(one, alone[place]) for place in range(4) for one in found[place])


@pytest.mark.parametrize("name", sorted(set(DENSE) - {"llama4_text"}))
def test_dense_models_of_every_architecture_select(name: str) -> None:
    model = tiny(name)
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    ids = torch.randint(vocabulary, (1, 24), generator=torch.Generator().manual_seed(3))
    before = logits_of(model, ids)
    places = places_of(model)
    source = CapturedModel(model)
    with edited(model, Edit(selector="oracle", topk=64)):
        assert source.has_indexer and source.index_topk == 64
        assert torch.allclose(record(model, ids, 24)[0], before, atol=2e-4)  # all of it selected
    with edited(model, Edit(selector="oracle", topk=4)):
        _, seen = record(model, ids, 24)
        assert places.keys() == {layer for layer, chunks in seen.items() if chunks[0].selected is not None}
        for layer in places:
            counts = seen[layer][0].selected.sum(-1)[0, 0]
            assert torch.equal(counts, seen[layer][0].eligible.sum(-1)[0, 0].clamp_max(4))
    assert torch.equal(logits_of(model, ids), before)


def test_a_model_whose_layers_all_see_a_part_of_the_context_is_refused() -> None:
    with pytest.raises(IndexscopeError, match="no layer that sees the whole context"):
        apply_edit(tiny("llama4_text"), Edit(selector="oracle", topk=4))


def test_an_audit_copies_an_edited_model() -> None:
    model = FAMILIES["deepseek_v32"]()
    apply_edit(model, Edit(share="FSS", precision="fp8", selector={"two_stage": {"block": 4, "keep": 3}}))
    other = copy.deepcopy(model)
    ids = tokens()
    assert torch.equal(logits_of(other, ids), logits_of(model, ids))
    assert not any(module in set(model.modules()) for module in other.modules())


IMPOSSIBLE = [
    (Edit(indexer_heads={0: (9,)}), "edit.indexer_heads.0: there is no indexer head 9; layer 0 has 8"),
    (Edit(indexer_heads={7: (0,)}), "edit.indexer_heads.7: layer 7 has no indexer"),
    (Edit(indexer_heads={1: (0,)}, share="FSF"), "edit.indexer_heads.1: layer 1 takes the selection of layer 0"),
    (Edit(share="FS"), "edit.share: has 2 letters for 3 layers"),
    (Edit(topk={5: 3}), "edit.topk.5: there is no layer 5 that selects"),
    (Edit(topk={1: 3}, share="FSF"), "edit.topk.1: layer 1 takes the selection of layer 0"),
    (Edit(topk=3, selector="recent"), "edit.topk: the keys of the selector recent follow from its window and sink"),
    (Edit(precision="fp8", selector="oracle"), "edit.precision: does nothing where the selector is oracle"),
]


@pytest.mark.parametrize(("edit", "words"), IMPOSSIBLE, ids=[words for _, words in IMPOSSIBLE])
def test_an_impossible_edit_is_one_line_and_leaves_the_model_as_it_was(edit: Edit, words: str) -> None:
    model, ids = FAMILIES["deepseek_v32"](), tokens()
    before = logits_of(model, ids)
    with pytest.raises(IndexscopeError) as caught:
        apply_edit(model, edit)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert torch.equal(logits_of(model, ids), before)


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - set(BY_TOKEN)))
def test_families_whose_entries_are_pools_are_refused_by_name(family: str) -> None:
    with pytest.raises(IndexscopeError, match="as one entry"):
        apply_edit(FAMILIES[family](), Edit(topk=3))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (Edit(topk=4), "edit.selector: the model has no indexer"),
        (Edit(selector="oracle"), "edit.topk: the model has no indexer that says how many keys"),
        (Edit(selector="block"), "edit.selector: block needs index scores"),
        (Edit(selector="oracle", topk=4, share="FSF"), "edit.share: has 3 letters for 2 layers"),
    ],
)
def test_what_a_dense_model_cannot_do_is_one_line(edit: Edit, words: str) -> None:
    model = tiny("llama")
    with pytest.raises(IndexscopeError) as caught:
        apply_edit(model, edit)
    assert words in str(caught.value)


def test_a_layer_that_shares_by_nature_takes_what_the_selector_of_its_source_selects() -> None:
    ids = tokens()
    for edit in EVERY_KIND[-2:]:
        model = glm_moe_dsa()  # full, shared, full, shared
        apply_edit(model, edit)
        _, seen = record(model, ids, LENGTH)
        assert torch.equal(seen[1][0].selected, seen[0][0].selected), edit
        assert torch.equal(seen[3][0].selected, seen[2][0].selected), edit
        assert capture_sparse(seen[1][0]).isfinite().all()


def test_modules_that_stand_in_are_no_indexers() -> None:
    model = FAMILIES["deepseek_v32"]()
    apply_edit(model, Edit(share="FSS"))
    assert len(indexers(model)) == 1
    assert isinstance(places_of(model)[1].attention.indexer, nn.Module)
