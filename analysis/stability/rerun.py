"""What becomes of selections and predictions when a model runs with other chunks, tie-breaks or score precisions.

What is kept of a run are the logits and the selections of the sampled queries alone (queries x vocabulary floats, and
masks queries x length of each layer), of two runs at most; whole logits never outlive their chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from indexscope.analysis.capture.protocol import TracedModel
from indexscope.analysis.capture.source import Source
from indexscope.analysis.closeup.collect import Again, Tables
from indexscope.analysis.closeup.rows import closeup_queries
from indexscope.analysis.closeup.weighted import Groups, Queries, array, grouped
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.features.buckets import bucket_of
from indexscope.analysis.features.intake import TokenSequence, evenly
from indexscope.analysis.stability.reselect import LayerSelection, Run, begun
from indexscope.analysis.stability.rounding import ROUNDINGS, TIES
from indexscope.analysis.stability.tables import OUTPUT_STABILITY, SELECTION_RERUN

CHUNKS = ("chunk_half", "chunk_odd")
RERUNS = (*CHUNKS, TIES, *ROUNDINGS)
"""Runs beside the reference: half the chunk, an odd one, ties broken to the latest key, and each rounding."""


_WHOLE = (
    "it runs whole sequences, so that another chunk means nothing to it, and it cannot go on from another selection: "
    "what ties and score precision change is known of each layer's own selection, and null of predictions"
)


def rerun_some(again: Again) -> Tables:
    """`rerun_stability` of as many samples as the settings say, spread evenly."""
    source, samples, count = again.source, again.samples, again.settings.rerun_of(len(again.samples))
    if count and source.has_indexer and isinstance(source, TracedModel):
        again.attempt.journal.note(f"{source.family}: {_WHOLE}")
    chosen = [samples[place] for place in evenly(len(samples), count)]
    return rerun_stability(source, chosen, again.settings.queries, again.attempt)


def rerun_stability(source: Source, samples: Sequence[TokenSequence], queries: int, attempt: Attempt) -> Tables:
    """Run samples again under every variant and compare with the reference run at the sampled queries.

    A variant's selection replaces S_t of every query in every layer with token scores of its own, and in layers that
    reuse such a selection; later layers then see what became of it. Variants that could replace nothing (pooled
    entries) have no rows.

    Args:
        source: The model. One that selects nothing gives empty tables, as does one that hands out finished traces
            (docs/protocol.md): it runs whole sequences, and cannot go on from another selection.
        samples: A few samples: each costs 1 + 7 forwards.
        queries: Queries of a sample that are compared, at most.
        attempt: Chooses and halves the chunk.

    Returns:
        ``output_stability`` by sample, bucket and variant; ``selection_rerun`` by sample, layer and variant.
    """
    parts = {"output_stability": [OUTPUT_STABILITY.empty()], "selection_rerun": [SELECTION_RERUN.empty()]}
    if source.has_indexer and not isinstance(source, TracedModel):
        each = ([sample] for sample in samples)
        found = attempt.gathered(each, lambda batch, chunk: _compare(source, batch[0], queries, chunk))
        parts = {name: [*empty, *found.get(name, ())] for name, empty in parts.items()}
    return {name: pl.concat(frames) for name, frames in parts.items()}


def other_chunks(chunk: int, length: int) -> dict[str, int]:
    """Chunks to run again with: half of what was used, and an odd size near two thirds of it.

    >>> other_chunks(64, 1000), other_chunks(256, 100)
    ({'chunk_half': 32, 'chunk_odd': 43}, {'chunk_half': 50, 'chunk_odd': 67})
    """
    used = min(chunk, length)
    return {"chunk_half": max(1, used // 2), "chunk_odd": (used * 2 // 3) | 1}


def _compare(source: Source, sample: TokenSequence, queries: int, chunk: int) -> Tables:
    ids = torch.tensor([list(sample.input_ids)], dtype=torch.int64)
    places, weights = closeup_queries(ids.shape[1], queries, sample.index)
    sizes = other_chunks(chunk, ids.shape[1])
    asked = begun(source, ids, places, chunk)
    others = {
        variant: begun(source, ids, places, sizes.get(variant, chunk), None if variant in CHUNKS else variant)
        for variant in RERUNS
    }
    reference = asked()
    outputs, selections = [], []
    for variant in RERUNS:
        other = others.pop(variant)()
        if variant in CHUNKS or other.replaced:
            found = output_change(reference, other, ids[0], places)
            values = {"weight": array(weights), **{name: array(value) for name, value in found.items()}}
            outputs.append(Queries({"variant": variant, "bucket": bucket_of(places).numpy()}, values))
            for layer, selection in reference.layers.items():
                changed = array(selection_change(selection, other.layers[layer].selected, variant != TIES))
                own = Queries({"variant": variant, "layer": layer}, {"weight": array(weights), "changed": changed})
                selections.append(own.of(~np.isnan(changed)))
    return {
        "output_stability": grouped(outputs, OUTPUT_STABILITY, sample.index, _beside_means),
        "selection_rerun": grouped(selections, SELECTION_RERUN, sample.index),
    }


def _beside_means(groups: Groups) -> dict[str, NDArray[Any]]:
    """The columns of ``output_stability`` that are no means."""
    return {"tokens": groups.count(), "max_kl": groups.most("kl"), "nll_weight": groups.known("nll_change")}


def output_change(reference: Run, other: Run, ids: torch.Tensor, places: torch.Tensor) -> dict[str, torch.Tensor]:
    """How the next-token distributions of the sampled queries differ, [Q] each, in float64.

    Returns:
        kl = KL(reference || other) in nats, top1_equal = whether the likeliest token is the same, nll_change = nll of
        the true next token less the reference's; NaN for the last token, which has none.
    """
    before, after = (part.logits.double().log_softmax(-1) for part in (reference, other))
    following = places[places + 1 < len(ids)] + 1
    known = slice(0, len(following))
    nll_change = torch.full(places.shape, torch.nan, dtype=torch.float64)
    truth = ids[following].unsqueeze(-1)
    nll_change[known] = (before[known].gather(-1, truth) - after[known].gather(-1, truth)).squeeze(-1)
    return {
        "kl": (before.exp() * (before - after)).sum(-1).clamp(min=0.0),
        "top1_equal": before.argmax(-1) == after.argmax(-1),
        "nll_change": nll_change,
    }


def selection_change(reference: LayerSelection, other: torch.Tensor, up_to_ties: bool) -> torch.Tensor:
    """Share of the reference's selection that another run lacks, [Q], float64; NaN for queries not in effect.

    Args:
        reference: The layer in the reference run.
        other: S_t of the other run, [Q, length].
        up_to_ties: Whether another choice among equal scores of the reference counts as none.
    """
    k = reference.selected.sum(-1)
    lost = (reference.selected & ~other).sum(-1)
    if up_to_ties and reference.exact is not None:
        lost = reference.exact.lost(other)
    return torch.where((k > 0) & (reference.n > k), lost.double() / k, torch.nan)
