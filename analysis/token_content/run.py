"""Which kinds of tokens are selected more often than chance would have it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.closeup.classes import CLASSES, RELATIONS
from indexscope.analysis.metrics.stream import Sharded, shards
from indexscope.analysis.metrics.summary import finite_or_null, summarise
from indexscope.analysis.metrics.sums import column, layered, per_sample
from indexscope.analysis.positional_bias.lift import all_cells
from indexscope.analysis.statistics.ranges import NOT_NEGATIVE
from indexscope.analysis.statistics.resampling import Array, bootstrap_ratios, interval, ratio
from indexscope.analysis.token_content import TokenContentSettings
from indexscope.analysis.token_content.tables import EXAMPLES, LIFT, RESULTS
from indexscope.columns import empty

KINDS = (*CLASSES, *RELATIONS)
COUNTS = ("selections", "expected_selections", "attention_mass", "attention_expected")
#: Raise it when any number of the analysis would change.
VERSION = 2


def run(features: Mapping[str, pl.DataFrame] | Sharded, settings: TokenContentSettings) -> dict[str, pl.DataFrame]:
    """Lift of the selection and of the attention by kind of token.

    Args:
        features: Tables of the close-up; ``token_content`` and ``examples`` are read.
        settings: The bootstrap.

    Returns:
        lift: layer (null for all), token_class, lift = selections / expected with ci_low and ci_high, attention_lift
        with attention_ci_low and attention_ci_high, selections and expected (keys of all queries, estimated from the
        sampled ones), n (samples in which such keys were eligible). Kinds of which no key was eligible are left out.
        examples: as the close-up has them.
        metrics and per_sample: the lift of each kind, e.g. induction_lift. All are empty without a close-up.
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


def _lift(own: Contents, settings: TokenContentSettings) -> pl.DataFrame:
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


def _banded(top: Array, bottom: Array, settings: TokenContentSettings) -> tuple[Array, Array, Array]:
    values = ratio(top.sum(axis=0), bottom.sum(axis=0))
    replicates = bootstrap_ratios(top, bottom, settings.resamples, settings.seed)
    low, high = interval(values, replicates, (bottom > 0).sum(axis=0), settings.confidence, NOT_NEGATIVE)
    return values, low, high


@dataclass(frozen=True)
class Contents:
    """Selected keys and attention by kind of token, each [samples, layers, kinds]; 0 where there is no row.

    Attributes:
        samples: Sample ids, increasing.
        layers: Layer ids, increasing.
        kinds: Kinds of tokens that occur in the table, in the order of `KINDS`.
        selections: Selected keys.
        expected: Keys that a random selector of the same size would take.
        attention: Dense attention of the head mean.
        attention_expected: Attention if it were uniform.
    """

    samples: NDArray[np.int64]
    layers: NDArray[np.int64]
    kinds: tuple[str, ...]
    selections: Array
    expected: Array
    attention: Array
    attention_expected: Array


def contents(features: Mapping[str, pl.DataFrame] | Sharded) -> Contents | None:
    """Read ``token_content`` shard by shard, twice; None where no query was in effect anywhere."""
    layers, kinds = _axes(features)
    if not len(layers):
        return None
    parts = [_sums(frame, layers, kinds) for frame in _frames(features)]
    samples = np.concatenate([own for own, _ in parts])
    order = np.argsort(samples, kind="stable")
    sums = (np.concatenate([own[place] for _, own in parts])[order] for place in range(len(COUNTS)))
    return Contents(samples[order], layers, kinds, *sums)


def _frames(features: Mapping[str, pl.DataFrame] | Sharded) -> Iterator[pl.DataFrame]:
    for part in shards(features, ["token_content"]):
        if "token_content" in part:
            yield part["token_content"].filter((pl.col("weight") > 0) & pl.col("token_class").is_in(KINDS))


def _axes(features: Mapping[str, pl.DataFrame] | Sharded) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    layers: set[int] = set()
    present: set[str] = set()
    for frame in _frames(features):
        layers.update(frame["layer"].unique())
        present.update(frame["token_class"].unique())
    return np.array(sorted(layers), dtype=np.int64), tuple(kind for kind in KINDS if kind in present)


def _sums(
    frame: pl.DataFrame, layers: NDArray[np.int64], kinds: tuple[str, ...]
) -> tuple[NDArray[np.int64], list[Array]]:
    """One shard's samples, and each of `COUNTS` as [samples, layers, kinds]."""
    samples, sample = np.unique(frame["sample"].to_numpy(), return_inverse=True)
    layer = np.searchsorted(layers, frame["layer"].to_numpy())
    order = {kind: place for place, kind in enumerate(kinds)}
    kind = frame["token_class"].replace_strict(order, return_dtype=pl.Int64).to_numpy()

    def spread(name: str) -> Array:
        array = np.zeros((len(samples), len(layers), len(kinds)))
        np.add.at(array, (sample, layer, kind), np.nan_to_num(column(frame, name)))
        return array

    return samples.astype(np.int64), [spread(name) for name in COUNTS]
