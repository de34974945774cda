"""Models outside transformers show the same numbers as the capture of the same model, and null where they show less."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from torch import nn

from indexscope.analysis.capture import AttentionChunk, CapturedModel, LayerTrace, Trace, capture_sparse, own_attention
from indexscope.analysis.distribution import DistributionSettings
from indexscope.analysis.distribution import run as distribution
from indexscope.analysis.features import extract_samples
from indexscope.analysis.settings import ExtractSettings
from interpretability import IndexerInterpreter, compare_indexer_analyses
from tests.analysis.capture.plain_modules import Plain, Told
from tests.analysis.capture.tiny_families import FAMILIES, tokens
from tests.analysis.conftest import tiny_dsa
from tests.interpretability.test_interpreter import as_samples, ids_of

RECALL = ("selection_recall", "oracle_recall", "recall_of_oracle", "oracle_overlap", "top_key_kept")
CLOSE = {"rel_tol": 2e-3, "abs_tol": 2e-4}


def chunks_of(model, ids: torch.Tensor) -> list[AttentionChunk]:
    seen: dict[int, AttentionChunk] = {}

    def observe(chunk: AttentionChunk) -> torch.Tensor:
        seen[chunk.layer] = chunk
        return capture_sparse(chunk)

    for _ in CapturedModel(model).run(ids, observe, ids.shape[1], head_scores=True):
        pass
    return [seen[layer] for layer in sorted(seen)]


class Showing:
    """The tiny model behind the two methods that published code has."""

    def __init__(self, model, dense: bool = True, picks: bool = False) -> None:
        self.inner, self.dense, self.picks = model, dense, picks

    def get_selected_tokens(self, batch):
        chunks = chunks_of(self.inner, batch)
        return [chunk.scores.topk(8).indices if self.picks else chunk.selected[:, 0] for chunk in chunks]

    def get_attention_weights(self, batch):
        chunks = chunks_of(self.inner, batch)
        masks = [chunk.eligible if self.dense else chunk.selected for chunk in chunks]
        return torch.stack(
            [c.logits().masked_fill(~mask, -torch.inf).softmax(-1) for c, mask in zip(chunks, masks, strict=True)]
        )


class Tracing:
    """The same behind the protocol."""

    vocabulary, index_topk = 97, 8

    def __init__(self, model) -> None:
        self.inner = model

    def trace(self, input_ids: torch.Tensor) -> Trace:
        layers = [
            LayerTrace(
                query=c.query, key=c.key, scale=c.scaling, scores=c.scores, selected=c.selected[:, 0],
                head_scores=c.head_scores, head_weights=c.head_weights,
            )
            for c in chunks_of(self.inner, input_ids)
        ]  # fmt: skip
        with own_attention(self.inner):
            return Trace(self.inner(input_ids).logits, layers)


class Around(nn.Module):
    """The same as a plain module that has indexers somewhere within."""

    def __init__(self, model) -> None:
        super().__init__()
        self.inner = model

    def forward(self, batch):
        ids = batch["input_ids"] if isinstance(batch, dict) else batch
        with own_attention(self.inner):
            return self.inner(ids).logits


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    return ids_of(3, 48)


@pytest.fixture(scope="module")
def model():
    return tiny_dsa()


@pytest.fixture(scope="module")
def interpreter() -> IndexerInterpreter:
    return IndexerInterpreter()


def same(found: pl.DataFrame, expected: pl.DataFrame, *columns: str) -> None:
    assert expected.height
    assert_frame_equal(found.select(columns or expected.columns), expected.select(columns or expected.columns), **CLOSE)


def test_weights_and_selected_tokens_give_the_captures_recall_and_lift(interpreter, model, ids) -> None:
    captured = interpreter.analyze_token_selection(model, ids)
    placed = interpreter.analyze_positional_bias(model, ids)
    for shown in (Showing(model), Showing(model, picks=True)):
        found = interpreter.analyze_token_selection(shown, ids)
        for name in (*RECALL, "random_recall", "in_effect"):
            assert found[name] == pytest.approx(captured[name], rel=1e-4), name
        same(found.lift, captured.lift)
        assert found.notes == () and found.model == "Showing"
        same(interpreter.analyze_positional_bias(shown, ids).lift, placed.lift)
    comparison = compare_indexer_analyses(captured, found)
    verdicts = comparison.overall.filter(pl.col("metric").is_in(RECALL))["verdict"]
    assert set(verdicts) == {"equal"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_give_nearly_the_same_recall(interpreter, model, ids, dtype) -> None:
    class Half(Showing):
        def get_attention_weights(self, batch):
            return super().get_attention_weights(batch).to(dtype)

    class Cast(Half):
        def get_attention_weights(self, batch):
            return super().get_attention_weights(batch).float()

    expected = interpreter.analyze_token_selection(Showing(model), ids)
    for kind in (Half, Cast):
        found = interpreter.analyze_token_selection(kind(model), ids)
        assert found.selection_recall == pytest.approx(expected.selection_recall, rel=5e-3)


def test_weights_after_the_selection_say_nothing_of_recall(interpreter, model, ids) -> None:
    shown = Showing(model, dense=False)
    found = interpreter.analyze_token_selection(shown, ids)
    assert [found[name] for name in RECALL] == [None] * len(RECALL)
    assert found.random_recall == pytest.approx(interpreter.analyze_token_selection(model, ids).random_recall)
    assert found.curve.is_empty() and found.lift["attention_lift"].null_count() == found.lift.height
    assert not set(found.per_sample["metric"]) & {*RECALL, "oracle_keys_95"}
    assert "weights are zero outside its selection" in found.notes[0] and "null" in repr(found)
    placed, expected = (interpreter.analyze_positional_bias(each, ids) for each in (shown, model))
    same(placed.lift, expected.lift, "layer", "axis", "bin", "lift", "ci_low", "ci_high", "selections", "expected", "n")
    assert placed.positional_bias == pytest.approx(expected.positional_bias, rel=1e-4)
    assert placed.excess_bias is None and placed.attention_positional_bias is None


def test_a_model_that_shows_no_scores_is_told_so_loudly(interpreter, model, ids) -> None:
    with pytest.warns(UserWarning, match="Showing: shows no index scores"):
        found = interpreter.study_relevance_distribution(Showing(model), ids)
    assert found.indexer_kl is None and found.zero_share is None and found.quantiles.is_empty()
    with pytest.warns(UserWarning, match="Showing: shows no scores of single indexer heads by key"):
        heads = interpreter.analyze_indexer_heads(Showing(model), ids)
    assert heads.head_effective is None and heads.focus.is_empty()


def test_a_model_of_the_protocol_gives_the_captures_heads_and_scores(interpreter, model, ids) -> None:
    heads, expected = (interpreter.analyze_indexer_heads(each, ids) for each in (Tracing(model), model))
    assert heads.focus["words"].to_list() == expected.focus["words"].to_list()
    same(heads.metrics, expected.metrics)
    found, captured = (interpreter.study_relevance_distribution(each, ids) for each in (Tracing(model), model))
    same(found.metrics, captured.metrics)
    same(found.moments, captured.moments)


def test_a_module_with_indexers_gives_the_captures_scores_and_nothing_of_attention(interpreter, model, ids) -> None:
    captured = interpreter.study_relevance_distribution(model, ids)
    before = [module.__dict__.get("forward") for module in model.modules()]
    for batch in (ids, {"input_ids": ids}):
        found = interpreter.study_relevance_distribution(Around(model), batch)
        same(found.quantiles, captured.quantiles)
        same(found.moments, captured.moments)
        assert found.zero_share == pytest.approx(captured.zero_share)
        assert found.score_margin == pytest.approx(captured.score_margin, rel=1e-3)
        assert found.indexer_kl is None and "only its indexer is seen" in found.notes[0]
    heads, expected = (interpreter.analyze_indexer_heads(each, ids) for each in (Around(model), model))
    same(heads.focus, expected.focus, "layer", "indexer_head", "words", "contribution", "active_share", "own_overlap")
    assert heads.leave_one_out_loss is None and heads.focus["recall_loss"].null_count() == heads.focus.height
    assert heads.head_agreement == pytest.approx(expected.head_agreement, rel=1e-4) and heads.pruning.is_empty()
    assert [module.__dict__.get("forward") for module in model.modules()] == before


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_transformers_is_studied_with_the_pipelines_numbers(interpreter, family: str) -> None:
    model, ids = FAMILIES[family](), tokens()
    tables = extract_samples(model, as_samples(ids), ExtractSettings())
    overall = distribution.run(tables, DistributionSettings())["metrics"].filter(pl.col("layer").is_null())
    expected = dict(overall.select("metric", "value").iter_rows())
    selection = interpreter.analyze_token_selection(model, ids)
    for name in selection.numbers:
        assert selection[name] == pytest.approx(expected[name], rel=1e-9), name
    assert 0 < selection.random_recall < selection.oracle_recall < 1
    scores = interpreter.study_relevance_distribution(model, ids)
    assert scores.score_margin == pytest.approx(expected["score_margin"], rel=1e-9) and scores.quantiles.height
    assert (scores.indexer_kl is None) == any("null: indexer_kl" in note for note in scores.notes)


@pytest.mark.parametrize("kind", ["bool", "by hand"])
def test_a_plain_module_is_studied_as_one_that_traces_itself(interpreter, kind: str) -> None:
    model, ids = Plain(kind), ids_of(3, 48, vocabulary=31)
    found, expected = (interpreter.analyze_token_selection(each, ids) for each in (model, Told(model.eval())))
    for name in (*RECALL, "random_recall", "in_effect"):
        assert found[name] == pytest.approx(expected[name], rel=1e-6), name
    same(found.lift, expected.lift)
    scores, told = (interpreter.study_relevance_distribution(each, ids) for each in (model, Told(model)))
    assert scores.model == "Plain" and scores.indexer_kl is not None
    same(scores.metrics, told.metrics)
    heads, told = (interpreter.analyze_indexer_heads(each, ids) for each in (model, Told(model)))
    assert found.notes == ()
    same(heads.metrics, told.metrics)


def test_a_module_whose_attention_cannot_be_seen_still_shows_its_indexer(interpreter) -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.indexer = LightningIndexer()

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return self.indexer(input_ids.unsqueeze(-1).float())

    found = interpreter.study_relevance_distribution(Hidden(), ids_of(2, 40))
    assert "only its indexer is seen" in found.notes[0] and found.zero_share is not None


class LightningIndexer(nn.Module):
    """Scores by the key alone: key s scores s % 5 with one head of weight 1."""

    def __init__(self, causal: bool = True, select: bool = True) -> None:
        super().__init__()
        self.causal, self.select = causal, select
        self.index_topk = 4

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        batch, length, _ = hidden.shape
        keys = (torch.arange(length) % 5).float().expand(batch, length, 1, length)
        scores = (torch.relu(keys) * hidden.new_ones(batch, length, 1, 1)).sum(2)
        if self.causal:
            scores = scores.masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), -torch.inf)
        return scores.topk(min(self.index_topk, length)).indices if self.select else scores


class SparseAttention(nn.Module):
    def __init__(self, indexer: nn.Module) -> None:
        super().__init__()
        self.indexer = indexer

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + self.indexer(hidden).sum()


def test_an_attention_module_is_studied_on_hidden_states(interpreter) -> None:
    hidden = torch.rand(2, 40, 6, generator=torch.Generator().manual_seed(1))
    for indexer in (LightningIndexer(), LightningIndexer(select=False), LightningIndexer(False, select=False)):
        found = interpreter.study_relevance_distribution(SparseAttention(indexer), [hidden])
        # Keys 0, 5, 10, ... score zero: ceil(n_t / 5) of n_t keys, over queries with more than one.
        expected = sum(-(-n // 5) / n for n in range(2, 41)) / 39
        assert found.zero_share == pytest.approx(expected, rel=1e-5)
        counts = dict(found.moments.filter(pl.col("layer") == 0).select("group", "count").iter_rows())
        assert counts["selected"] == 2 * 4 * 36 and counts["unselected"] == 2 * sum(range(1, 37))
        heads = interpreter.analyze_indexer_heads(SparseAttention(indexer), hidden)
        assert heads.head_effective == pytest.approx(1.0)
        selection = interpreter.analyze_token_selection(SparseAttention(indexer), hidden)
        assert selection.random_recall == pytest.approx(sum(4 / n for n in range(5, 41)) / 36, rel=1e-5)
        assert selection.in_effect == pytest.approx(36 / 40)
        assert selection.lift.is_empty() and any("hidden states" in note for note in selection.notes)
    other = interpreter.study_relevance_distribution(SparseAttention(LightningIndexer()), [hidden + 1])
    with pytest.raises(ValueError, match="different samples"):
        compare_indexer_analyses(found, other)


class Scoring(nn.Module):
    """An indexer that takes the batch: two heads, of key s head 0 scores s % 5 and head 1 scores 2 (s % 5)."""

    def __init__(self, by_head: bool, masked: float | None = -torch.inf) -> None:
        super().__init__()
        self.by_head, self.masked = by_head, masked

    def forward(self, batch) -> torch.Tensor:
        ids = batch["input_ids"] if isinstance(batch, dict) else batch
        length = ids.shape[1]
        keys = (torch.arange(length) % 5).float()
        scores = torch.stack([keys, 2 * keys])[None, :, None, :].repeat(len(ids), 1, length, 1)
        if self.masked is not None:
            scores = scores.masked_fill(torch.ones(length, length).triu(1).bool(), self.masked)
        return scores if self.by_head else scores.sum(1)


class Holding(nn.Module):
    """Has an indexer, and no forward that could be called with a batch."""

    def __init__(self, indexer: Any, **attributes: Any) -> None:
        super().__init__()
        self.indexer = indexer
        for name, value in attributes.items():
            setattr(self, name, value)


class Bare:
    """No module at all: its indexer is a method."""

    top_k = 4

    def indexer(self, batch) -> torch.Tensor:
        return Scoring(True)(batch)


class Selecting(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        setattr(self, name, 4)


NAMES = ("sparse_top_k", "index_topk", "topk", "top_k", "k")


def test_an_indexer_that_takes_the_batch_is_studied_by_itself_in_every_form(interpreter) -> None:
    ids = ids_of(2, 40)
    budgets = [
        *(Holding(Scoring(True), **{name: 4}) for name in NAMES),
        *(Holding(Scoring(True), selector=Selecting(name)) for name in NAMES),
        *(Holding(Scoring(True), config=SimpleNamespace(**{name: 4})) for name in NAMES),
        Holding(Scoring(True), config={"sparse_top_k": 4}),
        Bare(),
        *(Holding(Scoring(by_head, masked), top_k=4) for by_head in (True, False) for masked in (None, -1e38, -1e9)),
    ]
    for model in budgets:
        for batch in (ids, {"input_ids": ids}):
            found = interpreter.analyze_token_selection(model, batch)
            assert found.in_effect == pytest.approx(36 / 40)
            assert found.random_recall == pytest.approx(sum(4 / n for n in range(5, 41)) / 36, rel=1e-5)
    scores, summed = (
        interpreter.study_relevance_distribution(Holding(Scoring(by_head), top_k=4), ids) for by_head in (True, False)
    )
    same(scores.moments, summed.moments)
    assert scores.moments["maximum"].max() == 12


def test_scores_by_head_tell_what_single_heads_do_and_summed_ones_do_not(interpreter) -> None:
    ids = ids_of(4, 40)
    heads = interpreter.analyze_indexer_heads(Holding(Scoring(True), top_k=4), ids)
    assert heads.head_correlation == pytest.approx(1.0, abs=1e-4) and heads.head_redundancy == pytest.approx(1.0)
    shares = heads.focus.filter(pl.col("layer") == 0).sort("indexer_head")["contribution"].to_list()
    assert shares == pytest.approx([1 / 3, 2 / 3], rel=1e-4)
    with pytest.warns(UserWarning, match="shows no scores of single indexer heads"):
        interpreter.analyze_indexer_heads(Holding(Scoring(False), top_k=4), ids)


def test_scores_of_heads_below_zero_are_noted(interpreter) -> None:
    class Signed(Scoring):
        def forward(self, batch) -> torch.Tensor:
            return super().forward(batch) - 1

    noted = [
        any(
            "go below 0" in note
            for note in interpreter.analyze_positional_bias(Holding(each, k=4), ids_of(1, 40)).notes
        )
        for each in (Signed(True), Signed(True, None), Scoring(True), Scoring(True, -1e9))
    ]
    assert noted == [True, True, False, False]


def test_an_indexer_without_a_budget_says_where_one_is_looked_for(interpreter) -> None:
    with pytest.raises(ValueError, match=r"no index_topk, sparse_top_k, .* tells how many keys .*; set one of them on"):
        interpreter.analyze_token_selection(Holding(Scoring(True)), ids_of(1, 9))


class Wrong(Showing):
    def __init__(self, weights: object, selected: object) -> None:
        self.weights, self.selected = weights, selected

    def get_attention_weights(self, batch):
        return self.weights

    def get_selected_tokens(self, batch):
        return self.selected


def uniform(length: int) -> torch.Tensor:
    causal = torch.ones(length, length).tril()
    return (causal / causal.sum(-1, keepdim=True)).expand(1, 2, length, length)


CAUSAL = torch.ones(1, 9, 9, dtype=torch.bool).tril()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Wrong(uniform(9), torch.ones(1, 9, 9, dtype=torch.bool)), "selects 36 keys that come after their query"),
        (Wrong(uniform(9), torch.ones(1, 9, 9)), "selects 36 keys that come after their query"),
        (Wrong(uniform(9), torch.rand(1, 9, 9)), "is torch.float32"),
        (Wrong(uniform(9), torch.ones(9)), r"has shape \[9\]"),
        (Wrong(uniform(9), None), "shows nothing"),
        (Wrong(uniform(9) * 0.5, CAUSAL), "rows that miss a sum of 1"),
        (Wrong(torch.full((1, 2, 9, 9), 1 / 9), CAUSAL), "put weight on keys after the query"),
        (Wrong(uniform(9) / 0, CAUSAL), "NaN"),
        (Wrong(uniform(8), CAUSAL), "has shape"),
        (Wrong([uniform(9)] * 3, [CAUSAL] * 2), "shows 2 layers in get_selected_tokens and 3 elsewhere"),
        (SparseAttention(LightningIndexer(causal=False)), "selects .* keys that come after their query"),
        (SparseAttention(nn.Linear(6, 6)), r"returns no scores, not \[1, 9, 9\]"),
        (SparseAttention(nn.Linear(5, 5)), "cannot be called with the batch"),
    ],
)
def test_what_a_model_shows_wrongly_is_one_clear_value_error(interpreter, model, words: str) -> None:
    batch = torch.rand(1, 9, 6) if isinstance(model, nn.Module) else ids_of(1, 9)
    with pytest.raises(ValueError, match=words) as caught:
        interpreter.analyze_positional_bias(model, batch)
    assert "\n" not in str(caught.value) and ";" in str(caught.value)


def test_attention_weights_alone_are_no_indexer(interpreter) -> None:
    class Weights:
        def get_attention_weights(self, batch):
            return uniform(9)

    with pytest.raises(ValueError, match=r"^Weights: has no get_selected_tokens; "):
        interpreter.analyze_positional_bias(Weights(), ids_of(1, 9))
