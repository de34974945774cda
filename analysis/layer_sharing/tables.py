"""The tables of sharing a selection across layers: the close-up's and the analysis'."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.metrics.tables import BOTH
from indexscope.columns import SAMPLES, Column, interval, of, table_of

_SOURCE = of(pl.Int16, source="Index of the layer whose selection is used, at most the layer itself.")


def _alike(weight: str = "") -> tuple[Column, ...]:
    return of(
        pl.Float64,
        "share",
        weight,
        jaccard="Keys that both layers select, of those that either selects.",
        overlap="Keys that both layers select, of those that the layer selects.",
        recall="Dense attention of the layer's head mean on the source's selection.",
        own_recall="The same on the layer's own selection.",
    )


LAYER_SHARING = table_of(
    "sample, layer, source",
    "sample layer source",
    _SOURCE,
    of(pl.Boolean, own="Whether the layer has an indexer of its own."),
    of(pl.Int32, "queries", queries="Sampled queries in effect in the layer."),
    of(pl.Float64, "queries", weight="Queries that they stand for."),
    _alike("weight"),
    of(
        pl.Float64,
        "share",
        "weight",
        oracle_recall="Dense attention on the best keys, as many as the layer selects.",
        random_recall="What as many random keys would hold on average.",
    ),
)
SIMILARITY = table_of(
    "layer, source",
    "layer source",
    _SOURCE,
    _alike(),
    of(
        pl.Float64,
        "share",
        random_recall="What as many random keys would hold on average.",
        loss="The layer's own recall less that with the source's selection.",
    ),
    interval("share", whose="the loss'"),
    SAMPLES,
)
SCHEDULES = table_of(
    "number of indexers, method",
    "indexers method",
    of(pl.Int16, "layers", indexers="Layers that keep an indexer of their own."),
    of(
        pl.String,
        method="How they were chosen: exact, greedy or even.",
        layers="Which they are, parted by commas.",
    ),
    of(pl.Float64, "share", loss="Recall lost, averaged over layers; chosen and measured on the same samples."),
    interval("share", more=", of this fixed schedule"),
    of(
        pl.Float64,
        "share",
        loss_held_out="The loss with each half of the samples under the schedule that the other half chose.",
    ),
    interval("share", "held_out_ci_low", "held_out_ci_high"),
    of(pl.Int16, worst_layer="The layer that loses most; null where none reuses a selection."),
    of(
        pl.Float64,
        "share",
        worst_loss="What that layer loses.",
        indexer_share="Indexers that are kept, of those that the model has.",
    ),
    of(pl.Int32, "samples", n="Samples that every layer was measured in."),
    ordered=False,
)
COLLECTED = {"layer_sharing": LAYER_SHARING}
RESULTS = {**BOTH, "similarity": SIMILARITY, "schedules": SCHEDULES}
