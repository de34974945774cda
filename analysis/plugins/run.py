"""A study's own metrics from its feature tables, read shard by shard."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from indexscope.analysis.metrics.ratios import sample_sums
from indexscope.analysis.metrics.stream import shards
from indexscope.analysis.metrics.summary import summarise
from indexscope.analysis.metrics.sums import Features, Sums, join, layered, per_sample
from indexscope.analysis.plugins import PluginSettings
from indexscope.plugins import Plugin

#: Raise it when any number of the analysis would change.
VERSION = 2

WANTED = "a polars frame with the columns sample, value, weight and, if by layer, layer"
_SUMS = ("value", "value_weight")


def run(features: Features, settings: PluginSettings, declared: Sequence[Plugin]) -> dict[str, pl.DataFrame]:
    """Every declared metric by sample and layer, with intervals from resampled samples.

    Args:
        features: Feature tables, those of the study's own features among them.
        settings: The bootstrap.
        declared: The metrics; the registry must know them (`indexscope.analysis.metrics.registry.with_family`).

    Returns:
        metrics and per_sample. A metric that a model cannot have (its table is not there, or no query is in effect)
        is null with n = 0.

    Raises:
        IndexscopeError: A function raised something, returned what is not the frame it should be, or NaN throughout.
    """
    sums = join([_sums(features, one) for one in declared], features)
    return {"metrics": summarise(sums, settings), "per_sample": per_sample(sums)}


def _sums(features: Features, one: Plugin) -> Sums:
    return _of_feature(features, one) if one.is_feature else _of_table(features, one)


def _of_feature(features: Features, one: Plugin) -> Sums:
    names = {one.name: "value", f"{one.name}_weight": "value_weight"}
    found = sample_sums(features, one.origin, ["layer"], {one.name: f"{one.name}_queries"})
    if found is not None and found[f"{one.name}_weight"].sum() > 0:
        return _layered(one.name, found.rename(names))
    if one.queries == "all":
        remedy = 'return a number for some, or declare queries="in_effect" if it is of selections'
        raise one.refused("is NaN at every query of the data", remedy)
    if _in_effect(features):
        raise one.refused("is NaN at every query in effect", "return a number for some")
    return _unknown(one.name)


def _in_effect(features: Features) -> bool:
    """Whether the indexer ever had more keys than it selects."""
    frames = (shard["indexer"] for shard in shards(features, ("indexer",)) if "indexer" in shard)
    return any(frame["queries_in_effect"].sum() > 0 for frame in frames)


def _unknown(name: str) -> Sums:
    nothing = np.zeros((0, 1))
    return layered(np.empty(0, np.int64), [], {name: (nothing, nothing)})


def _of_table(features: Features, one: Plugin) -> Sums:
    parts = []
    undefined = 0
    for shard in shards(features, (one.table,)):
        if one.table in shard and shard[one.table].height:
            frame = _checked(one, one(shard[one.table]), shard[one.table])
            keys = [name for name in ("sample", "layer") if name in frame.columns]
            known = frame.filter(pl.col("value").is_not_null() & pl.col("value").is_not_nan())
            undefined += int(frame["value"].is_nan().sum())
            products = (pl.col("value") * pl.col("weight")).sum(), pl.col("weight").sum().alias("value_weight")
            parts.append(known.group_by(keys).agg(*products))
    if len({"layer" in part.columns for part in parts}) > 1:
        raise one.refused("returned a layer for some shards only", f"return {WANTED}, always the same")
    sums = pl.concat(parts) if parts else None
    if sums is not None and sums["value_weight"].sum() > 0:
        return _layered(one.name, sums)
    if undefined:
        raise one.refused("is NaN in every row", "return null for what is not known, and numbers for the rest")
    return _unknown(one.name)


def _checked(one: Plugin, frame: object, given: pl.DataFrame) -> pl.DataFrame:
    """The frame that a function returned, in the types of the sums."""
    remedy = f"return {WANTED}"
    if not isinstance(frame, pl.DataFrame):
        raise one.refused(f"returned {type(frame).__name__}", remedy)
    missing = [name for name in ("sample", "value", "weight") if name not in frame.columns]
    if missing:
        raise one.refused(f"returned a frame without {' and '.join(missing)}", remedy)
    types = {"sample": pl.Int64, "layer": pl.Int64, "value": pl.Float64, "weight": pl.Float64}
    own = {name: kind for name, kind in types.items() if name in frame.columns}
    for name, kind in own.items():
        have = frame.schema[name]
        if not (have.is_integer() if kind == pl.Int64 else have.is_numeric()):
            raise one.refused(f"returned {have} for {name}", remedy)
    frame = frame.select(pl.col(name).cast(kind) for name, kind in own.items())
    for name in ("sample", "layer", "weight"):
        if name in own and frame[name].null_count():
            raise one.refused(f"returned a null {name}", "leave such rows out")
    weight, value = frame["weight"], frame["value"]
    if not bool((weight.is_finite() & (weight >= 0)).all()):
        raise one.refused("returned a weight that is negative or not finite", "return how many queries a value is of")
    if bool(value.is_infinite().any()):
        raise one.refused("returned an infinite value", "return null for what is not known")
    if not set(frame["sample"].unique()) <= set(given["sample"].unique()):
        raise one.refused("returned a sample that it was not given", "keep the column sample as it is")
    return frame


def _layered(name: str, sums: pl.DataFrame) -> Sums:
    """Sums by sample, and by layer where there is one, as a matrix."""
    by_layer = "layer" in sums.columns
    keys = ["sample", "layer"] if by_layer else ["sample"]
    ordered = sums.sort(keys)
    samples, rows = np.unique(ordered["sample"].to_numpy(), return_inverse=True)
    layers = np.zeros(ordered.height, dtype=np.int64) if not by_layer else ordered["layer"].to_numpy()
    kinds, columns = np.unique(layers, return_inverse=True)
    top, bottom = np.zeros((2, len(samples), len(kinds)))
    for matrix, column in zip((top, bottom), _SUMS, strict=True):
        np.add.at(matrix, (rows, columns), ordered[column].to_numpy())
    return layered(samples.astype(np.int64), kinds.tolist() if by_layer else [], {name: (top, bottom)})
