"""One layer's attention at several lengths of the sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from indexscope.analysis.clustering.pattern_types import type_shares
from indexscope.analysis.clustering.rows import pattern_rows
from indexscope.analysis.settings import ExtractSettings
from interpretability.inputs import Maps, as_maps, whole
from interpretability.measures import BOOTSTRAP, NUMBERS, measure, tables_of
from interpretability.patterns import counts, typed
from interpretability.results import Result

_SHORTEST = 32


@dataclass(frozen=True, eq=False, repr=False)
class PatternEvolution(Result):
    """Attention by length of the sequence.

    Attributes:
        lengths: Tokens, ascending.
        prefixes: Whether the lengths are the first tokens of one causal map, and not sequences of their own.
        by_length: length, samples, heads, uniform (entropy of uniform attention over the same keys, nats), and all
            numbers of `AttentionMeasures`; each over all queries of the length.
        pattern_types: length, pattern_type, share of the maps with ci_low and ci_high, count, n (samples); none of
            lengths below 17.
    """

    lengths: tuple[int, ...]
    prefixes: bool
    by_length: pl.DataFrame
    pattern_types: pl.DataFrame


def evolve(
    weights: object, lengths: Sequence[int] | None, settings: ExtractSettings, causal: bool | None
) -> PatternEvolution:
    """Measure weights at each length; see `AttentionVisualizer.analyze_pattern_evolution`."""
    several = isinstance(weights, Mapping | list | tuple)
    if isinstance(weights, Mapping | list | tuple):
        if lengths is not None:
            raise ValueError("lengths is only for single weights; give weights of each length, or one and the lengths")
        maps = _several(weights, causal)
    else:
        maps = _prefixes(as_maps(weights, causal), lengths)
    rows, shares = [], []
    for length, own in sorted(maps.items()):
        tables = tables_of(own, settings)
        found = measure(own, tables)
        uniform = float(np.log(own.eligible.sum(-1).double().cpu().numpy()).mean())
        row = {"length": length, "samples": own.batch, "heads": own.heads, "uniform": uniform}
        rows.append(row | {name: found[name] for name in NUMBERS})
        patterns = pattern_rows(tables)
        if patterns.height:
            by_type = type_shares([0], counts(typed(patterns))[:, None], BOOTSTRAP).filter(pl.col("layer").is_null())
            shares.append(by_type.drop("layer").select(pl.lit(length).cast(pl.Int32).alias("length"), pl.all()))
    numbers = dict.fromkeys(("uniform", *NUMBERS), pl.Float64)
    schema = {"length": pl.Int32, "samples": pl.Int32, "heads": pl.Int32}
    empty = pl.DataFrame(schema={"length": pl.Int32, "pattern_type": pl.String, "share": pl.Float64})
    return PatternEvolution(
        lengths=tuple(sorted(maps)),
        prefixes=not several,
        by_length=pl.DataFrame(rows, schema={**schema, **numbers}),
        pattern_types=pl.concat(shares) if shares else empty,
    )


def _several(weights: Mapping[Any, Any] | Sequence[Any], causal: bool | None) -> dict[int, Maps]:
    named = isinstance(weights, Mapping)
    given = list(weights.items()) if isinstance(weights, Mapping) else list(enumerate(weights))
    if not given:
        raise ValueError("attention_weights is empty; give weights of at least one length")
    found: dict[int, Maps] = {}
    for key, one in given:
        maps = as_maps(one, causal, f"attention_weights[{key!r}]")
        if named and maps.length != key:
            reason = f"has {maps.length} tokens"
            raise ValueError(f"attention_weights[{key!r}] {reason}; key the weights by their length")
        if maps.length in found:
            raise ValueError(
                f"attention_weights has length {maps.length} twice; stack sequences of equal length as one batch"
            )
        found[maps.length] = maps
    return found


def _prefixes(maps: Maps, lengths: Sequence[int] | None) -> dict[int, Maps]:
    if not maps.causal:
        raise ValueError(
            "attention_weights let queries see what follows them, so that their first queries are not those of a "
            "shorter sequence; give weights of each length, as a mapping from the length"
        )
    if lengths is None:
        powers = [_SHORTEST << step for step in range(32) if _SHORTEST << step < maps.length]
        lengths = [*powers, maps.length]
    chosen = [whole(length, "lengths", 2, maps.length + 1) for length in lengths]
    return {length: maps.prefix(length) for length in chosen}
