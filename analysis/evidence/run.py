"""Evidence and answers over all samples, by kind of question, length and depth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.evidence import EvidenceSettings
from indexscope.analysis.evidence.tables import (
    ANSWERS,
    BY_SAMPLE,
    CELLS,
    EVIDENCE,
    NEEDED,
    OUTCOMES,
    RESULTS,
    SHOWN,
    TEXT,
)
from indexscope.analysis.metrics.stream import Sharded, shards
from indexscope.analysis.metrics.summary import finite_or_null, ranges, summarise
from indexscope.analysis.metrics.sums import Sums, join, layered, per_sample, table_sums
from indexscope.analysis.output_divergence.estimates import Weighted
from indexscope.analysis.statistics.ranges import NOT_NEGATIVE, SHARE
from indexscope.analysis.statistics.resampling import Array, bootstrap_ratios, interval, ratio
from indexscope.columns import empty

#: Raise it when any number of the analysis would change.
VERSION = 2
#: Different lengths that are told apart as they are; of more, samples go together by the power of two that they fit in.
FEW = 12
#: What cells are told apart by, from all samples together to each kind, length and depth.
GROUPINGS = (
    (),
    ("kind",),
    ("length",),
    ("depth",),
    ("kind", "length"),
    ("length", "depth"),
    ("kind", "length", "depth"),
)
#: Shares of samples and layers of which the keys needed are told.
LEVELS = (0.5, 0.9, 0.95)
OUTCOME_NAMES = ("both right", "lost", "gained", "both wrong")
#: Lost answers that are shown in their text.
PASSAGES = 4


def run(features: Mapping[str, pl.DataFrame] | Sharded, settings: EvidenceSettings) -> dict[str, pl.DataFrame]:
    """How much of the evidence is selected, what becomes of the answers, and whether the one explains the other.

    Args:
        features: Feature tables; ``answers``, ``evidence`` and ``answer_text`` are read.
        settings: Depths, what counts as missing, and the bootstrap.

    Returns:
        metrics and per_sample; evidence_cells: every metric over all layers by kind, length and depth; by_sample: what
        they are made of; evidence_keys: keys that would keep all evidence, by length; answer_outcomes: answers that are
        right with the selection, with every key, with both or neither, and what of their evidence was selected;
        lost_answers: the text around a few that were lost. All are empty where no sample has an answer.
    """
    answers = _read(features, "answers").sort("sample")
    if answers.is_empty():
        return empty(RESULTS)
    layers = _read(features, "evidence").sort("sample", "layer")
    samples = _samples(answers, layers, settings)
    of_tables = (table_sums({name: frame}, name) for name, frame in (("evidence", layers), ("answers", samples)))
    sums = join([*of_tables, _computed(samples)])
    return {
        "metrics": summarise(sums, settings),
        "per_sample": per_sample(sums),
        "evidence_cells": _cells(sums, samples, settings),
        "by_sample": _by_sample(sums, samples),
        "evidence_keys": _needed(layers, samples, settings),
        "answer_outcomes": _outcomes(samples, settings),
        "lost_answers": _shown(features, samples),
    }


def length_groups(tokens: pl.Series) -> pl.Series:
    """The length that each sample counts to: its own where there are few different ones, else a power of two.

    >>> length_groups(pl.Series([512, 2048, 512])).to_list()
    [512, 2048, 512]
    >>> length_groups(pl.Series(range(500, 515))).to_list() == [512] * 13 + [1024] * 2
    True
    """
    own = tokens.cast(pl.Int64)
    if own.n_unique() <= FEW:
        return own.cast(pl.Int32)
    return pl.Series(tokens.name, [1 << (length - 1).bit_length() for length in own.to_list()], dtype=pl.Int32)


def _read(features: Mapping[str, pl.DataFrame] | Sharded, table: str) -> pl.DataFrame:
    declared = {"answers": ANSWERS, "evidence": EVIDENCE, "answer_text": TEXT}[table]
    parts = [part[table] for part in shards(features, [table]) if table in part]
    return pl.concat([declared.empty(), *(part.select(*declared.schema) for part in parts)])


def _samples(answers: pl.DataFrame, layers: pl.DataFrame, settings: EvidenceSettings) -> pl.DataFrame:
    """One row a sample: its answer, its group, and its evidence over all layers."""
    of_layers = layers.group_by("sample").agg(
        selected=pl.col("selected").mean(),
        least_selected=pl.col("selected").min(),
        attention_kept=pl.col("attention_kept").sum(),
        attention=pl.col("attention").filter(pl.col("attention_kept").is_not_null()).sum(),
    )
    # What layers do not look at they need not hold, so that attention decides, wherever it is known.
    held = pl.when(pl.col("attention") > 0).then(pl.col("attention_kept") / pl.col("attention"))
    frame = answers.join(
        of_layers.with_columns(held=held.otherwise("selected")), on="sample", how="left", maintain_order="left"
    )
    start = pl.col("evidence_start") / pl.col("answer_start")
    both = pl.col("dense_exact").is_not_null() & pl.col("exact").is_not_null()
    lost = pl.when(both).then(pl.col("dense_exact") & ~pl.col("exact"))
    missing = pl.col("held") < settings.missing
    return frame.with_columns(
        length=length_groups(frame["tokens"]),
        share_of_depth=start,
        depth=_parts(frame, settings.depth_bins),
        missing=missing,
        lost=lost,
        missing_where_lost=pl.when(lost).then(missing),
        outcome=pl.when(pl.col("dense_exact") & pl.col("exact"))
        .then(pl.lit(OUTCOME_NAMES[0]))
        .when(lost)
        .then(pl.lit(OUTCOME_NAMES[1]))
        .when(~pl.col("dense_exact") & pl.col("exact"))
        .then(pl.lit(OUTCOME_NAMES[2]))
        .when(~pl.col("dense_exact") & ~pl.col("exact"))
        .then(pl.lit(OUTCOME_NAMES[3])),
    )


def _parts(frame: pl.DataFrame, bins: int) -> pl.Series:
    """Where the part of the context begins that the evidence begins in: exactly a number over that of the parts."""
    begins = frame["evidence_start"].cast(pl.Float64).to_numpy() / frame["answer_start"].to_numpy()
    return pl.Series("depth", np.floor(begins * bins) / bins).fill_nan(None)


def _computed(samples: pl.DataFrame) -> Sums:
    """What is computed of each sample: the metrics by their columns here."""
    columns = {
        "evidence_least_selected": "least_selected",
        "answers_lost": "lost",
        "evidence_missing_where_lost": "missing_where_lost",
    }
    parts = {}
    for metric, name in columns.items():
        values = samples[name].cast(pl.Float64).fill_null(np.nan).to_numpy()[:, None]
        parts[metric] = np.nan_to_num(values), (~np.isnan(values)).astype(np.float64)
    return layered(samples["sample"].to_numpy().astype(np.int64), [], parts)


def groups(samples: pl.DataFrame) -> Iterator[tuple[dict[str, object], NDArray[np.bool_]]]:
    """Each group of samples: its kind, length and depth, null for all, and which samples are in it.

    A part that tells nothing apart, such as the only kind there is, has no groups of its own.
    """
    telling = {name for name in ("kind", "length", "depth") if samples[name].drop_nulls().n_unique() > 1}
    telling |= {"length"}  # a gate may ask for the only one
    for keys in GROUPINGS:
        if not telling.issuperset(keys):
            continue
        found = samples.select(*keys).unique().drop_nulls().sort(*keys).iter_rows(named=True) if keys else [{}]
        for values in found:
            of = np.ones(samples.height, dtype=np.bool_)
            for name, value in values.items():
                of &= (samples[name] == value).fill_null(False).to_numpy()
            yield {"kind": None, "length": None, "depth": None, **values}, of


def _over_layers(sums: Sums) -> tuple[list[str], Array, Array]:
    """Names, numerators and denominators of the metrics over all layers, [samples, metrics]."""
    places = [place for place, (_, layer) in enumerate(sums.cells) if layer is None]
    return [sums.cells[place][0] for place in places], sums.numerator[:, places], sums.denominator[:, places]


def _cells(sums: Sums, samples: pl.DataFrame, settings: EvidenceSettings) -> pl.DataFrame:
    names, top, bottom = _over_layers(sums)
    found = list(groups(samples))
    masks = np.stack([of for _, of in found], axis=1).astype(np.float64)  # [samples, groups]
    tops = (masks[:, :, None] * top[:, None]).reshape(len(top), -1)
    bottoms = (masks[:, :, None] * bottom[:, None]).reshape(len(top), -1)
    known = np.flatnonzero(bottoms.sum(axis=0) > 0)
    tops, bottoms = tops[:, known], bottoms[:, known]
    own = [names[place % len(names)] for place in known]
    values, n = ratio(tops.sum(axis=0), bottoms.sum(axis=0)), (bottoms > 0).sum(axis=0)
    replicates = bootstrap_ratios(tops, bottoms, settings.resamples, settings.seed)
    low, high = interval(values, replicates, n, settings.confidence, ranges(own))
    keys = [found[place // len(names)][0] for place in known]
    frame = pl.DataFrame(
        {
            "metric": own,
            **{name: [key[name] for key in keys] for name in ("kind", "length", "depth")},
            "value": values,
            "ci_low": low,
            "ci_high": high,
            "n": n,
        },
        schema_overrides=CELLS.schema,
        strict=False,
    )
    return CELLS.shaped(frame.with_columns(finite_or_null("value", "ci_low", "ci_high")))


def _by_sample(sums: Sums, samples: pl.DataFrame) -> pl.DataFrame:
    names, top, bottom = _over_layers(sums)
    row, column = np.nonzero(bottom)
    frame = pl.DataFrame(
        {
            "metric": [names[place] for place in column],
            "sample": sums.samples[row],
            "value": ratio(top[row, column], bottom[row, column]),
            "weight": bottom[row, column],
        },
        schema_overrides={"metric": pl.String, "sample": BY_SAMPLE.schema["sample"]},
    )
    frame = frame.join(samples.select("sample", "kind", "length", "depth"), on="sample", maintain_order="left")
    return BY_SAMPLE.shaped(frame.sort("metric", "sample"))


def _needed(layers: pl.DataFrame, samples: pl.DataFrame, settings: EvidenceSettings) -> pl.DataFrame:
    frame = layers.join(samples.select("sample", "length"), on="sample", maintain_order="left")
    frame = frame.filter(pl.col("needed").is_not_null())
    if frame.is_empty():
        return NEEDED.empty()
    ids, place = np.unique(frame["sample"].to_numpy(), return_inverse=True)
    whole = Weighted(place.astype(np.int64), np.ones(frame.height), len(ids), settings)
    values, lengths = frame["needed"].to_numpy(), frame["length"].to_numpy()
    rows = []
    for length in (None, *np.unique(lengths).tolist()):
        kept = np.ones(frame.height, dtype=np.bool_) if length is None else lengths == length
        for level, one in zip(LEVELS, whole.of(kept).quantiles(values[kept], LEVELS, NOT_NEGATIVE), strict=True):
            rows.append((length, level, *one))
    found = pl.DataFrame(rows, schema=NEEDED.schema, orient="row", strict=False)
    return found.with_columns(finite_or_null("keys", "ci_low", "ci_high"))


def _outcomes(samples: pl.DataFrame, settings: EvidenceSettings) -> pl.DataFrame:
    known = samples.filter(pl.col("outcome").is_not_null())
    if known.is_empty():
        return OUTCOMES.empty()
    is_of = np.stack([(known["outcome"] == name).to_numpy() for name in OUTCOME_NAMES], axis=1).astype(np.float64)
    ones = np.ones((known.height, 1))
    selected, missing, kept, attention = (
        known[name].cast(pl.Float64).to_numpy()[:, None]
        for name in ("selected", "missing", "attention_kept", "attention")
    )
    columns: dict[str, Array] = {}
    for name, top, bottom in (
        ("share", is_of, ones * np.ones_like(is_of)),
        ("selected", is_of * np.nan_to_num(selected), is_of * ~np.isnan(selected)),
        ("missing", is_of * np.nan_to_num(missing), is_of * ~np.isnan(missing)),
        ("attention_kept", is_of * np.nan_to_num(kept), is_of * np.nan_to_num(attention)),
    ):
        values, n = ratio(top.sum(axis=0), bottom.sum(axis=0)), (bottom > 0).sum(axis=0)
        replicates = bootstrap_ratios(top, bottom, settings.resamples, settings.seed)
        low, high = interval(values, replicates, n, settings.confidence, SHARE)
        columns |= {name: values, f"{name}_ci_low": low, f"{name}_ci_high": high}
    frame = pl.DataFrame({"outcome": OUTCOME_NAMES, **columns, "n": is_of.sum(axis=0)}, nan_to_null=True)
    return OUTCOMES.shaped(frame.with_columns(finite_or_null(*columns)))


def _shown(features: Mapping[str, pl.DataFrame] | Sharded, samples: pl.DataFrame) -> pl.DataFrame:
    """The text of lost answers whose evidence is held least; without a dense reference, of wrong ones."""
    known = samples.filter(pl.col("selected").is_not_null())
    wrong = known.filter(pl.col("lost").fill_null(~pl.col("exact")))
    few = wrong.sort("held", "sample").head(PASSAGES).with_row_index("order")
    text = _read(features, "answer_text").filter(pl.col("sample").is_in(few["sample"].to_list()))
    own = few.select(
        "sample", "kind", "selected", "lost", "order", depth="share_of_depth", length="tokens",
        attention_kept=pl.when(pl.col("attention") > 0).then(pl.col("held")),
    )  # fmt: skip
    found = text.join(own, on="sample", maintain_order="left").sort("order", "position")
    return SHOWN.shaped(found)
