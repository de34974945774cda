"""What kinds of tokens attention and selection go to."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from indexscope.analysis.closeup.classes import CLASSES, token_classes
from indexscope.analysis.closeup.collect import CloseupSample
from indexscope.analysis.closeup.rows import CloseupRows
from indexscope.analysis.token_content import TokenContentSettings
from indexscope.analysis.token_content.collect import content_collector
from indexscope.analysis.token_content.run import run
from interpretability.inputs import Maps
from interpretability.results import Result


@dataclass(frozen=True, eq=False, repr=False)
class ContentAnalysis(Result):
    """Attention and selection by kind of token, beside what chance would give.

    Lift is attention (or selected keys) over what uniform attention (or a random selector of the same size) would give
    to the same keys: 1 is by chance. It counts every query with more than one key, and with a selection the queries in
    effect alone. Kinds: special, whitespace, punctuation, digit, word start, continuation, where texts were given; and
    induction (the key follows an earlier copy of the query's token), repeated (the key is such a copy), first
    occurrence.

    Attributes:
        most_attended: Kind with the largest lift of the attention, None if none is known.
        most_selected: Kind with the largest lift of the selection, None without one.
        lift: head (null for all), token_class, attention_lift with attention_ci_low and attention_ci_high, lift of the
            selection with ci_low and ci_high (null without one), n (samples in which there were such keys).
        tokens: token_class, tokens: how many tokens of each class there are; empty where ids were given.
    """

    most_attended: str | None
    most_selected: str | None
    lift: pl.DataFrame
    tokens: pl.DataFrame


def analyze(
    maps: Maps,
    ids: torch.Tensor,
    texts: list[list[str]] | None,
    selected: torch.Tensor | None,
    special: Collection[str],
) -> ContentAnalysis:
    """The numbers of `ContentAnalysis`, by the collector of the pipeline's close-up; heads stand in for its layers."""
    classes = None if texts is None else _classes(ids, texts, special)
    make = content_collector(classes, dense=selected is None)
    parts = []
    for item in range(maps.batch):
        collector = make(CloseupSample(item, str(item), ids[item]))
        collector.add([_rows(maps, item, head, selected) for head in range(maps.heads)])
        parts.append(collector.tables()["token_content"])
    lift = run({"token_content": pl.concat(parts)}, TokenContentSettings())["lift"]
    if selected is None:
        # Everything was selected, so that every kind was as often as by chance.
        lift = lift.with_columns(pl.lit(None, dtype=pl.Float64).alias(name) for name in ("lift", "ci_low", "ci_high"))
    columns = ("attention_lift", "attention_ci_low", "attention_ci_high", "lift", "ci_low", "ci_high", "n")
    return ContentAnalysis(
        most_attended=_largest(lift, "attention_lift"),
        most_selected=_largest(lift, "lift"),
        lift=lift.select(pl.col("layer").alias("head"), "token_class", *columns),
        tokens=_counts(ids, classes),
    )


def _rows(maps: Maps, item: int, head: int, selected: torch.Tensor | None) -> CloseupRows:
    weights = maps.weights[item : item + 1, head : head + 1].float()
    eligible = maps.eligible
    mask = None if selected is None else maps.of_head(selected, head)[item]
    return CloseupRows(
        layer=head,
        query=torch.arange(maps.length),
        weight=torch.ones(maps.length, dtype=torch.float64),
        n=eligible.sum(-1),
        p=weights[0, 0],
        head_p=weights[0],
        eligible=eligible,
        selected=mask,
        scores=None,
        head_scores=None,
        head_weights=None,
        selects=False,
        scored=False,
    )


def _classes(ids: torch.Tensor, texts: list[list[str]], special: Collection[str]) -> NDArray[np.int8]:
    """Class of each id, from the text that stands for it."""
    pieces = [""] * (int(ids.max()) + 1)
    for row, words in zip(ids.tolist(), texts, strict=True):
        for token, text in zip(row, words, strict=True):
            pieces[token] = text
    return token_classes(pieces, {place for place, text in enumerate(pieces) if text.strip() in special})


def _counts(ids: torch.Tensor, classes: NDArray[np.int8] | None) -> pl.DataFrame:
    if classes is None:
        return pl.DataFrame(schema={"token_class": pl.String, "tokens": pl.Int64})
    found = np.bincount(classes[ids.numpy()].ravel(), minlength=len(CLASSES))
    return pl.DataFrame({"token_class": CLASSES, "tokens": found}).filter(pl.col("tokens") > 0)


def _largest(lift: pl.DataFrame, column: str) -> str | None:
    rows = lift.filter(pl.col("layer").is_null() & pl.col(column).is_not_null()).sort(column, descending=True)
    return str(rows["token_class"][0]) if rows.height else None
