from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from indexscope import IndexscopeError
from indexscope.analysis.capture import AttentionChunk, CapturedModel, capture_sparse, own_attention
from indexscope.analysis.capture.protocol import TracedModel, as_source
from indexscope.analysis.capture.trace import LayerTrace, Trace, check_trace
from indexscope.analysis.closeup.run import closeup_samples
from indexscope.analysis.features import extract_samples
from indexscope.analysis.settings import CloseupSettings, ExtractSettings
from tests.analysis.capture.research_model import ResearchModel
from tests.analysis.conftest import tiny_dsa, tiny_llama
from tests.analysis.features.reference import attention_row, selection_row
from tests.analysis.samples import samples

SETTINGS = ExtractSettings(chunk=16, local_window=5, sink_keys=3, top_k=6, sparsity_threshold=0.02)
GUIDE = Path(__file__).parents[3] / "docs" / "protocol.md"


class Given:
    """A model that returns the same trace whatever it is asked."""

    vocabulary = 97

    def __init__(self, trace: Trace, index_topk: int | None = None) -> None:
        self.given, self.index_topk = trace, index_topk

    def trace(self, input_ids: torch.Tensor) -> Trace:
        return self.given


def chunks_of(model, ids: torch.Tensor, **options) -> dict[int, AttentionChunk]:
    seen: dict[int, AttentionChunk] = {}

    def observe(chunk: AttentionChunk) -> torch.Tensor:
        seen[chunk.layer] = chunk
        return capture_sparse(chunk)

    for _ in CapturedModel(model).run(ids, observe, ids.shape[1], **options):
        pass
    return seen


def float64_attention(layer: LayerTrace) -> np.ndarray:
    """Dense causal p [heads, S, S] of the first sequence."""
    q, k = layer.query[0].double(), layer.key[0].double()
    future = torch.ones(q.shape[1], q.shape[1], dtype=torch.bool).triu(1)
    return (q @ k.transpose(1, 2) * layer.scale).masked_fill(future, -torch.inf).softmax(-1).numpy()


def same_tables(found: dict[str, pl.DataFrame], expected: dict[str, pl.DataFrame], *names: str) -> None:
    for name in names:
        columns = [column for column in expected[name].columns if column != "sketch"]
        keys = [key for key in ("sample", "layer", "head", "group", "bucket", "distance", "relative") if key in columns]
        assert_frame_equal(
            found[name].select(columns).sort(keys),
            expected[name].select(columns).sort(keys),
            rel_tol=2e-3,
            abs_tol=2e-4,
        )


def close(found: pl.Series, expected: pl.Series) -> None:
    np.testing.assert_allclose(
        found.cast(pl.Float64).to_numpy(), expected.to_numpy(), rtol=2e-3, atol=2e-4, err_msg=found.name
    )


def test_features_of_a_research_model_equal_a_slow_float64_reference() -> None:
    model, one = ResearchModel().eval(), samples(45)
    ids = list(one[0].input_ids)
    tables = extract_samples(model, one, SETTINGS)
    with torch.inference_mode():
        traced = model.trace(torch.tensor([ids])).layers
    for index, layer in enumerate(traced):
        dense = float64_attention(layer)
        for head in range(4):
            rows = [
                {"bucket": (t + 1).bit_length() - 1} | attention_row(dense[head, t, : t + 1], t, 0.02, 5, 3, 8, ids)
                for t in range(45)
            ]
            expected = pl.DataFrame(rows).fill_nan(None).group_by("bucket").mean().sort("bucket")
            found = tables["attention"].filter(layer=index, head=head).sort("bucket")
            for name in expected.columns[1:]:
                np.testing.assert_allclose(
                    found[name].cast(pl.Float64).to_numpy(),
                    expected[name].to_numpy(),
                    rtol=2e-3,
                    atol=2e-4,
                    err_msg=name,
                )
        scores, selected = layer.scores[0].double().numpy(), layer.selected[0].numpy()
        rows = [
            {"bucket": (t + 1).bit_length() - 1}
            | selection_row(dense[:, t, : t + 1].mean(0), scores[t, : t + 1], set(selected[t].nonzero()[0].tolist()))
            for t in range(8, 45)
        ]
        expected = pl.DataFrame(rows).group_by("bucket").mean().sort("bucket")
        found = tables["indexer"].filter((pl.col("layer") == index) & (pl.col("queries_in_effect") > 0)).sort("bucket")
        for name in ("selection_recall", "oracle_recall", "random_recall", "oracle_overlap", "score_margin"):
            close(found[name], expected[name])
        p, v = torch.from_numpy(dense), layer.value[0].double()
        kept = torch.where(layer.selected[0], p, 0.0)
        whole, part = p @ v, kept / kept.sum(-1, keepdim=True) @ v
        error = ((part - whole).norm(dim=-1) / whole.norm(dim=-1))[:, 31:45].mean(-1)
        heads = tables["attention"].filter((pl.col("layer") == index) & (pl.col("bucket") == 5)).sort("head")
        np.testing.assert_allclose(heads["output_error"].to_numpy(), error.numpy(), rtol=2e-3)


def test_probabilities_of_a_transformers_model_give_the_tables_of_its_capture() -> None:
    one = samples(40)
    ids = torch.tensor([one[0].input_ids])
    model = tiny_llama()
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        out = model(ids, output_attentions=True)
    traced = Given(Trace(out.logits, [LayerTrace(probabilities=p) for p in out.attentions]))
    found, expected = extract_samples(traced, one, SETTINGS), extract_samples(tiny_llama(), one, SETTINGS)
    assert sorted(found) == sorted(expected)
    same_tables(found, expected, "samples", "attention", "heads", "positions", "tokens")


def test_queries_keys_and_selection_of_a_transformers_model_give_the_tables_of_its_capture() -> None:
    one, model = samples(40), tiny_dsa()
    ids = torch.tensor([one[0].input_ids])
    layers = [
        LayerTrace(
            query=c.query, key=c.key, scale=c.scaling, value=c.value, eligible=c.eligible[:, 0], scores=c.scores,
            selected=c.selected[:, 0],
        )
        for _, c in sorted(chunks_of(model, ids).items())
    ]  # fmt: skip
    with own_attention(model), torch.inference_mode():
        logits = model(ids).logits
    settings = SETTINGS.model_copy(update={"dense_reference": False})
    found = extract_samples(Given(Trace(logits, layers), index_topk=8), one, settings)
    expected = extract_samples(model, one, settings)
    assert sorted(found) == sorted(expected)
    same_tables(found, expected, *(name for name in expected if name != "scores"))
    as_indices = [replace(layer, scores=None, selected=layer.scores.topk(8).indices) for layer in layers]
    picked = extract_samples(Given(Trace(logits, as_indices), index_topk=8), one, settings)
    same_tables(picked, expected, "attention")


def test_head_scores_of_a_trace_give_the_head_tables_of_the_capture() -> None:
    one, model = samples(40), tiny_dsa()
    ids = torch.tensor([one[0].input_ids])
    layers = [
        LayerTrace(
            query=c.query, key=c.key, scale=c.scaling, scores=c.scores, selected=c.selected[:, 0],
            head_scores=c.head_scores, head_weights=c.head_weights,
        )
        for _, c in sorted(chunks_of(model, ids, head_scores=True).items())
    ]  # fmt: skip
    traced = Given(Trace(torch.zeros(1, 40, 97), layers), index_topk=8)
    settings = CloseupSettings(rerun_samples=0)
    found = closeup_samples(traced, one, settings, SETTINGS)
    expected = closeup_samples(model, one, settings, SETTINGS)
    assert expected["indexer_heads"].height == 3 * 8
    for name in ("indexer_heads", "indexer_head_pairs", "indexer_head_positions"):
        assert_frame_equal(found[name], expected[name], rel_tol=2e-3, abs_tol=2e-4)


def test_logits_of_width_zero_mean_that_nothing_is_told_of_quality() -> None:
    one = samples(40)
    ids = torch.tensor([one[0].input_ids])
    chunks = sorted(chunks_of(tiny_llama(), ids).items())
    layers = [LayerTrace(query=c.query, key=c.key, scale=c.scaling, value=c.value) for _, c in chunks]
    found = extract_samples(Given(Trace(torch.zeros(1, 40, 0), layers)), one, SETTINGS)
    assert found["tokens"].is_empty()
    same_tables(found, extract_samples(tiny_llama(), one, SETTINGS), "samples", "attention", "positions")
    looked = closeup_samples(
        Given(Trace(torch.zeros(1, 40, 0), layers)), one, CloseupSettings(rerun_samples=0), SETTINGS
    )
    assert looked["logits"].is_empty() and looked["keys_needed"].height


def test_the_dense_reference_is_there_only_where_the_model_offers_one() -> None:
    model, one = ResearchModel().eval(), samples(30)
    assert TracedModel(model).notes == ()
    assert extract_samples(model, one, SETTINGS)["tokens"]["dense_nll"].is_not_null().all()
    with torch.inference_mode():
        given = Given(model.trace(torch.tensor([one[0].input_ids])), index_topk=8)
    given.vocabulary = 31
    assert "dense_nll is null" in TracedModel(given).notes[0]
    tables = extract_samples(given, one, SETTINGS)
    assert tables["tokens"]["dense_nll"].is_null().all()
    assert tables["indexer"]["selection_recall"].is_not_null().any()


def test_a_model_without_values_has_no_output_error_and_all_else() -> None:
    model, one = ResearchModel().eval(), samples(30)
    with torch.inference_mode():
        trace = model.trace(torch.tensor([one[0].input_ids]))
    trace = Trace(trace.logits, [replace(layer, value=None) for layer in trace.layers])
    given = Given(trace, index_topk=8)
    given.vocabulary = 31
    found, expected = extract_samples(given, one, SETTINGS), extract_samples(model, one, SETTINGS)
    assert found["attention"]["output_error"].is_null().all()
    same = [name for name in expected["attention"].columns if name != "output_error"]
    assert_frame_equal(found["attention"].select(same), expected["attention"].select(same))


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_chunks_hold_keys_up_to_their_last_query_and_cut_the_future(chunk: int) -> None:
    model = ResearchModel(faulty=True).eval()
    ids, seen = torch.randint(31, (2, 20)), []
    trace = TracedModel(model).trace(ids)
    logits = torch.cat([part for _, part in TracedModel(model).run(ids, seen.append, chunk)], 1)
    assert torch.equal(logits, trace.logits)
    for part in seen:
        queries = part.query.shape[2]
        assert part.key.shape[2] == part.eligible.shape[3] == part.scores.shape[2] == part.start + queries
        t = torch.arange(part.start, part.start + queries)[:, None]
        assert not part.selected[:, :, torch.arange(part.key.shape[2]) > t].any()
        assert part.scores[:, torch.arange(part.key.shape[2]) > t].isneginf().all()


def test_whatever_a_user_hands_over_becomes_a_source() -> None:
    research, llama = ResearchModel(), tiny_llama()
    traced = TracedModel(research)
    assert as_source(traced) is traced
    assert isinstance(as_source(research), TracedModel)
    captured = as_source(llama)
    assert isinstance(captured, CapturedModel)
    assert as_source(captured) is captured
    with pytest.raises(IndexscopeError, match=r"docs/protocol\.md"):
        as_source(torch.nn.Linear(2, 2))


def good(length: int = 6) -> tuple[torch.Tensor, LayerTrace]:
    causal = torch.ones(length, length).tril()
    p = (causal / causal.sum(-1, keepdim=True)).expand(1, 2, length, length)
    return torch.zeros(1, length, 97), LayerTrace(probabilities=p)


FUTURE = torch.full((1, 2, 6, 6), 1 / 6)
CAUSAL = torch.ones(1, 6, 6, dtype=torch.bool).tril()
QUERY = torch.zeros(1, 2, 6, 4)
FAULTS = {
    "probabilities put weight on keys after the query": {"probabilities": FUTURE},
    "probabilities have rows that miss a sum of 1": {"probabilities": good()[1].probabilities * 0.9},
    "probabilities hold negative weights": {"probabilities": -good()[1].probabilities},
    "probabilities holds NaN": {"probabilities": good()[1].probabilities / 0},
    "probabilities is torch.int64": {"probabilities": torch.ones(1, 2, 6, 6, dtype=torch.int64)},
    "probabilities has shape [1, 2, 5, 6]": {"probabilities": torch.ones(1, 2, 5, 6)},
    "probabilities are 0 outside the selection": {
        "probabilities": torch.eye(6).expand(1, 2, 6, 6), "selected": torch.arange(6).view(1, 6, 1),
    },
    "has both probabilities and query": {"query": QUERY},
    "has neither probabilities nor all of query, key and scale": {"probabilities": None, "query": QUERY, "key": QUERY},
    "key has 3 heads for 2": {"probabilities": None, "query": QUERY, "key": torch.zeros(1, 3, 6, 4), "scale": 1.0},
    "key has shape": {"probabilities": None, "query": QUERY, "key": torch.zeros(1, 2, 6, 5), "scale": 1.0},
    "scale is nan": {"probabilities": None, "query": QUERY, "key": QUERY, "scale": float("nan")},
    "value has 1 heads": {"probabilities": None, "query": QUERY, "key": QUERY, "scale": 1.0, "value": QUERY[:, :1]},
    "value has shape": {"value": torch.zeros(1, 2, 5, 4)},
    "eligible is torch.float32": {"eligible": torch.ones(6, 6)},
    "eligible has shape": {"eligible": torch.ones(5, 5, dtype=torch.bool)},
    "scores come without selected": {"scores": torch.zeros(1, 6, 6)},
    "scores hold NaN": {"scores": torch.full((1, 6, 6), torch.nan), "selected": CAUSAL},
    "scores has shape": {"scores": torch.zeros(1, 6, 4), "selected": CAUSAL},
    "selected is torch.float32": {"selected": torch.zeros(1, 6, 2)},
    "selected holds 0 to 6": {"selected": torch.arange(1, 7).view(1, 6, 1).clamp(max=6) * torch.tensor([0, 1])},
    "selected has 3 groups for 2 heads": {"selected": CAUSAL.expand(1, 3, 6, 6)},
    "selected has shape": {"selected": torch.zeros(2, 6, 6, dtype=torch.bool)},
    "head_weights come without head_scores": {"head_weights": torch.zeros(1, 6, 2)},
    "head_scores come without scores": {"head_scores": torch.zeros(1, 6, 2, 6)},
    "head_scores has shape": {
        "scores": torch.zeros(1, 6, 6), "selected": CAUSAL, "head_scores": torch.zeros(1, 2, 6, 6),
    },
    "head_weights has shape": {
        "scores": torch.zeros(1, 6, 6), "selected": CAUSAL, "head_scores": torch.zeros(1, 6, 2, 6),
        "head_weights": torch.zeros(1, 6, 3),
    },
}  # fmt: skip


@pytest.mark.parametrize("words", FAULTS)
def test_a_faulty_trace_is_one_line_that_names_layer_and_field(words: str) -> None:
    logits, layer = good()
    check_trace(Trace(logits, [layer]), "mine", 1, 6, 97)
    with pytest.raises(IndexscopeError) as caught:
        check_trace(Trace(logits, [layer, replace(layer, **FAULTS[words])]), "mine", 1, 6, 97)
    assert f"{caught.value.where} {caught.value.reason}".startswith(f"mine layer 1 {words}")
    assert "\n" not in str(caught.value)
    assert "docs/protocol.md" in caught.value.remedy


def test_faulty_logits_and_forgotten_facts_are_refused() -> None:
    logits, layer = good()
    with pytest.raises(IndexscopeError, match=r"logits: has shape \[1, 6, 97\]"):
        check_trace(Trace(logits, [layer]), "mine", 1, 6, 50)
    with pytest.raises(IndexscopeError, match="logits: holds NaN"):
        check_trace(Trace(logits / 0, [layer]), "mine", 1, 6, 97)
    with pytest.raises(IndexscopeError, match="no layers"):
        check_trace(Trace(logits, []), "mine", 1, 6, 97)
    with pytest.raises(IndexscopeError, match="returned Tensor, not a Trace"):
        check_trace(logits, "mine", 1, 6, 97)
    ids = torch.zeros(1, 6, dtype=torch.int64)
    with pytest.raises(IndexscopeError, match="does not tell index_topk"):
        list(TracedModel(Given(Trace(logits, [replace(layer, selected=CAUSAL)]))).run(ids, lambda chunk: None, 8))
    with pytest.raises(IndexscopeError, match="takes no attention_mask"):
        list(TracedModel(Given(Trace(logits, [layer]))).run(ids, lambda chunk: None, 8, attention_mask=ids))
    silent = Given(Trace(logits, [layer]))
    silent.vocabulary = None
    with pytest.raises(IndexscopeError, match="does not tell its vocabulary"):
        TracedModel(silent)


def test_bfloat16_probabilities_pass_the_checks_and_keep_their_features() -> None:
    torch.manual_seed(0)
    causal = torch.ones(300, 300).tril().bool()
    p = torch.randn(1, 4, 300, 300).masked_fill(~causal, -torch.inf).softmax(-1)
    logits = torch.zeros(1, 300, 97)
    one = samples(300)
    half = extract_samples(Given(Trace(logits, [LayerTrace(probabilities=p.bfloat16())])), one, SETTINGS)
    full = extract_samples(Given(Trace(logits, [LayerTrace(probabilities=p)])), one, SETTINGS)
    for name in ("attention_entropy", "local_mass", "top_64_mass"):
        np.testing.assert_allclose(half["attention"][name], full["attention"][name], rtol=1e-2, atol=1e-3)


def test_the_guides_example_runs_as_printed() -> None:
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), names)  # our own documentation
    assert names["audit"]["passed"].item()
    assert names["tables"]["indexer"]["selection_recall"].is_not_null().any()
    same_tables(names["watched"], names["tables"], *names["tables"])
