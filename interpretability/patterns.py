"""What is known of each attention map: the pipeline's pattern rows, and rows that are not defined in it."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.clustering.pattern_types import TYPES, classify
from indexscope.analysis.clustering.rows import FEATURES

#: Queries from position 16 on are what patterns are judged by.
SHORTEST = 17


def feature_names(causal: bool) -> tuple[str, ...]:
    """Features of a map; reach is relative to uniform causal attention, and is left out where maps are not causal."""
    return FEATURES if causal else tuple(name for name in FEATURES if name != "reach")


def check_length(length: int, name: str = "attention_weights") -> None:
    """Refuse maps that are too short to have a pattern.

    Raises:
        ValueError: Fewer than 17 tokens.
    """
    if length < SHORTEST:
        reason = "patterns are judged by queries from position 16 on, since earlier ones see too few keys"
        raise ValueError(f"{name} has {length} tokens; {reason}: give {SHORTEST} tokens or more")


def typed(rows: pl.DataFrame) -> pl.DataFrame:
    """sample, head, pattern_type, margin of pattern rows."""
    types, margins = classify(rows)
    columns = {"pattern_type": pl.Series(types, dtype=pl.Enum(TYPES)), "margin": pl.Series(margins, dtype=pl.Float64)}
    return rows.select("sample", "head").with_columns(**columns)


def counts(types: pl.DataFrame) -> NDArray[np.float64]:
    """Maps by sample and type, [samples, types] in the order of TYPES."""
    place = {name: index for index, name in enumerate(TYPES)}
    samples = types["sample"].to_numpy()
    found = np.zeros((int(samples.max()) + 1 if len(samples) else 0, len(TYPES)))
    np.add.at(found, (samples, types["pattern_type"].cast(pl.String).replace_strict(place).to_numpy()), 1.0)
    return found
