"""The cost formulas at contexts that were not run, and where sparse attention begins to pay."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import polars as pl

from indexscope.analysis.conventions import SERVED, Convention
from indexscope.analysis.efficiency.reference import DEEPSEEK_V32, THIS, deepseek_v32
from indexscope.analysis.efficiency.tables import CONVENTION_COSTS, PROJECTION
from indexscope.analysis.flops import Shape, flops
from indexscope.analysis.statistics.resampling import Array


def projection(model: Shape | None, lengths: Sequence[int]) -> pl.DataFrame:
    """FLOPs of one prefill at each length, at this checkpoint's dimensions and at those of DeepSeek-V3.2.

    Returns:
        dimensions, convention, length, component (indexer, attention, dense_attention), flops: all layers together. A
        model without an indexer has dense_attention alone and no reference; one without a formula has no rows.
    """
    if model is None or not model.has_formula:
        return PROJECTION.empty()
    frames = [
        _projected((dimensions, convention), own, lengths)
        for dimensions, own in _shown(model)
        for convention in (own.conventions if own.top_k is not None else (SERVED,))
    ]
    return pl.concat(frames)


def _shown(model: Shape) -> tuple[tuple[str, Shape], ...]:
    reference = ((DEEPSEEK_V32, deepseek_v32()),) if model.top_k is not None else ()
    return ((THIS, model), *reference)


def _projected(of: tuple[str, Convention], model: Shape, lengths: Sequence[int]) -> pl.DataFrame:
    dimensions, convention = of
    found = flops(model, lengths, convention)
    parts = {"indexer": found.indexer, "attention": found.attention, "dense_attention": found.dense_attention}
    if model.top_k is None:
        parts = {"dense_attention": found.dense_attention}
    where = {"dimensions": dimensions, "convention": convention.name}
    frames = [
        pl.DataFrame(
            {**where, "length": list(lengths), "component": component, "flops": values}, schema=PROJECTION.schema
        )
        for component, values in parts.items()
    ]
    return pl.concat(frames)


def conventions(model: Shape | None, tokens: Array) -> pl.DataFrame:
    """Break-even length and relative cost by dimensions and convention; no rows without an indexer or a formula.

    Args:
        model: The checkpoint's shape.
        tokens: Lengths of the study's samples, [samples].

    Returns:
        dimensions, convention, break_even_length (null where sparse attention never pays), relative_cost (null without
        samples).
    """
    if model is None or model.top_k is None or not model.has_formula:
        return CONVENTION_COSTS.empty()
    rows = [
        (dimensions, convention.name, break_even_length(own, convention), relative_cost(own, tokens, convention))
        for dimensions, own in _shown(model)
        for convention in own.conventions
    ]
    return pl.DataFrame(rows, schema=CONVENTION_COSTS.schema, orient="row")


def relative_cost(model: Shape, lengths: Array, convention: Convention = SERVED) -> float | None:
    """Indexer and sparse attention relative to dense attention, a ratio of sums over prefills; None without any."""
    spent = flops(model, lengths, convention)
    dense = float(np.sum(spent.dense_attention))
    return float(np.sum(spent.indexer + spent.attention)) / dense if dense else None


def break_even_length(model: Shape, convention: Convention = SERVED) -> int | None:
    """The shortest prefill for which indexer and sparse attention together take fewer FLOPs than dense attention.

    Of the layers that select, with S_i the pair cost of sparse attention in layer i and k_i its keys, D that of dense
    attention in all of them, P that of the indexers and T their cost of a token, a prefill of L tokens saves
    (D - P) L (L + 1) / 2 - T L - sum_i S_i (pairs of which a query has min(n, k_i)). Each layer's curve bends upwards
    from its k_i on, so that what is saved crosses zero once, and never where D <= P.

    Returns:
        Tokens, exactly; None without an indexer, without a formula, or where the indexers cost more at every length.
    """
    if model.top_k is None or not model.has_formula:
        return None
    sparse = [layer for layer in model.attention if layer.sparse]
    # A layer with a window or chunks is sparse only within them: beyond, both costs grow alike.
    if any(layer.window or layer.chunk for layer in sparse):
        return None
    dear = Fraction(sum(layer.pair_as(convention.dense_latent) for layer in sparse))
    cheap: dict[int, Fraction] = defaultdict(Fraction)
    for layer in sparse:
        cheap[layer.top_k or model.top_k] += Fraction(layer.pair_as(convention.sparse_latent))
    weight = Fraction(model.indexer_weight(convention))
    pair, token = weight * Fraction(model.indexer_pair), weight * Fraction(model.indexer_token)
    # Beyond the keys that are kept, blocks alone grow with the square.
    if dear <= pair + sum(weight * Fraction(one.pair) / one.block for one in model.staged):
        return None

    def saved(length: int) -> Fraction:
        attended = Fraction(0)
        for k, cost in cheap.items():
            few = min(k, length)
            attended += cost * (Fraction(few * (few + 1), 2) + (length - few) * few)
        for one in model.staged:
            few, whole = min(one.keys, length), length // one.block
            blocks = Fraction(one.block * whole * (whole + 1), 2) + (length - whole * one.block) * (whole + 1)
            keys = Fraction(few * (few + 1), 2) + (length - few) * few
            attended += weight * Fraction(one.pair) * (blocks + keys)
        return (dear - pair) * length * (length + 1) / 2 - attended - token * length

    enough = 1
    while saved(enough) <= 0:
        enough *= 2
    return bisect_left(range(enough), True, lo=1, key=lambda length: saved(length) > 0)
