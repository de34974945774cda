from __future__ import annotations

import pytest
import torch
from polars.testing import assert_frame_equal
from transformers import PreTrainedModel

from indexscope import IndexscopeError
from indexscope.analysis.capture import AttentionChunk, CapturedModel, capture_sparse, own_attention
from indexscope.analysis.capture.whole import CONTINUES, continues
from indexscope.analysis.settings import ExtractSettings
from tests.analysis.capture.tiny_architectures import DENSE, HYBRID, UNCAPTURED, WINDOW, tiny
from tests.analysis.samples import samples

IDS = torch.randint(1, 97, (2, 40), generator=torch.Generator().manual_seed(1))
# Rounding grows with the logits, which some families scale up.
TOLERANCE = 1e-5
SLIDING_LAYERS = {
    "gemma2": [0], "gemma3_text": [0, 1], "gpt_oss": [0], "mistral": [0, 1], "olmo3": [0], "cohere2": [0],
    "starcoder2": [0, 1], "exaone4": [0], "recurrent_gemma": [1],
}  # fmt: skip


def own_logits(model: PreTrainedModel) -> torch.Tensor:
    with own_attention(model), torch.inference_mode():
        return model(input_ids=IDS, use_cache=False).logits


def captured(model: PreTrainedModel, chunk: int) -> tuple[torch.Tensor, list[AttentionChunk]]:
    seen: list[AttentionChunk] = []

    def observe(part: AttentionChunk) -> torch.Tensor:
        seen.append(part)
        return capture_sparse(part)

    return torch.cat([logits for _, logits in CapturedModel(model).run(IDS, observe, chunk)], 1), seen


def probabilities(chunk: AttentionChunk) -> torch.Tensor:
    """The softmax that a chunk tells of, learned sinks in its denominator, over all tokens so far."""
    logits = chunk.logits().masked_fill(~chunk.eligible, -torch.inf)
    if chunk.sinks is not None:
        sinks = chunk.sinks.float().view(1, -1, 1, 1).expand(*logits.shape[:3], 1)
        logits = torch.cat([logits, sinks], -1)
    p = logits.softmax(-1)[..., : chunk.key.shape[2]]
    before = chunk.start + chunk.query.shape[2] - p.shape[3]
    return torch.nn.functional.pad(p, (before, IDS.shape[1] - before - p.shape[3]))


def eager_attention(name: str) -> list[torch.Tensor]:
    """Attention maps of the layers that attend, from the model's own eager code."""
    model = tiny(name)
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        maps = model(input_ids=IDS, output_attentions=True, use_cache=False).attentions
    # MiniMax returns something for its linear layers too.
    return [a for a in maps if a is not None and a.dim() == 4 and a.shape[-2:] == (40, 40)]


@pytest.mark.parametrize("name", [*DENSE, *HYBRID])
def test_logits_and_attention_maps_are_the_models_own(name: str) -> None:
    model = tiny(name)
    own, maps = own_logits(model), eager_attention(name)
    layers = HYBRID[name][1] if name in HYBRID else list(range(model.config.num_hidden_layers))
    for chunk in (7, 64):
        logits, seen = captured(model, chunk)
        assert float((logits - own).abs().max()) <= TOLERANCE * max(1.0, float(own.abs().max())), chunk
        assert sorted({part.layer for part in seen}) == layers
        assert len(maps) == len(layers)
        assert max(part.query.shape[2] for part in seen) == min(chunk, 40)
        for layer, expected in zip(layers, maps, strict=True):
            found = torch.cat([probabilities(part) for part in seen if part.layer == layer], 2)
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
            assert float(expected.std()) > 1e-2, "a map that says nothing proves nothing"


@pytest.mark.parametrize("name", SLIDING_LAYERS)
def test_windows_are_honoured(name: str) -> None:
    maps = eager_attention(name)
    _, seen = captured(tiny(name), 7)
    layers = sorted({part.layer for part in seen})
    beyond = torch.ones(40, 40, dtype=torch.bool).tril(-WINDOW)
    for part in seen:
        queries, keys = part.eligible.shape[2:]
        t = torch.arange(part.start, part.start + queries)
        s = torch.arange(part.start + queries - keys, part.start + queries)
        window = WINDOW if part.layer in SLIDING_LAYERS[name] else 40
        distance = t[:, None] - s
        assert torch.equal(part.eligible[0, 0], (distance >= 0) & (distance < window))
        outside = maps[layers.index(part.layer)][..., beyond].abs().max()
        assert (float(outside) == 0.0) == (part.layer in SLIDING_LAYERS[name])


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt_oss", "deepseek_v3", "qwen3", "bamba"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_near_to_the_models_own_as_its_own_eager_is(name: str, dtype: torch.dtype) -> None:
    model = tiny(name).to(dtype)
    own = own_logits(model).float()
    exact = own_logits(tiny(name)).float()
    scale = float((own - exact).abs().max())
    for chunk in (7, 64):
        logits, _ = captured(model, chunk)
        assert logits.dtype == dtype
        assert float((logits.float() - own).abs().max()) <= 2 * scale


@pytest.mark.parametrize("name", [*HYBRID, "llama", "gpt2", "gpt_oss", "gemma2"])
@pytest.mark.parametrize("padded", [slice(0, 17), slice(23, 40)], ids=["left", "right"])
def test_padding_changes_no_logit_of_a_token(name: str, padded: slice) -> None:
    model, mask = tiny(name), torch.ones_like(IDS)
    mask[1, padded] = 0
    with own_attention(model), torch.inference_mode():
        own = model(input_ids=IDS, attention_mask=mask, use_cache=False).logits
    for chunk in (7, 64):
        run = CapturedModel(model).run(IDS, capture_sparse, chunk, attention_mask=mask)
        change = (torch.cat([logits for _, logits in run], 1) - own).abs().amax(-1)[mask.bool()]
        assert float(change.max()) <= TOLERANCE * max(1.0, float(own.abs().max()))


def test_every_model_that_goes_on_from_chunk_to_chunk_is_tested_here() -> None:
    assert set(HYBRID) > CONTINUES
    assert not continues(tiny("bamba"))
    assert continues(tiny("qwen3_next"))
    assert continues(tiny("llama"))


@pytest.mark.parametrize("name", HYBRID)
def test_layers_without_an_attention_map_are_named(name: str) -> None:
    notes = CapturedModel(tiny(name)).notes
    _, _, skipped = HYBRID[name]
    for layer in skipped:
        assert any(note.startswith(f"layer {layer} (") and note.endswith("is skipped") for note in notes)
    assert sum("is skipped" in note for note in notes) == len(skipped)


def test_a_model_that_runs_at_once_says_so() -> None:
    assert any("each sequence runs at once" in note for note in CapturedModel(tiny("jamba")).notes)


def test_a_dense_model_has_nothing_to_note() -> None:
    assert CapturedModel(tiny("llama")).notes == ()


@pytest.mark.parametrize("name", ["bamba", "jamba", "recurrent_gemma", "qwen3_next", "inkling_text", "afmoe"])
def test_features_do_not_depend_on_the_chunk(name: str) -> None:
    from indexscope.analysis.features import extract_samples

    tables = [
        extract_samples(tiny(name), samples(40), ExtractSettings(chunk=chunk, local_window=5, top_k=6))
        for chunk in (7, 64)
    ]
    for part in ("attention", "heads", "tokens"):
        assert_frame_equal(tables[0][part], tables[1][part], rel_tol=1e-3, abs_tol=1e-4)


@pytest.mark.parametrize("name", UNCAPTURED)
def test_what_cannot_be_captured_is_one_clear_line(name: str) -> None:
    model = tiny(name)
    with pytest.raises(IndexscopeError, match="attention interface") as caught:
        captured(model, 64)
    assert caught.value.where == name
    assert "\n" not in str(caught.value)


def test_an_input_of_the_attention_that_is_not_known_is_refused_and_not_passed_over() -> None:
    model = tiny("llama")
    attention = model.model.layers[1].self_attn
    forward = attention.forward
    attention.forward = lambda *args, **kwargs: forward(*args, **kwargs, head_gate=torch.ones(4))
    with pytest.raises(IndexscopeError, match="head_gate") as caught:
        captured(model, 64)
    assert "model.layers.1.self_attn" in caught.value.where
