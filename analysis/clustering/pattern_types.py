"""Pattern types by rules: a name that a reader knows, and how near the next name is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.metrics.ratios import share_table
from indexscope.analysis.settings import BootstrapSettings
from indexscope.analysis.statistics.resampling import Array
from indexscope.columns import interval, of, table_of

MIXED = "mixed"
TYPED = table_of(
    "layer, pattern type",
    "layer pattern_type",
    of(pl.String, pattern_type="The pattern."),
    of(pl.Float64, "share", share="Share of the layer's maps."),
    interval("share"),
    of(pl.Int64, "maps", count="Maps of that pattern."),
    of(pl.Int32, "samples", n="Samples that have maps in the layer."),
    ordered=False,
)


@dataclass(frozen=True)
class PatternRule:
    """A type applies where its evidence reaches the threshold and no earlier rule applies.

    Attributes:
        name: The pattern type.
        evidence: A share from 0 to 1, as an expression over the pattern rows.
        threshold: What it must reach.
        meaning: The rule in words.
    """

    name: str
    evidence: pl.Expr
    threshold: float
    meaning: str


RULES = (
    PatternRule("uniform", pl.col("normalized_entropy"), 0.95, "normalised entropy of at least 0.95"),
    PatternRule("sink", pl.col("sink_mass"), 0.5, "at least half of the attention on the first keys"),
    PatternRule("previous-token", pl.col("previous_mass"), 0.5, "at least half on the token before the query"),
    PatternRule("self", pl.col("self_mass"), 0.5, "at least half on the query itself (the diagonal)"),
    PatternRule("induction", pl.col("induction_mass"), 0.4, "at least 0.4 on keys that follow a copy of the query"),
    PatternRule("slash", pl.col("slash_mass"), 0.3, "at least 0.3 at one single distance of 2 or more"),
    PatternRule("vertical", pl.col("vertical_mass"), 0.3, "at least 0.3 on four keys other than the sinks"),
    PatternRule("block", pl.col("block_mass"), 0.2, "at least 0.2 on whole aligned blocks of 16, 32, ... 512 keys"),
    PatternRule("local", pl.col("local_mass"), 0.6, "at least 0.6 within the local window"),
    PatternRule(
        "global", 1 - pl.col("local_mass") - pl.col("sink_mass"), 0.5, "at least half beyond the window and the sinks"
    ),
)
TYPES = (*(rule.name for rule in RULES), MIXED)


def classify(rows: pl.DataFrame) -> tuple[list[str], Array]:
    """The type of every pattern row and its margin.

    The first rule that applies gives the type; where none does it is mixed. The margin is the smallest change of one
    evidence that would change the type: how far the rule's own evidence is above its threshold, or an earlier rule's
    below, whichever is less.

    Returns:
        Types and margins (shares of attention), one a row.
    """
    evidence = rows.select(rule.evidence.alias(rule.name) for rule in RULES).to_numpy()
    excess = evidence - np.array([rule.threshold for rule in RULES])
    passed = excess >= 0
    first: NDArray[np.int64] = np.where(passed.any(axis=1), passed.argmax(axis=1), len(RULES))
    own = np.where(
        first < len(RULES),
        np.take_along_axis(np.c_[excess, np.full(len(excess), np.inf)], first[:, None], 1)[:, 0],
        np.inf,
    )
    earlier = np.where(np.arange(len(RULES)) < first[:, None], -excess, np.inf).min(axis=1, initial=np.inf)
    return [TYPES[place] for place in first], np.minimum(own, earlier)


def type_shares(layers: Sequence[int], counts: Array, settings: BootstrapSettings) -> pl.DataFrame:
    """Share of every type that occurs, over all layers (layer null) and in each.

    Args:
        layers: Layer ids.
        counts: Maps by sample, layer and type, [samples, layers, types] in the order of TYPES.
        settings: The bootstrap over samples.

    Returns:
        layer, pattern_type, share with its interval, count, n (samples with maps in the layer).
    """
    occurring = np.flatnonzero(counts.sum(axis=(0, 1)))
    names = pl.DataFrame({"pattern_type": [TYPES[place] for place in occurring]})
    parts = [TYPED.empty()]
    # Layer by layer: all at once would take several times the memory of the counts.
    for layer, maps in ((None, counts.sum(axis=1)), *zip(layers, counts.swapaxes(0, 1), strict=True)):
        own = maps[:, occurring]
        totals = np.broadcast_to(maps.sum(axis=1, keepdims=True), own.shape)
        shares = share_table(names, own, totals, settings)
        found = shares.with_columns(layer=pl.lit(layer, dtype=pl.Int16), count=pl.Series(own.sum(axis=0)))
        parts.append(TYPED.shaped(found))
    return pl.concat(parts)
