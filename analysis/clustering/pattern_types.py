"""Pattern types by rules: a name that a reader knows, and how near the next name is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.clustering.chance import KEY, beyond, nearness, on_best, on_keys
from indexscope.analysis.features.shape import COLUMNS
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


#: Where the window holds more of uniform attention than this, distance tells what is local.
WIDE = 0.5


@dataclass(frozen=True)
class PatternRule:
    """A type applies where its evidence reaches what the rule asks for and no earlier rule applies.

    Attributes:
        name: The pattern type.
        excess: A share of the attention less what is asked for, an expression over the pattern rows; it applies from 0.
        meaning: The rule in words.
    """

    name: str
    excess: pl.Expr
    meaning: str


def _more(name: str, column: str, chance: pl.Expr, threshold: float, what: str) -> PatternRule:
    excess = beyond(pl.col(column), chance, threshold)
    return PatternRule(name, excess, f"{what}: chance and at least {threshold} of what chance leaves")


_LOCAL = beyond(pl.col("local_mass"), on_keys(pl.col("uniform_local")), 0.5)
_NEAR = beyond(1 - pl.col("reach"), nearness(), 0.5)

#: Chance is what random attention with as large weights has there at that length (`chance`).
RULES = (
    PatternRule("uniform", pl.col("normalized_entropy") - 0.95, "normalised entropy of at least 0.95"),
    _more("sink", "sink_mass", on_keys(pl.col("uniform_sink")), 0.5, "attention on the first keys"),
    _more("previous-token", "previous_mass", on_keys(KEY), 0.5, "attention on the token before the query"),
    _more("self", "self_mass", on_keys(KEY), 0.5, "attention on the query itself (the diagonal)"),
    _more(
        *("induction", "induction_mass", on_keys(pl.col("uniform_induction")), 0.4),
        "attention on keys that follow a copy of the query",
    ),
    _more("slash", "slash_mass", on_best(1), 0.3, "attention at one single distance of 2 or more"),
    _more("vertical", "vertical_mass", on_best(COLUMNS), 0.25, "attention on four keys other than the sinks"),
    PatternRule(
        "block",
        pl.col("block_mass") - 0.2,
        "at least 0.2 on whole aligned blocks of 16, 32, ... 512 keys; chance has 0",
    ),
    PatternRule(
        "local",
        pl.max_horizontal(_LOCAL, pl.when(pl.col("uniform_local") > WIDE).then(_NEAR).otherwise(-1.0)),
        "attention within the local window: chance and at least 0.5 of what chance leaves; where uniform attention has "
        f"more than {WIDE} of itself in the window, also a mean distance of at most half of what chance has",
    ),
    PatternRule("global", pl.col("beyond_mass") - 0.5, "at least half beyond the window and the sinks"),
)
TYPES = (*(rule.name for rule in RULES), MIXED)


def classify(rows: pl.DataFrame) -> tuple[list[str], Array]:
    """The type of every pattern row and its margin.

    The first rule that applies gives the type; where none does it is mixed. The margin is the smallest change of one
    share of the attention that would change the type: how far the rule's own is above what the rule asks for, or an
    earlier rule's below, whichever is less.

    Returns:
        Types and margins (shares of attention), one a row.
    """
    excess = rows.select(rule.excess.alias(rule.name) for rule in RULES).to_numpy()
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
