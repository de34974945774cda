"""The notebook finds what the pipeline finds, of any form of batch, and says what is wrong with a bad one."""

from __future__ import annotations

import gc
import re
import warnings
import weakref
from pathlib import Path

import polars as pl
import pytest
import torch
from matplotlib.figure import Figure
from polars.testing import assert_frame_equal
from transformers import BatchEncoding

from indexscope.analysis.closeup.classes import token_classes
from indexscope.analysis.closeup.collect import Vocabulary
from indexscope.analysis.closeup.run import closeup_samples
from indexscope.analysis.distribution import DistributionSettings
from indexscope.analysis.distribution import run as distribution
from indexscope.analysis.features import extract_samples
from indexscope.analysis.indexer_heads import IndexerHeadsSettings
from indexscope.analysis.indexer_heads import run as indexer_heads
from indexscope.analysis.key_budget import KeyBudgetSettings
from indexscope.analysis.key_budget import run as key_budget
from indexscope.analysis.positional_bias import PositionalBiasSettings
from indexscope.analysis.positional_bias import run as positional_bias
from indexscope.analysis.settings import CloseupSettings, ExtractSettings
from indexscope.analysis.token_content import TokenContentSettings
from indexscope.analysis.token_content import run as token_content
from indexscope.storage.inputs.checkpoints import load_model, load_tokenizer, resolve
from indexscope.storage.inputs.samples import Sample
from indexscope.storage.inputs.vocabulary import vocabulary_pieces
from interpretability import IndexerInterpreter, compare_indexer_analyses
from interpretability.analyses import IndexerAnalysis
from tests.analysis.conftest import tiny_dsa, tiny_llama

LENGTH = 100
#: Sums over batches may be added up in another order, no more.
CLOSE = {"rel_tol": 1e-9, "abs_tol": 1e-12}


def ids_of(rows: int, length: int = LENGTH, vocabulary: int = 97, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, vocabulary, (rows, length), generator=generator)


def as_samples(ids: torch.Tensor) -> list[Sample]:
    return [Sample(place, f"s{place}", tuple(row.tolist())) for place, row in enumerate(ids)]


def same(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    assert expected.height
    assert_frame_equal(found, expected, **CLOSE)


def own_rows(analysis: IndexerAnalysis, expected: pl.DataFrame) -> pl.DataFrame:
    return expected.filter(pl.col("metric").is_in(analysis.metrics["metric"].unique().implode()))


@pytest.fixture(scope="module")
def interpreter() -> IndexerInterpreter:
    return IndexerInterpreter()


@pytest.fixture(scope="module")
def dsa():
    return tiny_dsa()


@pytest.fixture(scope="module")
def light():
    return load_model(resolve("builtin:light"))


@pytest.fixture(scope="module")
def baseline():
    return load_model(resolve("builtin:baseline"))


def test_the_issues_own_lines_run_on_the_built_in_models(baseline, light) -> None:
    batch = ids_of(3, 96, 500)
    dataset = [ids_of(2, 96, 500, seed) for seed in range(2)]
    interpreter = IndexerInterpreter()
    head_analysis = interpreter.analyze_indexer_heads(baseline, batch)
    distribution_analysis = interpreter.study_relevance_distribution(baseline, dataset)
    assert isinstance(interpreter.visualize_indexer_analysis(head_analysis), Figure)
    optimized = interpreter.study_relevance_distribution(light, dataset)
    comparison = compare_indexer_analyses(distribution_analysis, optimized)
    row = comparison.overall.row(by_predicate=pl.col("metric") == "zero_share", named=True)
    assert row["baseline"] == distribution_analysis.zero_share and row["value"] == optimized["zero_share"]
    assert row["difference"] == pytest.approx(optimized.zero_share - distribution_analysis.zero_share)
    assert head_analysis.focus.height == 6 * 4 and head_analysis.model == "baseline"


def test_distribution_and_positions_equal_the_pipelines_tables(interpreter, dsa, light) -> None:
    for model, vocabulary in ((dsa, 97), (light, 500)):
        ids = ids_of(3, vocabulary=vocabulary)
        tables = extract_samples(model, as_samples(ids), ExtractSettings())
        expected = distribution.run(tables, DistributionSettings())
        found = interpreter.study_relevance_distribution(model, ids)
        same(found.quantiles, expected["score_quantiles"])
        same(found.histogram, expected["score_histogram"])
        same(found.moments, expected["score_moments"])
        same(found.metrics, own_rows(found, expected["metrics"]))
        same(found.per_sample, own_rows(found, expected["per_sample"]))
        assert set(found.metrics["metric"]) == {"indexer_kl", "score_margin", "score_gap", "tie_share", "zero_share"}
        overall = dict(expected["metrics"].filter(pl.col("layer").is_null()).select("metric", "value").iter_rows())
        assert found.indexer_kl == pytest.approx(overall["indexer_kl"]) and found.indexer_kl > 0
        expected = positional_bias.run(tables, PositionalBiasSettings())
        placed = interpreter.analyze_positional_bias(model, ids)
        same(placed.lift, expected["lift"])
        same(placed.metrics, expected["metrics"])
        same(placed.per_sample, expected["per_sample"])
        overall = dict(expected["metrics"].filter(pl.col("layer").is_null()).select("metric", "value").iter_rows())
        assert placed.positional_bias == overall["positional_bias"] and placed.recency_lift == overall["recency_lift"]


def test_token_selection_equals_the_pipelines_tables(interpreter, light) -> None:
    ids = ids_of(3, vocabulary=500)
    tokenizer = load_tokenizer(resolve("builtin:light"))
    words = Vocabulary(*vocabulary_pieces(tokenizer))
    tables = extract_samples(light, as_samples(ids), ExtractSettings())
    looked = closeup_samples(
        light, as_samples(ids), CloseupSettings(rerun_samples=0), ExtractSettings(), vocabulary=words
    )
    found = interpreter.analyze_token_selection(light, ids, tokenizer=tokenizer)
    kinds, needs = token_content.run(looked, TokenContentSettings()), key_budget.run(looked, KeyBudgetSettings())
    summary = distribution.run(tables, DistributionSettings())
    same(found.lift, kinds["lift"])
    same(found.curve, needs["curve"])
    same(found.budgets, needs["budgets"])
    every = pl.concat([summary["metrics"], kinds["metrics"], needs["metrics"]])
    same(found.metrics, own_rows(found, every))
    assert {"in_effect", "selection_recall", "word_start_lift", "indexer_keys_95"} <= set(found.metrics["metric"])
    assert found.random_recall < found.selection_recall < found.oracle_recall < 1
    assert found.recall_of_oracle == pytest.approx(found.selection_recall / found.oracle_recall, rel=1e-6)
    assert token_classes(words.pieces, words.special).shape[0] >= 500
    plain = interpreter.analyze_token_selection(light, ids)
    assert set(plain.lift["token_class"]) == {"induction", "repeated", "first occurrence"}
    same(plain.lift, found.lift.filter(pl.col("token_class").is_in(["induction", "repeated", "first occurrence"])))


def test_heads_equal_the_pipelines_tables(interpreter, dsa, light) -> None:
    for model, vocabulary in ((dsa, 97), (light, 500)):
        ids = ids_of(5, vocabulary=vocabulary)
        looked = closeup_samples(model, as_samples(ids), CloseupSettings(), ExtractSettings())
        expected = indexer_heads.run(looked, IndexerHeadsSettings())
        found = interpreter.analyze_indexer_heads(model, ids)
        for name in ("focus", "pairs", "pruning", "lift", "score_moments", "score_quantiles", "metrics", "per_sample"):
            same(found[name], expected[name])
        loss = expected["metrics"].filter((pl.col("metric") == "leave_one_out_loss") & pl.col("layer").is_null())
        assert found.leave_one_out_loss == loss["value"][0]


def test_batches_are_streamed_and_their_cut_changes_nothing(interpreter, dsa) -> None:
    ids = ids_of(6)
    alive: list[weakref.ref[torch.Tensor]] = []
    most = 0

    def stream():
        nonlocal most
        for part in ids.split(2):
            batch = part.clone()
            alive.append(weakref.ref(batch))
            yield batch
            del batch
            gc.collect()
            most = max(most, sum(ref() is not None for ref in alive))

    whole = interpreter.study_relevance_distribution(dsa, ids)
    source = stream()
    streamed = interpreter.study_relevance_distribution(dsa, source)
    assert most <= 1
    for name in ("metrics", "per_sample", "quantiles", "histogram", "samples", "by_bucket"):
        same(streamed[name], whole[name])
    with pytest.raises(ValueError, match=r"^dataset: holds no batch; .*once only"):
        interpreter.study_relevance_distribution(dsa, source)
    same(
        interpreter.analyze_token_selection(dsa, iter(ids.split(1))).metrics,
        interpreter.analyze_token_selection(dsa, [ids]).metrics,
    )


def test_padding_on_either_side_and_every_form_of_batch_give_the_same(interpreter, dsa) -> None:
    ids = ids_of(2, 60)
    plain = interpreter.analyze_positional_bias(dsa, ids)
    filler, ones = torch.zeros(2, 9, dtype=torch.int64), torch.ones(2, 60, dtype=torch.int64)
    forms = [
        {"input_ids": torch.cat([filler, ids], 1), "attention_mask": torch.cat([filler, ones], 1)},
        BatchEncoding({"input_ids": torch.cat([ids, filler], 1), "attention_mask": torch.cat([ones, filler], 1)}),
        {"input_ids": ids.tolist()},
        [ids.numpy()],
        [(ids, torch.zeros(2))],
        [ids.to(torch.int32)],
        [ids.tolist()],
    ]
    for form in forms:
        found = interpreter.analyze_positional_bias(dsa, form)
        same(found.lift, plain.lift)
        assert found.samples["digest"].to_list() == plain.samples["digest"].to_list()
        assert found.samples["tokens"].to_list() == [60, 60]


def test_the_model_is_left_as_it_was(interpreter) -> None:
    model = tiny_dsa()
    ids = ids_of(1, 40)
    before = model(ids).logits
    model.train()
    model.model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    implementation = model.config._attn_implementation
    found = interpreter.analyze_positional_bias(model, ids)
    with pytest.raises(ValueError, match="dataset: holds no batch"):
        interpreter.analyze_positional_bias(model, [])
    assert [module.training for module in model.modules()] == modes
    assert model.config._attn_implementation == implementation
    torch.testing.assert_close(model.eval()(ids).logits, before)
    same(found.lift, interpreter.analyze_positional_bias(model, ids).lift)


def test_a_batch_too_short_for_a_selection_is_told_loudly(interpreter, dsa) -> None:
    short = ids_of(2, 8)
    for analyse in (
        interpreter.study_relevance_distribution,
        interpreter.analyze_positional_bias,
        interpreter.analyze_token_selection,
        interpreter.analyze_indexer_heads,
    ):
        with pytest.warns(UserWarning, match="longest sample has 8 tokens, and a query selects 8") as caught:
            found = analyse(dsa, short)
        assert caught[0].filename == __file__
        assert any("no query leaves a key out" in note for note in found.notes)
    assert found.leave_one_out_loss is None and found.focus.is_empty()
    with pytest.raises(ValueError, match=r"^IndexerHeads: holds nothing that could be drawn; "):
        interpreter.visualize_indexer_analysis(found)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert interpreter.analyze_token_selection(dsa, ids_of(2, 16)).in_effect == 0.5


WRONG = {
    "^batch 0: has 1 dimensions": lambda: [torch.arange(9)],
    r"^batch 0: has 3 dimensions, \[1, 9, 4\]": lambda: torch.zeros(1, 9, 4),
    r"^batch 1: is empty, \[0, 9\]": lambda: [ids_of(1, 9), ids_of(0, 9)],
    "^batch 0: has no input_ids, only labels": lambda: [{"labels": ids_of(1, 9)}],
    r"^batch 0 attention_mask: has shape \[1, 8\]": lambda: {
        "input_ids": ids_of(1, 9), "attention_mask": torch.ones(1, 8),
    },
    "^batch 0 row 0 attention_mask: has padding between tokens": lambda: {
        "input_ids": ids_of(1, 3), "attention_mask": torch.tensor([[1, 0, 1]]),
    },
    "^batch 0 row 1: is nothing but padding": lambda: {
        "input_ids": ids_of(2, 3), "attention_mask": torch.tensor([[1, 1, 1], [0, 0, 0]]),
    },
    r"^sample 0 \(batch 0 row 0\): has token id 97, but the vocabulary .* is 0 to 96": lambda: torch.full((1, 9), 97),
    r"^sample 1 \(batch 1 row 0\): has 600 tokens, but the positions .* end at 512": lambda: [
        ids_of(1, 9), ids_of(1, 600),
    ],
    "^dataset: holds no batch": lambda: iter([]),
}  # fmt: skip


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_dataset_is_one_clear_value_error(interpreter, dsa, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        interpreter.study_relevance_distribution(dsa, WRONG[words]())
    assert "\n" not in str(caught.value) and ";" in str(caught.value)


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (5, "dataset is int, not an iterable"),
        ("text", "dataset is str, not an iterable"),
        (torch.rand(1, 9), "batch 0: is torch.float32, not token ids"),
        (["text"], "batch 0: str is no tensor"),
        ([None], "batch 0: NoneType is no tensor"),
    ],
)
def test_what_is_no_dataset_is_a_type_error(interpreter, dsa, dataset, words: str) -> None:
    with pytest.raises(TypeError, match=f"^{re.escape(words)}"):
        interpreter.study_relevance_distribution(dsa, dataset)


def test_what_is_no_model_is_refused(interpreter) -> None:
    for model in (None, "builtin:light", torch.nn.Linear(2, 2), 3):
        with pytest.raises(TypeError, match="is no model with an indexer; give a causal model"):
            interpreter.analyze_indexer_heads(model, ids_of(1))
    with pytest.raises(ValueError, match=r"^LlamaForCausalLM: has no indexer; "):
        interpreter.study_relevance_distribution(tiny_llama(), ids_of(1))
    with pytest.raises(TypeError, match=r"^dict is no analysis of an indexer"):
        interpreter.visualize_indexer_analysis({})


def test_pictures_are_the_reports_and_are_saved_in_three_formats(interpreter, light, tmp_path: Path) -> None:
    ids = ids_of(4, 96, 500)
    selection = interpreter.analyze_token_selection(light, ids)
    figure = interpreter.visualize_indexer_analysis(selection, save_path=tmp_path / "a.png")
    recall = selection.metrics.filter((pl.col("metric") == "selection_recall") & pl.col("layer").is_not_null())
    drawn = figure.data.filter((pl.col("series") == selection.called) & pl.col("layer").is_not_null())
    assert drawn["value"].to_list()[: recall.height] == recall.sort("layer")["value"].to_list()
    headings = [text.get_text() for place in figure.subfigs for text in place.texts]
    assert headings == ["Attention kept by layer", "Kinds of tokens", "Key budget"]
    interpreter.visualize_indexer_analysis(selection, save_path=str(tmp_path / "b.svg"))
    interpreter.visualize_indexer_analysis(selection, save_path=tmp_path / "c.PDF")
    starts = {name: (tmp_path / name).read_bytes()[:5] for name in ("a.png", "b.svg", "c.PDF")}
    assert starts == {"a.png": b"\x89PNG\r", "b.svg": b"<?xml", "c.PDF": b"%PDF-"}
    with pytest.raises(ValueError, match=r"a\.jpg.* ends in .\.jpg.; give \.png, \.svg or \.pdf"):
        interpreter.visualize_indexer_analysis(selection, save_path=tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="cannot be written"):
        interpreter.visualize_indexer_analysis(selection, save_path=tmp_path / "none" / "a.png")


def test_pictures_of_analyses_are_kept_in_a_folder_by_question_and_model(dsa, tmp_path: Path) -> None:
    keeping = IndexerInterpreter(save_dir=tmp_path / "pictures")
    ids = ids_of(2, 40)
    one, other = (keeping.analyze_positional_bias(dsa, ids, name=name) for name in ("one", "the other/v2"))
    for analysis in (one, one, other, compare_indexer_analyses(one, other)):
        keeping.visualize_indexer_analysis(analysis)
    keeping.visualize_indexer_analysis(one, save_path=tmp_path / "own.png")
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == [
        "positional_bias_one.png",
        "positional_bias_one_2.png",
        "positional_bias_the_other_v2.png",
        "positional_bias_the_other_v2_against_one.png",
    ]


def test_results_are_mappings_that_print_their_numbers_and_become_frames(interpreter, dsa) -> None:
    found = interpreter.analyze_positional_bias(dsa, ids_of(4), name="mine")
    assert found["recency_lift"] == found.recency_lift and "lift" in found
    text = repr(found)
    assert text.startswith("PositionalBias of mine, n = 4 samples\n  positional_bias ")
    assert f"recency_lift               {found.recency_lift:.4f} ratio  (" in text
    frame = found.to_frame()
    assert frame.columns == ["name", "value", "unit", "ci_low", "ci_high", "n", "leaks"]
    row = frame.row(by_predicate=pl.col("name") == "recency_lift", named=True)
    assert row["value"] == found.recency_lift and row["ci_low"] < row["value"] < row["ci_high"] and row["n"] == 4
    assert set(found.frames()) == {"values", "samples", "metrics", "per_sample", "costs", "lift"}
    told = repr(interpreter.analyze_indexer_heads(dsa, ids_of(2)))
    assert "layer 0: " in told and told.count("; ") >= 7
