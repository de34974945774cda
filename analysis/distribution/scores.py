"""Distributions of the index scores from mergeable parts: exact moments, t-digest quantiles and histograms."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import datasketches
import numpy as np
import polars as pl

from indexscope.analysis.distribution.digests import Digest, union
from indexscope.analysis.distribution.tables import HISTOGRAM, MOMENTS, QUANTILES

EVERY = "all"


class Scores:
    """The scores of a model, sample by sample: digests merge at once, moments are kept."""

    def __init__(self) -> None:
        self._digests: dict[tuple[int, str], Digest] = defaultdict(Digest)
        self._moments: list[pl.DataFrame] = []

    def add(self, frame: pl.DataFrame | None) -> None:
        """Take in the scores of more samples."""
        if frame is None or frame.is_empty():
            return
        known = frame.filter(pl.col("count") > 0).sort("layer", "group", "sample")
        for layer, group, serialised in known.select("layer", "group", "sketch").iter_rows():
            self._digests[layer, group].add(serialised)
        self._moments.append(known.drop("sketch"))

    def layers(self) -> Iterator[tuple[int, dict[str, pl.DataFrame]]]:
        """Each layer with its groups' moments by sample, the selected and the unselected."""
        if self._moments:
            moments = pl.concat(self._moments, how="vertical_relaxed").sort("layer", "group", "sample")
            for own in moments.partition_by("layer", maintain_order=True):
                groups = own.partition_by("group", maintain_order=True)
                yield int(own["layer"][0]), {str(parts["group"][0]): parts for parts in groups}

    def groups(self) -> Iterator[tuple[int, str, pl.DataFrame]]:
        """Layer, group and moments by sample; the group "all" holds selected and unselected keys together."""
        for layer, groups in self.layers():
            for group, parts in groups.items():
                yield layer, group, parts
            yield layer, EVERY, pl.concat(list(groups.values()))

    def digest(self, layer: int, group: str) -> datasketches.tdigest_float:
        """The scores of a layer's group, or of all its groups."""
        if group != EVERY:
            return self._digests[layer, group].merged()
        return union([self._digests[key].merged() for key in sorted(self._digests) if key[0] == layer])


def score_quantiles(scores: Scores, quantiles: Sequence[float]) -> pl.DataFrame:
    """Quantiles of the index scores by layer and group: layer, group, quantile, value, count (scores)."""
    rows = []
    for layer, group, parts in scores.groups():
        merged = scores.digest(layer, group)
        low, high, count = parts["minimum"].min(), parts["maximum"].max(), parts["count"].sum()
        for quantile in quantiles:
            value = low if quantile == 0 else high if quantile == 1 else merged.get_quantile(quantile)
            rows.append((layer, group, quantile, value, count))
    return pl.DataFrame(rows, schema=QUANTILES.schema, orient="row")


def score_histogram(scores: Scores, bins: int) -> pl.DataFrame:
    """Histograms of selected and unselected scores on the same equal bins over a layer's whole range.

    Returns:
        layer, group, left, right, density (share of the group per unit of score), count (scores, from the digest).
    """
    frames = [HISTOGRAM.empty()]
    for layer, groups in scores.layers():
        every = pl.concat(list(groups.values()))
        edges = _edges(float(every["minimum"].min()), float(every["maximum"].max()), bins)  # type: ignore[arg-type]
        for group, parts in groups.items():
            inner = edges[1:-1].tolist()
            share = np.array(scores.digest(layer, group).get_pmf(inner) if inner else [1.0])
            columns = {
                "layer": [layer] * len(share),
                "group": [group] * len(share),
                "left": edges[:-1],
                "right": edges[1:],
                "density": share / np.diff(edges),
                "count": share * int(parts["count"].sum()),
            }
            frames.append(pl.DataFrame(columns, schema_overrides=HISTOGRAM.schema))
    return pl.concat(frames)


def score_moments(scores: Scores) -> pl.DataFrame:
    """Exact moments by layer and group: layer, group, count, mean, sd, minimum, maximum, zero_share.

    Means and squared deviations merge as in Chan, Golub and LeVeque 1979; sd is that of the population of scores.
    """
    rows = []
    for layer, group, parts in scores.groups():
        count = parts["count"].to_numpy().astype(float)
        total = count.sum()
        mean = float((parts["mean"].to_numpy() * count).sum() / total)
        squares = parts["m2"].to_numpy() + count * (parts["mean"].to_numpy() - mean) ** 2
        rows.append(
            (
                layer,
                group,
                int(total),
                mean,
                float(np.sqrt(squares.sum() / total)),
                parts["minimum"].min(),
                parts["maximum"].max(),
                float(parts["zeros"].sum() / total),
            )
        )
    return pl.DataFrame(rows, schema=MOMENTS.schema, orient="row")


def _edges(low: float, high: float, bins: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Bin edges that stay distinct in the digest's single precision; one bin around a constant."""
    edges = np.unique(np.linspace(low, high, bins + 1).astype(np.float32)).astype(np.float64)
    return edges if len(edges) > 1 else np.array([low - 0.5, low + 0.5])
