"""How alike the layers' selections are, what sharing them loses, and which layers should keep their indexers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.metrics.stream import Sharded
from indexscope.analysis.metrics.summary import finite_or_null, summarise
from indexscope.analysis.metrics.sums import layered, per_sample
from indexscope.analysis.settings import SharingSettings
from indexscope.analysis.sharing.replicates import Halves, halves
from indexscope.analysis.sharing.reuse import Reuse, reuse
from indexscope.analysis.sharing.schedule import METHODS, Schedule, schedule_losses, schedules, sources
from indexscope.analysis.sharing.tables import RESULTS, SCHEDULES, SIMILARITY
from indexscope.analysis.statistics import Array, interval
from indexscope.columns import empty


def run(features: Mapping[str, pl.DataFrame] | Sharded, settings: SharingSettings) -> dict[str, pl.DataFrame]:
    """What layers would lose if they reused each other's selections.

    All recall is that of reuse without propagation: see `indexscope.analysis.probe.sharing`.

    Args:
        features: Tables of the probe; only ``layer_sharing`` is read.
        settings: The bootstrap.

    Returns:
        similarity: for every layer and earlier source jaccard, overlap, recall with the source's selection, own_recall,
        random_recall, loss = own_recall - recall with ci_low and ci_high, n (samples).
        schedules: for every number of indexers and method of `indexscope.analysis.sharing.schedule` the layers that
        keep theirs, the loss averaged over all layers with ci_low and ci_high (bootstrap of that fixed schedule:
        optimistic, as it was chosen on the same samples), loss_held_out with its interval (chosen on the samples of
        even rank and evaluated on those of odd rank, and the other way round; null with a single sample), worst_layer
        with worst_loss (null where none reuses), indexer_share = indexers / all indexers of the model's own, n.
        metrics and per_sample: neighbour_overlap and sharing_loss, of layers with an indexer of their own.
        All are empty without a probe or without two layers that select.
    """
    own = reuse(features)
    if own is None or len(own.layers) < 2:
        return empty(RESULTS)
    drawn = halves(own, settings)
    following = np.flatnonzero(own.own[1:]) + 1
    parts = {
        "neighbour_overlap": (own.near[:, following], own.weight[:, following]),
        "sharing_loss": (own.lost[:, following, following - 1], own.weight[:, following]),
    }
    sums = layered(own.samples, own.layers[following].tolist(), parts if len(following) else {})
    return {
        "similarity": _similarity(own, drawn, settings),
        "schedules": _schedules(own, drawn, settings),
        "metrics": summarise(sums, settings),
        "per_sample": per_sample(sums),
    }


def _similarity(own: Reuse, drawn: Halves, settings: SharingSettings) -> pl.DataFrame:
    layer, source = np.tril_indices(len(own.layers), -1)
    n = (own.weight > 0).sum(axis=0)[layer]
    loss = own.loss[layer, source]
    low, high = interval(loss, drawn.losses[:, layer, source], n, settings.confidence)
    names = ("jaccard", "overlap", "recall", "own_recall", "random_recall")
    columns = {
        "layer": own.layers[layer],
        "source": own.layers[source],
        **{name: own.mean(name)[layer, source] for name in names},
        "loss": loss,
        "ci_low": low,
        "ci_high": high,
        "n": n,
    }
    frame = pl.DataFrame(columns).cast(SIMILARITY.schema)
    return frame.with_columns(finite_or_null(*names, "loss", "ci_low", "ci_high"))


def _schedules(own: Reuse, drawn: Halves, settings: SharingSettings) -> pl.DataFrame:
    chosen = schedules(own.loss, own.own)
    cross = [_known(drawn.half_loss(half), own.own) for half in range(2)]
    rows = []
    for place in range(int(own.own.sum())):
        for method in METHODS:
            # Even samples are judged by the schedule that odd ones chose, and the other way round.
            swapped = [found[method][place] if found else None for found in cross[::-1]]
            rows.append(_schedule_row(own, drawn, method, chosen[method][place], swapped, settings))
    frame = pl.DataFrame(rows, schema=SCHEDULES.schema, orient="row", strict=False)
    return frame.with_columns(finite_or_null(*SCHEDULES.floats))


def _known(loss: Array, own: NDArray[np.bool_]) -> dict[str, list[Schedule]] | None:
    """Schedules of one half of the samples; None where the half does not know every loss."""
    return schedules(loss, own) if np.isfinite(loss).all() else None


def _schedule_row(
    own: Reuse,
    drawn: Halves,
    method: str,
    schedule: Schedule,
    swapped: list[Schedule | None],
    settings: SharingSettings,
) -> tuple[object, ...]:
    size = len(own.layers)
    n = int((own.weight > 0).sum(axis=0).min())
    used = sources(schedule, size)
    value = _banded(*drawn.mean_loss(used, used), n, settings)
    held: tuple[float | None, ...] = (None, None, None)
    if swapped[0] is not None and swapped[1] is not None:
        held = _banded(*drawn.mean_loss(sources(swapped[0], size), sources(swapped[1], size)), n, settings)
    lost = schedule_losses(own.loss, schedule)
    reusing = np.where(used == np.arange(size), -np.inf, lost)
    worst = int(reusing.argmax())
    some = len(schedule) < size
    return (
        len(schedule),
        method,
        ",".join(str(own.layers[layer]) for layer in schedule),
        *value,
        *held,
        int(own.layers[worst]) if some else None,
        float(lost[worst]) if some else None,
        len(schedule) / int(own.own.sum()),
        n,
    )


def _banded(value: float, replicates: Array, n: int, settings: SharingSettings) -> tuple[float, float, float]:
    low, high = interval(np.array([value]), replicates[:, None], np.array([n]), settings.confidence)
    return value, float(low[0]), float(high[0])
