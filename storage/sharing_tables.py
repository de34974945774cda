"""The tables of sharing a selection across layers: the probe's and the analysis'."""

from __future__ import annotations

from storage.columns import SAMPLES, Column, Table, interval, of, table
from storage.result_tables import RESULTS

_SOURCE: tuple[Column, ...] = of(source="Index of the layer whose selection is used, at most the layer itself.")


def _alike(weight: str) -> tuple[Column, ...]:
    return of(
        "share",
        weight,
        jaccard="Keys that both layers select, of those that either selects.",
        overlap="Keys that both layers select, of those that the layer selects.",
        recall="Dense attention of the layer's head mean on the source's selection.",
        own_recall="The same on the layer's own selection.",
    )


SHARING: dict[tuple[str, str], Table] = {
    ("probes", "layer_sharing"): table(
        "sample, layer, source",
        "sample layer source",
        _SOURCE,
        of(own="Whether the layer has an indexer of its own."),
        of("queries", queries="Sampled queries in effect in the layer.", weight="Queries that they stand for."),
        _alike("weight"),
        of(
            "share",
            "weight",
            oracle_recall="Dense attention on the best keys, as many as the layer selects.",
            random_recall="What as many random keys would hold on average.",
        ),
    ),
    ("analyses/sharing", "metrics"): RESULTS["analyses/positional", "metrics"],
    ("analyses/sharing", "per_sample"): RESULTS["analyses/positional", "per_sample"],
    ("analyses/sharing", "similarity"): table(
        "layer, source",
        "layer source",
        _SOURCE,
        _alike(""),
        of("share", random_recall="What as many random keys would hold on average."),
        of("share", loss="The layer's own recall less that with the source's selection."),
        interval("share", whose="the loss'"),
        SAMPLES,
    ),
    ("analyses/sharing", "schedules"): table(
        "number of indexers, method",
        "indexers method",
        of("layers", indexers="Layers that keep an indexer of their own."),
        of(method="How they were chosen: exact, greedy or even.", layers="Which they are, parted by commas."),
        of("share", loss="Recall lost, averaged over layers; chosen and measured on the same samples."),
        interval("share", more=", of this fixed schedule"),
        of(
            "share",
            loss_held_out="The loss with each half of the samples under the schedule that the other half chose.",
        ),
        interval("share", "held_out_ci_low", "held_out_ci_high"),
        of(worst_layer="The layer that loses most; null where none reuses a selection."),
        of("share", worst_loss="What that layer loses."),
        of("share", indexer_share="Indexers that are kept, of those that the model has."),
        of("samples", n="Samples that every layer was measured in."),
        ordered=False,
    ),
}
