"""The card that goes with a fitted indexer."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from indexscope.analysis.fitting.summary import summarised


def fitted_card(
    name: str, model: str, parameters: int, settings: Mapping[str, object], held_out: pl.DataFrame, whole: str
) -> str:
    """Markdown: what it is, how it was made, and what it selects on held-out text.

    Args:
        name: Of the indexer.
        model: What it was fitted to, in words.
        parameters: Of all layers together.
        settings: What the fit was told.
        held_out: Rows of `indexscope.analysis.fitting.tables.HELD_OUT`, of the end, the body attending to the
            selection.
        whole: What is to be said of a whole checkpoint.
    """
    told = "\n".join(f"| {key} | {value} |" for key, value in settings.items())
    overall, layers = summarised(held_out, ("topk",)), summarised(held_out, ("topk", "layer"))
    samples = held_out["sample"].n_unique()
    rows = "\n".join(
        f"| {row['topk']} | {_value(row, 'selection_recall')} | {row['oracle_recall']:.3f} "
        f"| {row['random_recall']:.3f} | {_value(row, 'recall_of_oracle')} "
        f"| {_value(row, 'selection_skill')} | {_value(row, 'kl')} |"
        for row in overall.iter_rows(named=True)
    )
    by_layer = "\n".join(
        f"| {row['topk']} | {row['layer']} | {row['selection_recall']:.3f} | {row['oracle_recall']:.3f} "
        f"| {row['random_recall']:.3f} | {row['selection_skill']:.3f} | {row['kl']:.3f} |"
        for row in layers.iter_rows(named=True)
    )
    return f"""# Lightning indexer {name}

A lightning indexer for every attention layer of {model}: {parameters:,} parameters, with the arithmetic of
DeepSeek-V3.2's. Made by `indexscope fit`; a study takes it as `{{path: …, indexer: {name}, topk: …}}`. {whole}

## How it was made

The body was frozen. Dense stage: KL(head-mean attention || softmax of the index scores) over all keys. Sparse stage:
the same over the selected keys, the body attending to them, one number of keys after the other.

| setting | value |
| --- | --- |
{told}

## On held-out text

{samples} sequences that it was not fitted to, float32, the body attending to what is selected. Recall is the dense
attention of the head mean on the selected keys, over queries with more keys than are selected; the oracle selects the
best keys of the same number. In brackets the 95 % interval over sequences.

| keys | recall | oracle | random | of the oracle's | skill | KL, nats |
| --- | --- | --- | --- | --- | --- | --- |
{rows}

| keys | layer | recall | oracle | random | skill | KL, nats |
| --- | --- | --- | --- | --- | --- | --- |
{by_layer}
"""


def _value(row: Mapping[str, float], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return f"{row[name]:.3f} ({low:.3f} to {high:.3f})" if low == low else f"{row[name]:.3f}"
