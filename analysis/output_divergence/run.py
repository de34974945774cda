"""Every candidate's predictions against the baseline's, and every model's against those of its dense attention."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.closeup.classes import CLASSES
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.metrics.summary import finite_or_null
from indexscope.analysis.metrics.tables import PAIRED
from indexscope.analysis.output_divergence.estimates import Estimate, Weighted
from indexscope.analysis.output_divergence.pairs import pairs
from indexscope.analysis.output_divergence.tables import (
    AGAINST,
    BY,
    CHANGE_LEVELS,
    CLASS,
    DIVERGENCE,
    KL_LEVELS,
    POSITION,
    UNITS,
)
from indexscope.analysis.settings import ComparisonSettings
from indexscope.analysis.statistics.ranges import CHANGE, NOT_NEGATIVE, SHARE
from indexscope.analysis.statistics.resampling import Array
from indexscope.columns import Table
from indexscope.errors import IndexscopeError

Frames = Mapping[str, pl.DataFrame]
Groups = Iterator[tuple[str, int, str, NDArray[np.bool_]]]
_CELL = ("sample", "bucket")
#: Raise it when the same predictions would give other rows.
VERSION = 4


def run(models: Mapping[str, Frames], baseline: str, settings: ComparisonSettings) -> dict[str, pl.DataFrame]:
    """What the models predict, compared token by token.

    The perplexity ratio comes from the features, and so from all tokens of all samples. Everything else comes from the
    sampled queries, each weighted by the queries that it stands for. Its terms are those of llama.cpp's
    ``llama-perplexity --kl-divergence``; the errors are not: those treat tokens as independent, these resample samples.

    Args:
        models: Model name to its frames ``tokens`` (of the features) and ``logits`` (of the close-up; may be missing).
            A mapping that reads a frame when it is asked for holds the baseline and one candidate at a time.
        baseline: Name of the baseline.
        settings: The bootstrap.

    Returns:
        output_divergence: model, against ("baseline" for candidates, "dense": the model's own dense attention),
        statistic, unit, value, ci_low, ci_high, n (samples), note (why a value is missing, else null).
        output_divergence_by: the same by axis ("position": bucket of the query, "token class": of the true next token).
        metrics: rows of the first that are metrics of a candidate.

    Raises:
        IndexscopeError: A candidate was run on other samples, or looked at in other queries, than the baseline.
    """
    whole: list[pl.DataFrame] = [DIVERGENCE.empty()]
    parts: list[pl.DataFrame] = [BY.empty()]
    base = models[baseline]
    of_tokens, of_queries = base["tokens"], base.get("logits")
    for name in models:
        own = models[name]
        tokens = of_tokens if name == baseline else own["tokens"]
        frames = [(_ratios(_against_dense(tokens), settings), "dense")]
        if name != baseline:
            where = f"predictions of {name} against {baseline}"
            frames.append((_ratios(_against(of_tokens, tokens, where), settings), "baseline"))
            predicted = own.get("logits")
            if of_queries is not None and predicted is not None:
                frames.append((_paired(pairs(of_queries, predicted, where), settings), "baseline"))
        for frame, against in frames:
            _keep(whole, parts, frame, name, against)
    names = list(models)
    joined = _joined(whole, DIVERGENCE, names)
    return {
        "output_divergence": joined,
        "output_divergence_by": _joined(parts, BY, names),
        "metrics": _metrics(joined),
    }


def _metrics(divergence: pl.DataFrame) -> pl.DataFrame:
    """The rows that are metrics of a candidate."""
    registered = [name for name in UNITS if name in REGISTRY]
    rows = divergence.filter((pl.col("against") == "baseline") & pl.col("statistic").is_in(registered))
    named = rows.rename({"model": "candidate", "statistic": "metric"})
    return named.with_columns(layer=pl.lit(None, dtype=pl.Int16)).select(*PAIRED.schema)


def _joined(frames: list[pl.DataFrame], table: Table, models: list[str]) -> pl.DataFrame:
    """One frame in the order of the models, of what they are held against, of the groups and of the statistics."""
    orders = {"model": models, "against": list(AGAINST), "axis": [POSITION, CLASS], "bin": [], "statistic": list(UNITS)}
    keys = [
        pl.col(name).replace_strict({one: place for place, one in enumerate(known)}, return_dtype=pl.Int32)
        if known
        else pl.col(name)
        for name, known in orders.items()
        if name in table.schema
    ]
    return pl.concat(frames).sort(*keys).select(*table.schema)


def _keep(whole: list[pl.DataFrame], parts: list[pl.DataFrame], frame: pl.DataFrame, model: str, against: str) -> None:
    named = frame.with_columns(model=pl.lit(model), against=pl.lit(against))
    whole.append(DIVERGENCE.shaped(named.filter(pl.col("axis").is_null())))
    known = named.filter(pl.col("axis").is_not_null() & pl.col("value").is_not_null())
    parts.append(BY.shaped(known))


def _against_dense(tokens: pl.DataFrame) -> pl.DataFrame:
    known = tokens.filter(pl.col("dense_nll").is_not_null())
    return known.select(*_CELL, "tokens", baseline_nll="dense_nll", nll="nll")


def _against(baseline: pl.DataFrame, candidate: pl.DataFrame, where: str) -> pl.DataFrame:
    """Both models' nll by sample and bucket, over the same tokens."""
    columns = [pl.col(*_CELL, "tokens")]
    both = baseline.select(*columns, baseline_nll="nll").join(
        candidate.select(*columns, pl.col("nll")), on=_CELL, how="full", coalesce=True, suffix="_candidate"
    )
    apart = both.filter(pl.col("tokens").ne_missing(pl.col("tokens_candidate"))).sort(_CELL)
    if apart.height:
        sample = apart["sample"][0]
        reason = f"the two models were run on different samples (the first that differs is sample {sample})"
        raise IndexscopeError(where, reason, "extract both with the same dataset settings")
    return both


def _ratios(cells: pl.DataFrame, settings: ComparisonSettings) -> pl.DataFrame:
    """Perplexity ratio over all tokens and by position."""
    cells = cells.sort(_CELL)
    weighted = _weighted(cells["sample"], cells["tokens"], settings)
    change = _array(cells["nll"] - cells["baseline_nll"])
    rows: list[tuple[object, ...]] = []
    for axis, place, label, kept in _groups(cells):
        found = weighted.of(kept).difference(change[kept]).exponential
        rows.append((axis or None, place, label, "perplexity_ratio", *found, None))
    return _frame(rows if cells.height else [])


def _paired(frame: pl.DataFrame, settings: ComparisonSettings) -> pl.DataFrame:
    """Everything that comes from sampled queries, over all of them, by position and by token class."""
    weighted = _weighted(frame["sample"], frame["weight"], settings)
    columns = {name: _array(frame[name].cast(pl.Float64)) for name in ("kl", "merged", "change", "same")}
    columns |= {name: _array(frame[name]) for name in ("baseline_nll", "nll")}
    rows: list[tuple[object, ...]] = []
    note = None
    if frame.height and frame["kl"].is_null().all():
        note = "the models' vocabularies differ in size, or no probabilities are stored (closeup.top_logits: 0)"
    for axis, place, label, kept in _groups(frame):
        own, of = weighted.of(kept), {name: values[kept] for name, values in columns.items()}
        found = _statistics(own, of, everything=not axis)
        if axis == CLASS:
            found["perplexity_ratio"] = own.difference(of["nll"] - of["baseline_nll"]).exponential
        for name, estimate in found.items():
            missing = note if np.isnan(estimate.value) and name.startswith("output") else None
            rows.append((axis or None, place, label, name, *estimate, missing))
    return _frame(rows)


def _statistics(own: Weighted, of: Mapping[str, Array], everything: bool) -> dict[str, Estimate]:
    levels = KL_LEVELS if everything else {name: KL_LEVELS[name] for name in ("output_kl_median", "output_kl_p99")}
    found = {"output_kl": own.mean(of["kl"], NOT_NEGATIVE)}
    found |= dict(zip(levels, own.quantiles(of["kl"], list(levels.values()), NOT_NEGATIVE), strict=True))
    found["probability_change"] = own.mean(of["change"], CHANGE)
    found["probability_change_rms"] = own.mean(of["change"] ** 2, SHARE, root=True)
    found["same_top_token"] = own.mean(of["same"], SHARE)
    if everything:
        known = of["kl"][~np.isnan(of["kl"])]
        largest = float(known.max()) if len(known) else np.nan
        # The largest of a sample is no estimate of anything, so it has no interval.
        found["output_kl_max"] = Estimate(largest, np.nan, np.nan, found["output_kl"].n)
        found["output_merged"] = own.mean(of["merged"], NOT_NEGATIVE)
        changes = own.quantiles(of["change"], list(CHANGE_LEVELS.values()), CHANGE)
        found |= dict(zip(CHANGE_LEVELS, changes, strict=True))
        found["log_perplexity_correlation"] = own.correlation(of["baseline_nll"], of["nll"])
    return found


def _groups(frame: pl.DataFrame) -> Groups:
    """All rows (axis ""), then those of every position bucket and of every token class."""
    yield "", 0, "", np.ones(frame.height, dtype=np.bool_)
    bucket = frame["bucket"].to_numpy()
    for place in np.unique(bucket):
        first = 2 ** int(place) - 1
        label = str(first) if place == 0 else f"{first:,} to {2 * first:,}"
        yield POSITION, int(place), label, bucket == place
    if "token_class" in frame.columns:
        for place, name in enumerate(CLASSES):
            kept = (frame["token_class"] == name).fill_null(False).to_numpy()
            if kept.any():
                yield CLASS, place, name, kept


def _weighted(sample: pl.Series, weight: pl.Series, settings: ComparisonSettings) -> Weighted:
    ids, place = np.unique(sample.to_numpy(), return_inverse=True)
    return Weighted(place.astype(np.int64), _array(weight.cast(pl.Float64)), len(ids), settings)


def _array(values: pl.Series) -> Array:
    return np.asarray(values.fill_null(np.nan).to_numpy(), dtype=np.float64)


def _frame(rows: list[tuple[object, ...]]) -> pl.DataFrame:
    schema = {name: kind for name, kind in BY.schema.items() if name not in ("model", "against", "unit")}
    schema["note"] = DIVERGENCE.schema["note"]
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    unit = pl.col("statistic").replace_strict(dict(UNITS), return_dtype=pl.String)
    return frame.with_columns(*finite_or_null("value", "ci_low", "ci_high"), unit=unit)
