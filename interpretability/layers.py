"""Results of several layers, whose heads were numbered through: which layer, and which of its heads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import polars as pl
from numpy.typing import NDArray

from interpretability.inputs import Maps
from interpretability.results import Result

R = TypeVar("R", bound=Result)


def by_layer(result: R, maps: Maps) -> R:
    """The same result with a column layer in every table that has heads; unchanged where there is one layer."""
    if maps.layers == 1:
        return result
    changed: dict[str, object] = {}
    for name, value in result.items():
        if isinstance(value, pl.DataFrame):
            changed[name] = split(value, maps)
        elif isinstance(value, Result):
            changed[name] = by_layer(value, maps)
    return replace(result, **changed)


def split(frame: pl.DataFrame, maps: Maps) -> pl.DataFrame:
    """Name the layer before each head, and the head within its layer; null stays null."""
    if maps.layers == 1 or "head" not in frame.columns:
        return frame
    own = maps.heads // maps.layers
    place = frame.columns.index("head")
    found = frame.with_columns((pl.col("head") // own).cast(pl.Int16).alias("layer"), pl.col("head") % own)
    return found.select(*frame.columns[:place], "layer", *frame.columns[place:])


def grid(labels: NDArray[Any], maps: Maps) -> NDArray[Any]:
    """One label a map as [batch, heads], with several layers [layers, batch, heads]."""
    if maps.layers == 1:
        return labels.reshape(maps.batch, maps.heads)
    return labels.reshape(maps.batch, maps.layers, -1).swapaxes(0, 1)
