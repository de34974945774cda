"""One layer's attention at several lengths of the sequence, or training steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from indexscope.analysis.clustering.evolution_figures import AXES
from indexscope.analysis.clustering.pattern_types import type_shares
from indexscope.analysis.clustering.rows import pattern_rows
from indexscope.analysis.settings import ExtractSettings
from interpretability.inputs import Maps, as_maps, one_layer, whole
from interpretability.measures import BOOTSTRAP, NUMBERS, measure, tables_of
from interpretability.patterns import counts, typed
from interpretability.results import Result

_SHORTEST = 32


@dataclass(frozen=True, eq=False, repr=False)
class PatternEvolution(Result):
    """Attention by length of the sequence, or by training step.

    Attributes:
        by: "length" or "step".
        lengths: Tokens, ascending; of steps the one length.
        steps: Training steps, ascending; empty where it is by length.
        prefixes: Whether the lengths are the first tokens of one causal map, and not sequences of their own.
        by_length: length, samples, heads, uniform (entropy of uniform attention over the same keys, nats), and all
            numbers of `AttentionMeasures`; each over all queries of the length. Empty where it is by step.
        by_step: The same by step. Empty where it is by length.
        pattern_types: length or step, pattern_type, share of the maps with ci_low and ci_high, count, n (samples); none
            of lengths below 17.
    """

    by: str
    lengths: tuple[int, ...]
    steps: tuple[int, ...]
    prefixes: bool
    by_length: pl.DataFrame
    by_step: pl.DataFrame
    pattern_types: pl.DataFrame


def evolve(
    weights: object, lengths: Sequence[int] | None, settings: ExtractSettings, causal: bool | None, by: str = "length"
) -> PatternEvolution:
    """Measure weights at each length or step; see `AttentionVisualizer.analyze_pattern_evolution`."""
    if by not in AXES:
        raise ValueError(f"by is {by!r}; give one of {', '.join(AXES)}")
    several = isinstance(weights, Mapping | list | tuple)
    if by == "step":
        if lengths is not None:
            raise ValueError("lengths is only for evolution by length; leave it out")
        maps = _of_steps(weights, causal)
    elif isinstance(weights, Mapping | list | tuple):
        if lengths is not None:
            raise ValueError("lengths is only for single weights; give weights of each length, or one and the lengths")
        maps = _several(weights, causal)
    else:
        maps = _prefixes(one_layer(as_maps(weights, causal)), lengths)
    rows, shares = [], []
    kind = pl.Int64 if by == "step" else pl.Int32
    for place, own in sorted(maps.items()):
        tables = tables_of(own, settings)
        found = measure(own, tables)
        uniform = float(np.log(own.eligible.sum(-1).double().cpu().numpy()).mean())
        row = {by: place, "samples": own.batch, "heads": own.heads, "uniform": uniform}
        rows.append(row | {name: found[name] for name in NUMBERS})
        patterns = pattern_rows(tables)
        if patterns.height:
            by_type = type_shares([0], counts(typed(patterns))[:, None], BOOTSTRAP).filter(pl.col("layer").is_null())
            shares.append(by_type.drop("layer").select(pl.lit(place).cast(kind).alias(by), pl.all()))
    numbers = dict.fromkeys(("uniform", *NUMBERS), pl.Float64)
    schema = {by: kind, "samples": pl.Int32, "heads": pl.Int32}
    empty = pl.DataFrame(schema={by: kind, "pattern_type": pl.String, "share": pl.Float64})
    found_rows = pl.DataFrame(rows, schema={**schema, **numbers})
    return PatternEvolution(
        by=by,
        lengths=tuple(sorted({own.length for own in maps.values()})),
        steps=tuple(sorted(maps)) if by == "step" else (),
        prefixes=not several,
        by_length=found_rows if by == "length" else pl.DataFrame(),
        by_step=found_rows if by == "step" else pl.DataFrame(),
        pattern_types=pl.concat(shares) if shares else empty,
    )


def _of_steps(weights: object, causal: bool | None) -> dict[int, Maps]:
    if not isinstance(weights, Mapping) or not weights:
        told = "is empty" if isinstance(weights, Mapping) else f"is {type(weights).__name__}"
        raise ValueError(f"attention_weights {told}; by step give a mapping from the training step to its weights")
    found: dict[int, Maps] = {}
    for step, one in weights.items():
        name = f"attention_weights[{step!r}]"
        found[whole(step, f"step {step!r}", 0, 2**62)] = one_layer(as_maps(one, causal, name), name)
    first_step, first = next(iter(found.items()))
    for step, maps in found.items():
        if maps.weights.shape[1:] != first.weights.shape[1:] or maps.causal != first.causal:
            shapes = " and ".join(str(list(each.weights.shape[1:])) for each in (first, maps))
            reason = f"has unlike maps at steps {first_step} and {step}, {shapes}"
            raise ValueError(f"attention_weights {reason}; give the same layer on sequences of one length")
    return found


def _several(weights: Mapping[Any, Any] | Sequence[Any], causal: bool | None) -> dict[int, Maps]:
    named = isinstance(weights, Mapping)
    given = list(weights.items()) if isinstance(weights, Mapping) else list(enumerate(weights))
    if not given:
        raise ValueError("attention_weights is empty; give weights of at least one length")
    found: dict[int, Maps] = {}
    for key, one in given:
        name = f"attention_weights[{key!r}]"
        maps = one_layer(as_maps(one, causal, name), name)
        if named and maps.length != key:
            reason = f"has {maps.length} tokens"
            raise ValueError(f"attention_weights[{key!r}] {reason}; key the weights by their length")
        if maps.length in found:
            raise ValueError(
                f"attention_weights has length {maps.length} twice; stack sequences of equal length as one batch, "
                "of several layers give one"
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
