"""Layer features as tables: one row a sample, layer, head and bucket, sorted in that order."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.features.layer import LayerFeatures
from analysis.features.positions import AXES, BinSums
from analysis.features.scores import GROUPS, ScoreSketch

Layers = Mapping[int, LayerFeatures]
KEYS = {"sample": pl.Int32, "layer": pl.Int16, "head": pl.Int16, "bucket": pl.Int8, "bin": pl.Int32}
COUNTS = ("queries", "queries_multi", "queries_in_effect")


def attention_table(index: list[int], layers: Layers) -> pl.DataFrame:
    """Per sample, layer, head and bucket: counts and the means of all attention features, null where undefined."""
    frames = []
    for layer, features in layers.items():
        batch, heads, buckets = features.per_head.sums.shape[1:]
        shape = (batch, heads, buckets)
        columns = _index_columns(index, layer, shape, ("sample", "head", "bucket"))
        for name, counts in zip(COUNTS, features.counts.sums, strict=True):
            columns[name] = np.broadcast_to(counts[:, None, :], shape).astype(np.int32)
        columns |= {name: mean.astype(np.float32) for name, mean in features.per_head.means().items()}
        frames.append(_frame(columns))
    return _joined(frames, ["sample", "layer", "head", "bucket"])


def indexer_table(index: list[int], layers: Layers) -> pl.DataFrame:
    """Per sample, layer and bucket: counts and the means of all indexer features, null where undefined."""
    frames = []
    for layer, features in layers.items():
        if not features.has_selection:
            continue
        batch, buckets = features.per_query.sums.shape[1:]
        columns = _index_columns(index, layer, (batch, buckets), ("sample", "bucket"))
        columns |= {name: counts.astype(np.int32) for name, counts in zip(COUNTS, features.counts.sums, strict=True)}
        columns |= {name: mean.astype(np.float32) for name, mean in features.per_query.means().items()}
        frames.append(_frame(columns))
    return _joined(frames, ["sample", "layer", "bucket"])


def heads_table(index: list[int], layers: Layers, sink_keys: int) -> pl.DataFrame:
    """Per sample, layer and head: what columns and diagonals of the map hold."""
    frames = []
    for layer, features in layers.items():
        shape = features.shape.by_key.shape[:2]
        columns = _index_columns(index, layer, tuple(shape), ("sample", "head"))
        columns["queries"] = np.full(shape, features.shape.queries, dtype=np.int32)
        columns |= {name: value.numpy() for name, value in features.shape.features(sink_keys).items()}
        frames.append(_frame(columns).filter(pl.col("queries") > 0))
    return _joined(frames, ["sample", "layer", "head"])


def positions_table(index: list[int], layers: Layers) -> pl.DataFrame:
    """Per sample, layer, axis and bin: selections and attention with what chance alone would give."""
    frames = [pl.DataFrame(schema=_POSITIONS)]
    for layer, features in layers.items():
        for item, sample in enumerate(index):
            for axis in AXES:
                sums = features.positions[item].get(axis)
                if sums is not None:
                    frames.append(_position_rows(sample, layer, axis, features, item, sums))
    return pl.concat(frames).sort("sample", "layer", "axis", "bin")


_POSITIONS = {
    "sample": pl.Int32,
    "layer": pl.Int16,
    "axis": pl.String,
    "bin": pl.Int32,
    "queries": pl.Int32,
    **dict.fromkeys(BinSums._fields, pl.Float64),
}


def _position_rows(
    sample: int, layer: int, axis: str, features: LayerFeatures, item: int, sums: BinSums
) -> pl.DataFrame:
    columns: dict[str, object] = {
        "sample": sample,
        "layer": layer,
        "axis": axis,
        "bin": np.arange(features.bins(axis)),
        "queries": features.position_queries[item],
        **{name: value.numpy() for name, value in sums._asdict().items()},
    }
    if not features.has_selection:
        columns |= {"selections": None, "expected_selections": None}
    # A bin that no query could reach says nothing.
    return pl.DataFrame(columns, schema=_POSITIONS).filter(pl.col("attention_expected") > 0)


def scores_table(index: list[int], layers: Layers) -> pl.DataFrame:
    """Per sample, layer and group: exact moments and a t-digest of the index scores."""
    rows = [
        (sample, layer, group, *_summary(sketches[group]))
        for layer, features in layers.items()
        for sample, sketches in zip(index, features.sketches, strict=True)
        for group in GROUPS
        if sketches[group].count
    ]
    return pl.DataFrame(rows, schema=_SCORES, orient="row").sort("sample", "layer", "group")


def _summary(sketch: ScoreSketch) -> tuple[object, ...]:
    return (
        *(sketch.count, sketch.mean, sketch.m2, sketch.minimum, sketch.maximum, sketch.zeros),
        sketch.digest.serialize(),
    )


_SCORES = {
    "sample": pl.Int32,
    "layer": pl.Int16,
    "group": pl.String,
    "count": pl.Int64,
    "mean": pl.Float64,
    "m2": pl.Float64,
    "minimum": pl.Float64,
    "maximum": pl.Float64,
    "zeros": pl.Int64,
    "sketch": pl.Binary,
}


def _index_columns(
    index: list[int], layer: int, shape: tuple[int, ...], names: tuple[str, ...]
) -> dict[str, NDArray[np.generic]]:
    grids = np.indices(shape)
    columns: dict[str, NDArray[np.generic]] = {"sample": np.asarray(index)[grids[0]]}
    columns["layer"] = np.full(shape, layer)
    return columns | dict(zip(names[1:], grids[1:], strict=True))


def _frame(columns: Mapping[str, NDArray[np.generic]]) -> pl.DataFrame:
    frame = pl.DataFrame({name: np.ascontiguousarray(values).ravel() for name, values in columns.items()})
    frame = frame.with_columns(pl.col(name).cast(KEYS[name]) for name in frame.columns if name in KEYS)
    return frame.with_columns(pl.col(pl.Float32).fill_nan(None)).filter(pl.col("queries") > 0)


def _joined(frames: list[pl.DataFrame], order: list[str]) -> pl.DataFrame:
    return pl.concat(frames).sort(order)
