"""A model that attends to keys after their query is told of while it is extracted, once, and no other is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from indexscope.analysis.capture import LayerTrace, Trace, TracedModel
from indexscope.analysis.capture.audit import audit_causality
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.features import extract_samples
from indexscope.analysis.settings import ExtractSettings
from tests.analysis.capture.plain_modules import K, Plain, Told
from tests.analysis.capture.research_model import ResearchModel
from tests.analysis.capture.test_audit import _Leaks, _Picks
from tests.analysis.conftest import tiny_dsa, tiny_llama
from tests.analysis.samples import samples

CLEAN = ["bool", "float", "by hand", "topk", "after", "latent", "ratio", "threshold", "dense", "window", "gqa"]


def told(model: object, chunk: int = 16, **settings: int) -> list[str]:
    notes: list[str] = []
    one = samples(40, 40, 33)
    extract_samples(model, one, ExtractSettings(chunk=chunk, batch=1, **settings), Journal(notes.append))  # type: ignore[arg-type]
    return notes


@pytest.mark.parametrize("chunk", [1, 16, 64])
@pytest.mark.parametrize("kind", ["leak", "leak by hand"])
def test_a_watched_top_k_as_the_only_mask_is_told_of_once(kind: str, chunk: int) -> None:
    (note,) = told(Plain(kind).eval(), chunk)
    assert note.startswith("leaks: Plain attends to keys after their query")


@pytest.mark.parametrize("kind", CLEAN)
def test_no_alarm_is_raised_where_a_causal_mask_follows(kind: str) -> None:
    model = Plain(kind).eval()
    assert told(model) == []
    assert audit_causality(model, [one.input_ids for one in samples(40)])["passed"].item()


def test_where_future_scores_have_a_say_in_which_past_keys_are_selected_only_the_audit_can_tell() -> None:
    model = Plain("peek").eval()
    assert told(model) == []
    audit = audit_causality(model, [one.input_ids for one in samples(40)]).row(0, named=True)
    assert (audit["passed"], audit["future_selected"]) == (False, 0)


def test_a_leak_in_a_layer_that_cannot_be_traced_is_told_of_too() -> None:
    model = Plain("dense").eval()
    model.layers[1] = Plain("leak capped").layers[0]
    source = TracedModel(model)
    assert any("selects, but its logits before the selection cannot be told" in note for note in source.notes)
    assert len(source.trace(torch.tensor([samples(40)[0].input_ids])).layers) == 1
    assert len(told(source)) == 1
    model.layers[1] = Plain("capped").layers[0]
    assert told(TracedModel(model)) == []


def test_a_trace_is_believed_what_it_says_of_its_mask() -> None:
    assert told(ResearchModel().eval()) == told(Told(Plain().eval())) == []
    assert len(told(ResearchModel(faulty=True).eval(), query_every=2)) == 1
    assert len(told(Told(Plain("leak").eval(), K), chunk=1)) == 1
    # Picks are no mask: those of the future are left out, and whether they are attended to only the audit can say.
    assert told(_Picks().eval()) == []


def test_keys_that_a_trace_calls_eligible_though_they_come_after_their_query_are_a_leak() -> None:
    class All(nn.Module):
        vocabulary = 31

        def trace(self, input_ids: torch.Tensor) -> Trace:
            batch, length = input_ids.shape
            p = torch.full((batch, 1, length, length), 1 / length)
            every = torch.ones(length, length, dtype=torch.bool)
            return Trace(torch.zeros(batch, length, 31), [LayerTrace(probabilities=p, eligible=every)])

    assert len(told(All(), chunk=1)) == 1


@pytest.mark.parametrize("build", [tiny_dsa, tiny_llama])
def test_a_model_of_transformers_raises_the_alarm_where_its_mask_forgets_causality(build) -> None:
    model = build()
    assert told(model) == []
    model.model.layers[1].self_attn = _Leaks(model.model.layers[1].self_attn)
    found = told(model, 64)
    assert len(found) == 1 and found[0].startswith(f"leaks: {model.config.model_type} attends")
