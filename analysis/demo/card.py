"""The card that goes with a built-in model."""

from __future__ import annotations

from dataclasses import asdict

from indexscope.analysis.demo.evaluate import Evaluation
from indexscope.analysis.demo.recipe import DemoRecipe, IndexerVariant

NOT_SHOWN = {"variants", "seed"}


def model_card(
    recipe: DemoRecipe,
    variant: IndexerVariant,
    found: Evaluation,
    parameters: int,
    indexer_parameters: int,
    python: str,
) -> str:
    """Markdown: data, recipe, seed, held-out loss and recall of one variant."""
    settings = "\n".join(f"| {name} | {value} |" for name, value in asdict(recipe).items() if name not in NOT_SHOWN)
    layers = "\n".join(
        f"| {row['layer']} | {row['selection_recall']:.3f} | {row['oracle_recall']:.3f} | {row['random_recall']:.3f} |"
        for row in found.recall.iter_rows(named=True)
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
AdamW for the rest, cosine schedule); rounding to bfloat16; then, with the body frozen, the dense stage of
`indexscope fit`, KL(head-mean attention || softmax of index scores) in every layer. Seed {recipe.seed}.

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

## Licence

Weights: Apache-2.0. The training text is Python's own documentation and sources, under the PSF licence; it is not
included.
"""
