"""The recipe of the built-in models, at a size that trains in seconds."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import polars as pl
import pytest
import torch

from indexscope.analysis.demo.card import model_card
from indexscope.analysis.demo.evaluate import Evaluation, evaluate
from indexscope.analysis.demo.pretrain import learning_rate_scale, pretrain, training_batches
from indexscope.analysis.demo.recipe import DemoRecipe, IndexerVariant, demo_config
from indexscope.analysis.demo.tokenizer import token_stream, train_tokenizer
from indexscope.analysis.demo.variant import fit_variant, with_body
from indexscope.storage.inputs.stdlib import stdlib_documents

TINY = replace(
    DemoRecipe(), vocab_size=300, context=48, hidden_size=48, layers=2, heads=2, intermediate_size=64, index_topk=8,
    steps=60, batch=4, warmup_steps=5, indexer_steps=60, indexer_batch=4,
)  # fmt: skip
VARIANT = IndexerVariant("two", 2, 32)


def counting(documents: int = 40) -> list[list[int]]:
    """Documents of which every token follows from the one before."""
    return [[0, *((start + step) % 50 + 1 for step in range(60))] for start in range(documents)]


@pytest.fixture(scope="module")
def body() -> tuple[dict[str, torch.Tensor], list[float]]:
    losses: list[float] = []
    model = pretrain(TINY, counting(), lambda step, steps, loss: losses.append(loss))
    return model.state_dict(), losses


def test_pre_training_learns_what_can_be_learnt(body: tuple[dict[str, torch.Tensor], list[float]]) -> None:
    _, losses = body
    assert losses[0] > 5
    assert losses[-1] < 1.5


def test_the_same_recipe_gives_the_same_body(body: tuple[dict[str, torch.Tensor], list[float]]) -> None:
    short = replace(TINY, steps=3)
    first, second = (pretrain(short, counting()).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_fitting_brings_the_scores_to_the_attention_and_leaves_the_body_alone(
    body: tuple[dict[str, torch.Tensor], list[float]],
) -> None:
    unfitted = with_body(body[0], TINY, VARIANT)
    before = {name: tensor.clone() for name, tensor in unfitted.state_dict().items()}
    losses: list[float] = []
    sequences = torch.tensor([document[:48] for document in counting()])
    model = fit_variant(unfitted, sequences, TINY, VARIANT, lambda step, steps, loss: losses.append(loss))
    assert np.mean(losses[-5:]) < 0.6 * losses[0]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == (".indexer." not in name), name
        assert torch.equal(tensor, tensor.to(torch.bfloat16).float()), "what is measured is what is shipped"


def test_every_epoch_shows_every_token_once() -> None:
    documents = [list(range(1, 100)), list(range(100, 301))]
    recipe = replace(TINY, context=29, batch=5)
    epoch = np.concatenate(list(islice(training_batches(documents, recipe), 2)))
    assert epoch.shape == (10, 30)
    assert sorted(epoch.ravel().tolist()) == list(range(1, 301))


def test_the_learning_rate_rises_then_falls_to_a_twentieth() -> None:
    scales = [learning_rate_scale(step, TINY) for step in range(TINY.steps)]
    assert scales[0] == pytest.approx(0.2)
    assert max(scales) == scales[5] == pytest.approx(1.0)
    assert scales[-1] == pytest.approx(0.05, abs=0.01)


def test_any_text_comes_back_from_the_tokenizer() -> None:
    tokenizer = train_tokenizer(["def f(x): return x"], 300)
    for text in ("def f(x): return x", "Ünïcödé 🙂 \t\r\n", "<|x|>"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert token_stream(tokenizer, ["a"])[0][0] == 0


def test_held_out_text_is_no_training_text() -> None:
    train, held_out = ({document.name for document in stdlib_documents(split)} for split in ("train", "held_out"))
    assert not train & held_out
    assert 0.04 < len(held_out) / len(train | held_out) < 0.2


def test_the_card_says_what_was_measured() -> None:
    weights = {"queries_in_effect": [1, 3]}
    features = {
        "samples": pl.DataFrame({"sample": [0]}),
        "tokens": pl.DataFrame({"tokens": [1, 3], "nll": [4.0, 2.0], "dense_nll": [3.0, 1.0], "accuracy": [0.0, 1.0]}),
        "indexer": pl.DataFrame(
            {"layer": [0, 0], "selection_recall": [0.5, 0.9], "oracle_recall": [0.6, 1.0], "random_recall": [0.1, 0.3]}
            | weights
        ),
    }
    found = evaluate(features)
    assert found == Evaluation(1, 4, 2.5, 1.5, 0.75, found.recall)
    assert found.recall.row(0) == pytest.approx((0, 0.8, 0.9, 0.25))
    card = model_card(TINY, VARIANT, found, 1234, 56, "3.11.0")
    for part in ("| loss, nats per token | 2.500 | 1.500 |", "0.800 of a possible 0.900", "1,234", "Seed 20251"):
        assert part in card


def test_variants_share_everything_but_their_indexers() -> None:
    wide, light = (demo_config(DemoRecipe(), variant).to_dict() for variant in DemoRecipe().variants)
    assert {name for name in wide if wide[name] != light[name]} == {"index_n_heads", "index_head_dim"}
