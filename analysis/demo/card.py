"""The card that goes with a built-in model."""

from __future__ import annotations

from dataclasses import asdict

import polars as pl

from indexscope.analysis.demo.evaluate import Evaluation
from indexscope.analysis.demo.recipe import DemoRecipe, IndexerVariant

NOT_SHOWN = {"variants", "seed"}
_CONTINUED = """
The first stage was not run for these weights: the second one goes on from the body of an earlier built-in model as it
was shipped, rounded to bfloat16 (`--begin builtin:baseline`).
"""


def model_card(
    recipe: DemoRecipe,
    variant: IndexerVariant,
    found: Evaluation,
    parameters: int,
    indexer_parameters: int,
    python: str,
    answers: pl.DataFrame,
    continued: bool = False,
) -> str:
    """Markdown: data, recipe, seed, held-out loss, recall and answers of one variant.

    Args:
        recipe: All settings.
        variant: The indexer.
        found: What it comes to on held-out text.
        parameters: Of the model.
        indexer_parameters: Of its indexers.
        python: Version of the interpreter whose standard library was read.
        answers: What share of answers is exact, of `indexscope.analysis.demo.evaluate.answered`.
        continued: Whether the first stage was left out, for the body of a model made earlier.
    """
    settings = "\n".join(f"| {name} | {value} |" for name, value in asdict(recipe).items() if name not in NOT_SHOWN)
    layers = "\n".join(
        f"| {row['layer']} | {row['selection_recall']:.3f} | {row['oracle_recall']:.3f} | {row['random_recall']:.3f} |"
        for row in found.recall.iter_rows(named=True)
    )
    plain = recipe.batch - recipe.copied_rows - recipe.asked_rows
    needles = "\n".join(
        f"| {row['kind']} | {row['tokens']} | {row['samples']} | {row['dense_exact']:.2f} | {row['exact']:.2f} |"
        for row in answers.iter_rows(named=True)
    )
    return f"""# Indexscope demo model: {variant.name}

A `DeepseekV32ForCausalLM` of {parameters:,} parameters, {indexer_parameters:,} of them in its lightning indexers
({variant.heads} heads x {variant.dim}, index_topk {recipe.index_topk}). It exists to be looked at by Indexscope; it is
too small to be of other use. All variants share the same frozen body; only their indexers differ.

## Data

The documentation topics (`pydoc_data.topics`) and the sources of the standard library of Python {python}, without
tests, encodings, idlelib and lib2to3. Documents whose name hashes into the last tenth are held out
(`storage/inputs/stdlib.py`); the numbers below, and the built-in dataset `python-stdlib`, are of those alone.

## Recipe

Made by `indexscope train-demo`: byte-level BPE; dense pre-training of the body in bfloat16 autocast (Muon for matrices,
AdamW for the rest, cosine schedule); a second stage of {recipe.copy_steps} steps, of whose {recipe.batch} sequences
{plain} are text, {recipe.copied_rows} text in which passages come again, and {recipe.asked_rows} text with questions.
These are of the kinds of builtin:needle, about other things, in other numbers, and in text that is trained on
(`storage/inputs/needle/words.py`). A token of a copy or an answer counts {recipe.copy_weight:g} times.
Then rounding to bfloat16 and, with the body frozen, the dense stage of `indexscope fit`, KL(head-mean attention ||
softmax of index scores) in every layer. Seed {recipe.seed}.
{_CONTINUED if continued else ""}
| setting | value |
| --- | --- |
{settings}

## Held-out results

{found.samples} sequences, {found.tokens:,} tokens, float32.

| | sparse (as shipped) | dense attention, same weights |
| --- | --- | --- |
| loss, nats per token | {found.nll:.3f} | {found.dense_nll:.3f} |
| top-1 accuracy | {found.accuracy:.3f} | |

Recall of dense attention mass, head mean, over queries with more than {recipe.index_topk} keys:
{found.mean_recall("selection_recall"):.3f} of a possible {found.mean_recall("oracle_recall"):.3f} (oracle), against
{found.mean_recall("random_recall"):.3f} for a random selection.

| layer | selection | oracle | random |
| --- | --- | --- | --- |
{layers}

## Answers

Needles of builtin:needle in held-out text, {answers["samples"].sum()} of them: the share of answers of
which every token is the likeliest at its place.

| kind | tokens | samples | with every key | with the selection |
| --- | --- | --- | --- | --- |
{needles}

## Licence

Weights: Apache-2.0. The training text is Python's own documentation and sources, under the PSF licence; it is not
included.
"""
