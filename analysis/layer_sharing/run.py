"""How alike the layers' selections are, what sharing them loses, and which layers should keep their indexers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.layer_sharing import LayerSharingSettings
from indexscope.analysis.layer_sharing.reuse import Reuse, reuse
from indexscope.analysis.layer_sharing.schedule import METHODS, Schedule, schedule_losses, schedules, sources
from indexscope.analysis.layer_sharing.tables import RESULTS, SCHEDULES, SIMILARITY
from indexscope.analysis.metrics.stream import Sharded
from indexscope.analysis.metrics.summary import finite_or_null, summarise
from indexscope.analysis.metrics.sums import layered, per_sample
from indexscope.analysis.settings import BootstrapSettings
from indexscope.analysis.statistics.ranges import CHANGE
from indexscope.analysis.statistics.resampling import Array, interval, ratio, resample_counts
from indexscope.columns import empty

#: Raise it when any number of the analysis would change.
VERSION = 2


def run(features: Mapping[str, pl.DataFrame] | Sharded, settings: LayerSharingSettings) -> dict[str, pl.DataFrame]:
    """What layers would lose if they reused each other's selections.

    All recall is that of reuse without propagation: see `indexscope.analysis.layer_sharing.collect`.

    Args:
        features: Tables of the close-up; only ``layer_sharing`` is read.
        settings: The bootstrap.

    Returns:
        similarity: for every layer and earlier source jaccard, overlap, recall with the source's selection, own_recall,
        random_recall, loss = own_recall - recall with ci_low and ci_high, n (samples).
        schedules: for every number of indexers and method of `layer_sharing.schedule` the layers that keep theirs,
        the loss averaged over all layers with ci_low and ci_high (bootstrap of that fixed schedule: optimistic,
        as it was chosen on the same samples), loss_held_out with its interval (chosen on the samples of
        even rank and evaluated on those of odd rank, and the other way round; null with a single sample), worst_layer
        with worst_loss (null where none reuses), indexer_share = indexers / all indexers of the model's own, n.
        metrics and per_sample: neighbour_overlap and sharing_loss, of layers with an indexer of their own.
        All are empty without a close-up or without two layers that select.
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


def _similarity(own: Reuse, drawn: Halves, settings: LayerSharingSettings) -> pl.DataFrame:
    layer, source = np.tril_indices(len(own.layers), -1)
    n = (own.weight > 0).sum(axis=0)[layer]
    loss = own.loss[layer, source]
    low, high = interval(loss, drawn.losses[:, layer, source], n, settings.confidence, CHANGE)
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


def _schedules(own: Reuse, drawn: Halves, settings: LayerSharingSettings) -> pl.DataFrame:
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
    settings: LayerSharingSettings,
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


def _banded(value: float, replicates: Array, n: int, settings: LayerSharingSettings) -> tuple[float, float, float]:
    low, high = interval(np.array([value]), replicates[:, None], np.array([n]), settings.confidence, CHANGE)
    return value, float(low[0]), float(high[0])


@dataclass(frozen=True)
class Halves:
    """Sums of what is lost over the samples of even and of odd rank, and over resamples of all samples.

    Attributes:
        lost: Sums of each half, [2, L, L].
        weight: Queries in effect of each half, [2, L].
        drawn: The halves' sums in each resample, [2, resamples, L, L].
        drawn_weight: Queries in effect of both halves in each resample, [resamples, L].
    """

    lost: Array
    weight: Array
    drawn: Array
    drawn_weight: Array

    @property
    def losses(self) -> Array:
        """What each layer loses by source in each resample, [resamples, L, L]."""
        return ratio(self.drawn.sum(axis=0), self.drawn_weight[:, :, None])

    def mean_loss(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> tuple[float, Array]:
        """Loss averaged over layers, if even samples follow one schedule and odd samples another.

        Args:
            first: Source of each layer in samples of even rank, [L].
            second: The same in those of odd rank.

        Returns:
            The loss, and the loss in each resample, [resamples].
        """
        layers = np.arange(len(first))
        top = self.lost[0, layers, first] + self.lost[1, layers, second]
        drawn = self.drawn[0][:, layers, first] + self.drawn[1][:, layers, second]
        value = float(ratio(top, self.weight.sum(axis=0)).mean())
        return value, np.asarray(ratio(drawn, self.drawn_weight).mean(axis=1))

    def half_loss(self, half: int) -> Array:
        """What each layer loses by source in one half, [L, L]; NaN where nothing was in effect."""
        return ratio(self.lost[half], self.weight[half][:, None])


def halves(own: Reuse, settings: BootstrapSettings) -> Halves:
    """Resample the samples once, both halves together.

    Ranks and not ids part the samples, since those of the close-up are spread evenly and may all have even ids.
    """
    parts = [own.lost[half::2] for half in range(2)]
    size = len(own.layers)
    flat = [part.reshape(len(part), size * size) for part in parts]
    drawn: list[list[Array]] = [[], []]
    weights = []
    for counts in resample_counts(len(own.samples), settings.resamples, settings.seed):
        for half in range(2):
            drawn[half].append((counts[:, half::2] @ flat[half]).reshape(-1, size, size))
        weights.append(counts @ own.weight)
    return Halves(
        np.stack([part.sum(axis=0) for part in parts]),
        np.stack([own.weight[half::2].sum(axis=0) for half in range(2)]),
        np.stack([np.concatenate(half) for half in drawn]),
        np.concatenate(weights),
    )
