"""Distributions of the index scores from mergeable parts: exact moments, t-digest quantiles and histograms.

The t-digests of all samples merge into one whose resolution is twenty times theirs, so that merging adds next to
nothing to their own error (rank error below 1 % at the median and smaller in the tails; the extremes are exact).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import datasketches
import numpy as np
import polars as pl

from analysis.metrics.sums import Features

# Of the merged digest; the extraction's digests have 100.
COMPRESSION = 4000
EVERY = "all"
QUANTILES = {
    "layer": pl.Int16,
    "group": pl.String,
    "quantile": pl.Float64,
    "value": pl.Float64,
    "count": pl.Int64,
}
HISTOGRAM = {
    "layer": pl.Int16,
    "group": pl.String,
    "left": pl.Float64,
    "right": pl.Float64,
    "density": pl.Float64,
    "count": pl.Float64,
}
MOMENTS = {
    "layer": pl.Int16,
    "group": pl.String,
    "count": pl.Int64,
    "mean": pl.Float64,
    "sd": pl.Float64,
    "minimum": pl.Float64,
    "maximum": pl.Float64,
    "zero_share": pl.Float64,
}


def score_quantiles(features: Features, quantiles: Sequence[float]) -> pl.DataFrame:
    """Quantiles of the index scores by layer and group: layer, group, quantile, value, count (scores)."""
    rows = []
    for layer, group, parts in _groups(features):
        merged = _merged(parts)
        low, high, count = parts["minimum"].min(), parts["maximum"].max(), parts["count"].sum()
        for quantile in quantiles:
            value = low if quantile == 0 else high if quantile == 1 else merged.get_quantile(quantile)
            rows.append((layer, group, quantile, value, count))
    return pl.DataFrame(rows, schema=QUANTILES, orient="row")


def score_histogram(features: Features, bins: int) -> pl.DataFrame:
    """Histograms of selected and unselected scores on the same equal bins over a layer's whole range.

    Returns:
        layer, group, left, right, density (share of the group per unit of score), count (scores, from the digest).
    """
    frames = [pl.DataFrame(schema=HISTOGRAM)]
    scores = _scores(features)
    for (layer,), own in scores.group_by("layer", maintain_order=True):
        edges = _edges(float(own["minimum"].min()), float(own["maximum"].max()), bins)  # type: ignore[arg-type]
        for (group,), parts in own.group_by("group", maintain_order=True):
            inner = edges[1:-1].tolist()
            share = np.array(_merged(parts).get_pmf(inner) if inner else [1.0])
            columns = {
                "layer": [layer] * len(share),
                "group": [group] * len(share),
                "left": edges[:-1],
                "right": edges[1:],
                "density": share / np.diff(edges),
                "count": share * int(parts["count"].sum()),
            }
            frames.append(pl.DataFrame(columns, schema_overrides=HISTOGRAM))
    return pl.concat(frames)


def score_moments(features: Features) -> pl.DataFrame:
    """Exact moments by layer and group: layer, group, count, mean, sd, minimum, maximum, zero_share.

    Means and squared deviations merge as in Chan, Golub and LeVeque 1979; sd is that of the population of scores.
    """
    rows = []
    for layer, group, parts in _groups(features):
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
    return pl.DataFrame(rows, schema=MOMENTS, orient="row")


def _scores(features: Features) -> pl.DataFrame:
    frame = features.get("scores")
    if frame is None or frame.is_empty():
        return pl.DataFrame(schema={"sample": pl.Int32, "layer": pl.Int16, "group": pl.String})
    return frame.filter(pl.col("count") > 0).sort("layer", "group", "sample")


def _groups(features: Features) -> Iterator[tuple[int, str, pl.DataFrame]]:
    """Layer, group and the rows to merge; the group "all" holds selected and unselected keys together."""
    for (layer,), own in _scores(features).group_by("layer", maintain_order=True):
        for (group,), parts in own.group_by("group", maintain_order=True):
            yield int(str(layer)), str(group), parts
        yield int(str(layer)), EVERY, own


def _merged(parts: pl.DataFrame) -> datasketches.tdigest_float:
    merged = datasketches.tdigest_float(COMPRESSION)
    for serialised in parts["sketch"]:
        merged.merge(datasketches.tdigest_float.deserialize(serialised))
    return merged


def _edges(low: float, high: float, bins: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Bin edges that stay distinct in the digest's single precision; one bin around a constant."""
    edges = np.unique(np.linspace(low, high, bins + 1).astype(np.float32)).astype(np.float64)
    return edges if len(edges) > 1 else np.array([low - 0.5, low + 0.5])
