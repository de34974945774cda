"""The cost formulas at contexts that were not run, and where sparse attention begins to pay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import polars as pl

from indexscope.analysis.efficiency.reference import DEEPSEEK_V32, THIS, deepseek_v32
from indexscope.analysis.efficiency.tables import BREAK_EVEN, PROJECTION
from indexscope.analysis.flops import Shape, flops


def projection(model: Shape | None, lengths: Sequence[int]) -> pl.DataFrame:
    """FLOPs of one prefill at each length, at this checkpoint's dimensions and at those of DeepSeek-V3.2.

    Returns:
        dimensions, length, component (indexer, attention, dense_attention), flops: all layers together. A model without
        an indexer has dense_attention alone and no reference; one without a formula has no rows.
    """
    if model is None or not model.has_formula:
        return PROJECTION.empty()
    frames = [_projected(THIS, model, lengths)]
    if model.top_k is not None:
        frames.append(_projected(DEEPSEEK_V32, deepseek_v32(), lengths))
    return pl.concat(frames)


def _projected(dimensions: str, model: Shape, lengths: Sequence[int]) -> pl.DataFrame:
    found = flops(model, lengths)
    parts = {"indexer": found.indexer, "attention": found.attention, "dense_attention": found.dense_attention}
    if model.top_k is None:
        parts = {"dense_attention": found.dense_attention}
    frames = [
        pl.DataFrame(
            {"dimensions": dimensions, "length": list(lengths), "component": component, "flops": values},
            schema=PROJECTION.schema,
        )
        for component, values in parts.items()
    ]
    return pl.concat(frames)


def break_even(model: Shape | None) -> pl.DataFrame:
    """Break-even length by dimensions; null where sparse attention never pays, no rows without an indexer."""
    if model is None or model.top_k is None or not model.has_formula:
        return BREAK_EVEN.empty()
    rows = [(THIS, break_even_length(model)), (DEEPSEEK_V32, break_even_length(deepseek_v32()))]
    return pl.DataFrame(rows, schema=BREAK_EVEN.schema, orient="row")


def break_even_length(model: Shape) -> int | None:
    """The shortest prefill for which indexer and sparse attention together take fewer FLOPs than dense attention.

    With m = L - k keys left out of the last query's, L > k, the selection saves A m (m + 1) / 2, A the pair cost of
    all sparse layers without a window, and the indexers cost T L + P L (L + 1) / 2. The difference is a quadratic in L
    that is not positive at L = k, so that it has one root beyond k if A > P and none otherwise.

    Returns:
        Tokens, exactly; None without an indexer, without a formula, or where the indexers cost more at every length.
    """
    k = model.top_k
    if k is None or not model.has_formula:
        return None
    # A layer with a window or chunks is sparse only within them: beyond, both costs grow alike.
    if any(layer.sparse and (layer.window or layer.chunk) for layer in model.attention):
        return None
    attention = Fraction(sum(layer.pair for layer in model.attention if layer.sparse))
    pair, token = Fraction(model.indexer_pair), Fraction(model.indexer_token)
    if attention <= pair:
        return None

    def saved(length: int) -> Fraction:
        left_out = max(length - k, 0)
        return attention * left_out * (left_out + 1) / 2 - token * length - pair * length * (length + 1) / 2

    a = float(attention - pair) / 2
    b = float(attention) * (0.5 - k) - float(token) - float(pair) / 2
    c = float(attention) * k * (k - 1) / 2
    length = max(k, int((-b + math.sqrt(max(b * b - 4 * a * c, 0.0))) / (2 * a)))
    # Rounding of the root is mended in whole numbers.
    while length > k and saved(length) > 0:
        length -= 1
    while saved(length) <= 0:
        length += 1
    return length
