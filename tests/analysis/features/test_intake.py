"""Nothing that does not fit the model is run, and nothing that is not finite becomes a feature."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from indexscope import IndexscopeError
from indexscope.analysis.capture import CapturedModel
from indexscope.analysis.features import extract_samples
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.samples import Sample
from tests.analysis.conftest import tiny_dsa, tiny_gpt2, tiny_llama

SETTINGS = ExtractSettings(chunk=16)


def sample(*ids: int, index: int = 7) -> Sample:
    return Sample(index, "notes.jsonl:3", ids)


def refused(model, samples, settings=SETTINGS) -> str:
    with pytest.raises(IndexscopeError) as caught:
        extract_samples(model, samples, settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_token_beyond_the_vocabulary_names_id_sample_and_vocabulary(llama) -> None:
    line = refused(llama, [sample(1, 2), sample(5, 97, 200)])
    assert line.startswith("sample 7 (notes.jsonl:3): has token id 97, but the vocabulary of llama is 0 to 96; ")
    assert "token id -1," in refused(llama, [sample(5, -1)])
    assert "has no tokens" in refused(llama, [sample()])


@pytest.mark.parametrize("model", [tiny_gpt2, tiny_llama], ids=["learned", "rotary"])
def test_a_sequence_beyond_the_positions_names_sample_length_and_range(model) -> None:
    line = refused(model(), [sample(*[1] * 513)])
    assert line.startswith("sample 7 (notes.jsonl:3): has 513 tokens, but the positions of ")
    assert line.endswith(" end at 512; cut samples to 512 tokens (dataset.max_length)")


def test_logits_that_overflow_in_float16_are_refused() -> None:
    model = tiny_llama().half()
    with torch.no_grad():
        model.lm_head.weight.fill_(6e4)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert refused(model, [sample(*range(20))]).startswith(
        "sample 7 (notes.jsonl:3): the logits are NaN or infinite; use"
    )


@pytest.mark.parametrize("batch", [1, 2])
def test_attention_that_is_not_a_number_is_refused_by_layer(batch: int) -> None:
    model = tiny_llama().half()
    with torch.no_grad():
        # Finite weights whose products overflow: inf - inf in the second layer's softmax.
        for name in ("q_proj", "k_proj"):
            getattr(model.model.layers[1].self_attn, name).weight.fill_(6e4)
    line = refused(model, [sample(*range(20)), sample(*range(20), index=8)], ExtractSettings(batch=batch))
    assert "layer 1 are NaN or infinite" in line
    assert line.startswith("sample 7 (notes.jsonl:3) and 1 more" if batch == 2 else "sample 7 (notes.jsonl:3): ")


class _Changed(CapturedModel):
    """A model of which one layer's chunk reaches the observer changed."""

    def __init__(self, model, change) -> None:
        super().__init__(model)
        self.change = change

    def run(self, input_ids, observer, *arguments, **options):
        return super().run(
            input_ids, lambda chunk: observer(self.change(chunk) if chunk.layer == 1 else chunk), *arguments, **options
        )


def test_an_index_score_that_is_not_a_number_is_refused_though_everything_downstream_is_finite(dsa) -> None:
    def poison(chunk):
        scores = chunk.scores.clone()
        scores[..., -1, 0] = torch.nan
        return replace(chunk, scores=scores)

    line = refused(_Changed(dsa, poison), [sample(*range(40))], ExtractSettings(chunk=16, dense_reference=False))
    assert "the index scores of layer 1 are NaN or infinite" in line


def test_a_source_without_a_dense_reference_has_null_dense_nll() -> None:
    class Sparse(CapturedModel):
        def run(self, input_ids, observer, chunk, select=True, **options):
            if not select:
                raise NotImplementedError
            return super().run(input_ids, observer, chunk, **options)

    tokens = extract_samples(Sparse(tiny_dsa()), [sample(*range(40))], SETTINGS)["tokens"]
    assert tokens["dense_nll"].null_count() == tokens.height
    assert tokens["nll"].null_count() < tokens.height
