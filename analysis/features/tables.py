"""Layer features as tables: one row a sample, layer, head and bucket, sorted in that order."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.features.columns import ATTENTION, COUNTS, HEADS, INDEXER, POSITIONS, SCORES
from indexscope.analysis.features.layer import LayerFeatures
from indexscope.analysis.features.recalls import RECALLS
from indexscope.analysis.features.sketch import GROUPS, ScoreSketch
from indexscope.columns import Table

Layers = Mapping[int, LayerFeatures]


def layer_tables(index: list[int], layers: Layers, sink_keys: int) -> dict[str, pl.DataFrame]:
    """All tables of layers: of attention, and of the selection and its scores where a layer has them."""
    found = {
        "attention": attention_table(index, layers),
        "heads": heads_table(index, layers, sink_keys),
        "positions": positions_table(index, layers),
    }
    if any(layer.has_selection for layer in layers.values()):
        found |= {"indexer": indexer_table(index, layers), "recalls": recalls_table(index, layers)}
    if any(layer.has_scores for layer in layers.values()):
        found["scores"] = scores_table(index, layers)
    return found


def attention_table(index: list[int], layers: Layers) -> pl.DataFrame:
    """Per sample, layer, head and bucket: counts and the means of all attention features, null where undefined."""
    parts = []
    for layer, features in layers.items():
        batch, heads, buckets = features.per_head.sums.shape[1:]
        shape = (batch, heads, buckets)
        columns = _index_columns(index, layer, shape, ("sample", "head", "bucket"))
        for name, counts in zip(COUNTS, features.counts.sums, strict=True):
            columns[name] = np.broadcast_to(counts[:, None, :], shape).astype(np.int32)
        for name, mean in features.uniform.means().items():
            columns[name] = np.broadcast_to(mean[:, None, :], shape).astype(np.float32)
        columns |= {name: mean.astype(np.float32) for name, mean in features.per_head.means().items()}
        parts.append(columns)
    return _table(parts, ATTENTION)


def indexer_table(index: list[int], layers: Layers) -> pl.DataFrame:
    """Per sample, layer and bucket: counts and the means of all indexer features, null where undefined."""
    parts = []
    for layer, features in layers.items():
        if not features.has_selection:
            continue
        batch, buckets = features.per_query.sums.shape[1:]
        columns = _index_columns(index, layer, (batch, buckets), ("sample", "bucket"))
        columns |= {name: counts.astype(np.int32) for name, counts in zip(COUNTS, features.counts.sums, strict=True)}
        columns |= {name: mean.astype(np.float32) for name, mean in features.per_query.means().items()}
        parts.append(columns)
    return _table(parts, INDEXER)


def heads_table(index: list[int], layers: Layers, sink_keys: int) -> pl.DataFrame:
    """Per sample, layer and head: what columns and diagonals of the map hold."""
    parts = []
    for layer, features in layers.items():
        shape = features.shape.by_key.shape[:2]
        columns = _index_columns(index, layer, tuple(shape), ("sample", "head"))
        columns["queries"] = np.broadcast_to(features.shape.queries[:, None], shape).astype(np.int32)
        columns |= {name: value.numpy() for name, value in features.shape.features(sink_keys).items()}
        parts.append(columns)
    return _table(parts, HEADS)


def positions_table(index: list[int], layers: Layers) -> pl.DataFrame:
    """Per sample, layer, distance bin and relative bin: selections and attention with what chance alone would give."""
    parts: dict[str, list[NDArray[np.generic]]] = {name: [] for name in POSITIONS.schema}
    for layer, features in layers.items():
        for item, sample in enumerate(index):
            sums = features.positions[item]
            if sums is None:
                continue
            # A cell that no query could reach says nothing.
            distance, relative = np.nonzero(sums.attention_expected.numpy())
            fixed = {"sample": sample, "layer": layer, "queries": features.position_queries[item]}
            columns = {name: np.full(len(distance), value) for name, value in fixed.items()}
            columns |= {"distance": distance, "relative": relative}
            columns |= {name: value.numpy()[distance, relative] for name, value in sums._asdict().items()}
            if not features.has_selection:
                columns |= dict.fromkeys(("selections", "expected_selections"), np.full(len(distance), np.nan))
            for name, kept in parts.items():
                kept.append(columns[name])
    if not parts["sample"]:
        return POSITIONS.empty()
    frame = pl.DataFrame({name: np.concatenate(kept) for name, kept in parts.items()})
    return (
        frame.lazy()
        .cast(POSITIONS.schema)
        .with_columns(pl.col(pl.Float64).fill_nan(None))
        .sort(POSITIONS.key)
        .collect()
    )


def scores_table(index: list[int], layers: Layers) -> pl.DataFrame:
    """Per sample, layer and group: exact moments and a t-digest of the index scores."""
    rows = [
        (sample, layer, group, *_summary(sketches[group]))
        for layer, features in layers.items()
        for sample, sketches in zip(index, features.sketches, strict=True)
        for group in GROUPS
        if sketches[group].count
    ]
    return pl.DataFrame(rows, schema=SCORES.schema, orient="row").sort(SCORES.key)


def recalls_table(index: list[int], layers: Layers) -> pl.DataFrame:
    """Per sample, layer and bucket: the smallest recall and where it is, and a t-digest of recall over queries."""
    rows = [
        (index[item], layer, *more) for layer, features in layers.items() for item, *more in features.recalls.rows()
    ]
    return pl.DataFrame(rows, schema=RECALLS.schema, orient="row").sort(RECALLS.key)


def _summary(sketch: ScoreSketch) -> tuple[object, ...]:
    return (
        *(sketch.count, sketch.mean, sketch.m2, sketch.minimum, sketch.maximum, sketch.zeros),
        sketch.serialize(),
    )


def _index_columns(
    index: list[int], layer: int, shape: tuple[int, ...], names: tuple[str, ...]
) -> dict[str, NDArray[np.generic]]:
    grids = np.indices(shape)
    columns: dict[str, NDArray[np.generic]] = {"sample": np.asarray(index)[grids[0]]}
    columns["layer"] = np.full(shape, layer)
    return columns | dict(zip(names[1:], grids[1:], strict=True))


def _table(parts: list[dict[str, NDArray[np.generic]]], table: Table) -> pl.DataFrame:
    """One table of the columns of all layers, without rows that no query reached, sorted; NaN becomes null."""
    columns = {name: np.concatenate([part[name].ravel() for part in parts]) for name in parts[0]}
    return (
        pl.DataFrame(columns)
        .lazy()
        .filter(pl.col("queries") > 0)
        .with_columns(pl.col(name).cast(table.schema[name]) for name in table.key)
        .with_columns(pl.col(pl.Float32).fill_nan(None))
        .sort(table.key)
        .collect()
    )
