"""The recipe of the built-in models, at a size that trains in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, repeat

import numpy as np
import polars as pl
import pytest
import torch

from indexscope.analysis.demo.card import model_card
from indexscope.analysis.demo.copies import Row, asked_rows, copied_rows, mixed_batches
from indexscope.analysis.demo.evaluate import Evaluation, answered, evaluate
from indexscope.analysis.demo.pretrain import Schedule, learn_copies, pretrain, training_batches
from indexscope.analysis.demo.recipe import DemoRecipe, IndexerVariant, demo_config
from indexscope.analysis.demo.tokenizer import token_stream, train_tokenizer
from indexscope.analysis.demo.variant import fit_variant, with_body
from indexscope.storage.inputs.stdlib import stdlib_documents

TINY = replace(
    DemoRecipe(), vocab_size=300, context=48, hidden_size=48, layers=2, heads=2, intermediate_size=64, index_topk=8,
    steps=60, batch=4, warmup_steps=5, copy_steps=40, copied_rows=1, asked_rows=1, indexer_steps=60, indexer_batch=4,
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


def asked(seed: int = 0) -> Iterator[Row]:
    """Rows of 49 tokens: pairs of a key and its value, and at the end one of the keys again."""
    random = np.random.default_rng(seed)
    while True:
        pairs = random.permutation(np.arange(100, 200))[:46].reshape(23, 2)
        asked = pairs[random.integers(23)]
        yield from asked_rows([([0, *pairs.ravel().tolist(), *asked.tolist()], [(48, 49)])])


def test_a_body_goes_on_to_learn_what_comes_again_and_the_same_recipe_gives_the_same(
    body: tuple[dict[str, torch.Tensor], list[float]],
) -> None:
    losses: list[float] = []
    taught = learn_copies(TINY, body[0], counting(), asked(), lambda step, steps, loss: losses.append(loss))
    assert len(losses) == 40 and np.mean(losses[-5:]) < 0.8 * losses[0]
    again = learn_copies(TINY, body[0], counting(), asked())
    assert all(torch.equal(one, again.state_dict()[name]) for name, one in taught.state_dict().items())
    with pytest.raises(ValueError, match="lacks"):
        learn_copies(TINY, {}, counting(), asked())


def test_passages_come_again_token_by_token_and_are_marked_from_their_third_token_on() -> None:
    texts = (np.arange(start, start + 100, dtype=np.int64) for start in repeat(1000))
    shuffled = 0
    for ids, marks in islice(copied_rows(texts, 3), 50):
        assert len(ids) == len(marks) == 100
        places = np.flatnonzero(marks)
        assert len(places) and (np.diff(places) == 1).all()
        (first,) = np.flatnonzero(ids[: places[0]] == ids[places[0]])
        assert (ids[first : first + len(places)] == ids[places]).all(), "the copy of what stands before it"
        assert (ids[first - 2 : first] == ids[places[0] - 2 : places[0]]).all(), "its first two tokens are not marked"
        shuffled += not (np.diff(ids[places]) == 1).all()
    assert 10 < shuffled < 40


def test_a_batch_mixes_text_copies_and_questions_and_weighs_what_comes_again() -> None:
    batches = repeat(np.arange(4 * 49, dtype=np.int64).reshape(4, 49))
    ids, weights = next(mixed_batches(batches, asked(), TINY))
    assert ids.shape == weights.shape == (4, 49)
    assert (weights[:2] == 1).all() and (ids[:2] == np.arange(2 * 49).reshape(2, 49)).all()
    assert set(weights[2]) == {1, TINY.copy_weight}
    assert weights[3].tolist() == [1] * 48 + [TINY.copy_weight]


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
    schedule = Schedule(TINY.steps, TINY.warmup_steps, 1.0)
    scales = [schedule.rate(step) for step in range(TINY.steps)]
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
    some = features["tokens"].with_columns(dense_nll=pl.Series([3.0, None]))
    assert evaluate({**features, "tokens": some}).dense_nll == 3.0, "of the samples that have a dense reference"
    rows = [("copy", 48, True, False), ("copy", 48, True, True), ("single", 24, False, False)]
    answers = answered(pl.DataFrame(rows, ["kind", "tokens", "dense_exact", "exact"], orient="row"))
    card = model_card(TINY, VARIANT, found, 1234, 56, "3.11.0", answers)
    assert "as it\nwas shipped" not in card
    assert "as it\nwas shipped" in model_card(TINY, VARIANT, found, 1234, 56, "3.11.0", answers, continued=True)
    for part in (
        "| copy | 48 | 2 | 1.00 | 0.50 |",
        "| single | 24 | 1 | 0.00 | 0.00 |",
        "3 of them",
        "| loss, nats per token | 2.500 | 1.500 |",
        "0.800 of a possible 0.900",
        "1,234",
        "Seed 20251",
    ):
        assert part in card


def test_variants_share_everything_but_their_indexers() -> None:
    wide, light = (demo_config(DemoRecipe(), variant).to_dict() for variant in DemoRecipe().variants)
    assert {name for name in wide if wide[name] != light[name]} == {"index_n_heads", "index_head_dim"}
