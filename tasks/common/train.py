"""The steps that make the built-in models."""

from __future__ import annotations

import platform
import random
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import torch
from prefect import task
from transformers import DeepseekV32ForCausalLM, PreTrainedTokenizerFast

from indexscope.analysis.capture.facts import model_facts
from indexscope.analysis.demo.card import model_card
from indexscope.analysis.demo.copies import Row, asked_rows
from indexscope.analysis.demo.evaluate import Evaluation, answered, evaluate
from indexscope.analysis.demo.pretrain import Progress, learn_copies, pretrain, training_batches
from indexscope.analysis.demo.recipe import DemoRecipe, IndexerVariant
from indexscope.analysis.demo.tokenizer import token_stream, train_tokenizer
from indexscope.analysis.demo.variant import fit_variant, with_body
from indexscope.analysis.evidence.watch import AnswerWatch
from indexscope.analysis.features import extract_samples
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.datasets import DatasetSettings, load_samples
from indexscope.storage.inputs.demo_models import (
    COPYING,
    body_key,
    copying_key,
    load_body,
    save_body,
    save_checkpoint,
)
from indexscope.storage.inputs.needle.haystack import STDLIB, haystack
from indexscope.storage.inputs.needle.pieces import Pieces
from indexscope.storage.inputs.needle.practice import practice
from indexscope.storage.inputs.needle.settings import NeedleSettings
from indexscope.storage.inputs.stdlib import stdlib_documents

Body = dict[str, torch.Tensor]
WARM_UP_SEQUENCES = 2048
#: What cards report is measured with every key selected on all samples too.
EVERY = ExtractSettings(dense_reference=True)


@task(name="train tokenizer")
def make_tokenizer(recipe: DemoRecipe) -> PreTrainedTokenizerFast:
    """Train the tokenizer on the training split."""
    return train_tokenizer((document.text for document in stdlib_documents("train")), recipe.vocab_size)


@task(name="pre-train body")
def make_body(recipe: DemoRecipe, tokenizer: PreTrainedTokenizerFast, work: Path, progress: Progress | None) -> Body:
    """Pre-train the body, or take up the one that an earlier run of the same recipe left."""
    documents = stdlib_documents("train")
    key = body_key(recipe.pretraining(), documents)
    body = load_body(work, key)
    if body is None:
        tokens = token_stream(tokenizer, (document.text for document in documents))
        body = dict(pretrain(recipe, tokens, progress).state_dict())
        save_body(work, key, body)
    return body


@task(name="learn copies")
def make_copying(
    recipe: DemoRecipe, tokenizer: PreTrainedTokenizerFast, body: Body, work: Path, progress: Progress | None
) -> Body:
    """Train a body on with copies and questions, or take up what an earlier run made of the same one."""
    documents = stdlib_documents("train")
    key = copying_key(recipe.copying(), documents, body)
    found = load_body(work, key, COPYING)
    if found is None:
        tokens = token_stream(tokenizer, (document.text for document in documents))
        found = dict(learn_copies(recipe, body, tokens, asked_texts(recipe, tokenizer), progress).state_dict())
        save_body(work, key, found, COPYING)
    return found


def asked_texts(recipe: DemoRecipe, tokenizer: PreTrainedTokenizerFast) -> Iterator[Row]:
    """Texts with questions, endless, hidden in what is trained on."""
    text = haystack(STDLIB, Pieces(tokenizer), trained_on=True)
    draw = random.Random(f"practice of seed {recipe.seed}")
    yield from asked_rows(practice(text, recipe.context + 1, draw) for _ in count())


@task(name="fit indexer", task_run_name="fit indexer {variant.name}")
def make_variant(
    recipe: DemoRecipe,
    variant: IndexerVariant,
    tokenizer: PreTrainedTokenizerFast,
    body: Body,
    out: Path,
    progress: Progress | None,
    continued: bool,
) -> Evaluation:
    """Fit one variant's indexers, measure it on held-out text and write its checkpoint."""
    tokens = token_stream(tokenizer, (document.text for document in stdlib_documents("train")))
    batches = training_batches(tokens, recipe)
    sequences = torch.cat([torch.from_numpy(next(batches)) for _ in range(WARM_UP_SEQUENCES // recipe.batch)])
    model = fit_variant(with_body(body, recipe, variant), sequences[:, :-1], recipe, variant, progress)
    held_out = load_samples(DatasetSettings(max_length=recipe.context), tokenizer, recipe.vocab_size)
    found = evaluate(extract_samples(model, held_out, EVERY))
    facts = model_facts(model).row(0, named=True)
    python = platform.python_version()
    answers = answered(answers_of(model, tokenizer, recipe))
    card = model_card(
        recipe, variant, found, facts["parameters"], facts["indexer_parameters"], python, answers, continued
    )
    save_checkpoint(out / variant.name, model, tokenizer, card)
    return found


def answers_of(model: DeepseekV32ForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: DemoRecipe) -> pl.DataFrame:
    """The table of answers to needles in held-out text, with the selection and with every key."""
    needle = NeedleSettings(lengths=(recipe.context // 2, recipe.context), depths=5, per_cell=2)
    samples = load_samples(
        DatasetSettings(source="builtin:needle", needle=needle, samples=None), tokenizer, recipe.vocab_size
    )
    watching: Any = AnswerWatch  # which wants samples that may be marked, as all of these are
    return extract_samples(model, samples, EVERY, watching=watching)["answers"]
