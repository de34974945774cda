"""Which kinds of tokens are selected more often than chance would have it."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from indexscope.analysis.content.tables import EXAMPLES, LIFT, RESULTS
from indexscope.analysis.content.tally import Contents, contents
from indexscope.analysis.metrics.stream import Sharded, shards
from indexscope.analysis.metrics.summary import finite_or_null, summarise
from indexscope.analysis.metrics.sums import layered, per_sample
from indexscope.analysis.positional.lift import all_cells
from indexscope.analysis.settings import ContentSettings
from indexscope.analysis.statistics import Array, bootstrap_ratios, interval, ratio
from indexscope.columns import empty


def run(features: Mapping[str, pl.DataFrame] | Sharded, settings: ContentSettings) -> dict[str, pl.DataFrame]:
    """Lift of the selection and of the attention by kind of token.

    Args:
        features: Tables of the probe; ``content`` and ``examples`` are read.
        settings: The bootstrap.

    Returns:
        lift: layer (null for all), token_class, lift = selections / expected with ci_low and ci_high, attention_lift
        with attention_ci_low and attention_ci_high, selections and expected (keys of all queries, estimated from the
        sampled ones), n (samples in which such keys were eligible). Kinds of which no key was eligible are left out.
        examples: as the probe has them.
        metrics and per_sample: the lift of each kind, e.g. induction_lift. All are empty without a probe.
    """
    shown = [part["examples"] for part in shards(features, ["examples"]) if "examples" in part]
    examples = pl.concat([EXAMPLES.empty(), *(frame.select(*EXAMPLES.schema) for frame in shown)])
    own = contents(features)
    if own is None:
        return {**empty(RESULTS), "examples": examples}
    parts = {
        metric_name(kind): (own.selections[..., place], own.expected[..., place])
        for place, kind in enumerate(own.kinds)
        if own.expected[..., place].any()
    }
    sums = layered(own.samples, own.layers.tolist(), parts)
    return {
        "lift": _lift(own, settings),
        "examples": examples,
        "metrics": summarise(sums, settings),
        "per_sample": per_sample(sums),
    }


def metric_name(kind: str) -> str:
    """Name of a kind's metric.

    >>> metric_name("word start")
    'word_start_lift'
    """
    return f"{kind.replace(' ', '_')}_lift"


def _lift(own: Contents, settings: ContentSettings) -> pl.DataFrame:
    cells = [(layer, kind) for layer in (None, *own.layers.tolist()) for kind in own.kinds]
    selections, expected, attention, chance = (
        all_cells(part) for part in (own.selections, own.expected, own.attention, own.attention_expected)
    )
    lift, low, high = _banded(selections, expected, settings)
    attention_lift, attention_low, attention_high = _banded(attention, chance, settings)
    columns = {
        "layer": [layer for layer, _ in cells],
        "token_class": [kind for _, kind in cells],
        "lift": lift,
        "ci_low": low,
        "ci_high": high,
        "attention_lift": attention_lift,
        "attention_ci_low": attention_low,
        "attention_ci_high": attention_high,
        "selections": selections.sum(axis=0),
        "expected": expected.sum(axis=0),
        "n": (expected > 0).sum(axis=0),
    }
    frame = pl.DataFrame(columns, schema_overrides=LIFT.schema, strict=False).filter(pl.col("n") > 0)
    return frame.with_columns(finite_or_null(*LIFT.floats)).select(*LIFT.schema)


def _banded(top: Array, bottom: Array, settings: ContentSettings) -> tuple[Array, Array, Array]:
    values = ratio(top.sum(axis=0), bottom.sum(axis=0))
    replicates = bootstrap_ratios(top, bottom, settings.resamples, settings.seed)
    low, high = interval(values, replicates, (bottom > 0).sum(axis=0), settings.confidence)
    return values, low, high
