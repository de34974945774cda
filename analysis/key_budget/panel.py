"""The panel on the key budget."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from indexscope.analysis.key_budget.figures import DRIFT, budgets_of_models, recall_curves, score_drift
from indexscope.analysis.report.charting import FROM, FROM_LABEL
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.numbers import DASH, count, known, number, percent
from indexscope.analysis.report.overlaid import overlaid
from indexscope.analysis.report.panel import Chart, Drawn, Frames, Panel, TextTable
from indexscope.analysis.report.spoken import share, with_interval

TARGETS = (0.90, 0.95, 0.99)
TARGET = 0.95


def words(frames: Frames) -> Sequence[str]:
    """What the model holds and what 95 % would take, with the adaptive saving and the layers that need most."""
    budgets = frames.get("budgets")
    if budgets is None:
        return ()
    own = budget_row(budgets, None, "model", None)
    methods = ("fixed", "fixed by layer", "adaptive indexer", "adaptive oracle")
    fixed, by_layer, adaptive, oracle = (budget_row(budgets, None, method, TARGET) for method in methods)
    said = []
    if own and own["k"] is not None:
        said.append(
            f"With up to {count(own['k'])} keys a query the model attends to {number(own['keys'])} keys on average "
            f"({percent(float(own['share']))} of the eligible ones) and keeps {percent(float(own['recall']))} of the "
            f"dense attention (n = {own['n']} samples; short queries, which select everything, included)."
        )
    if fixed and fixed["k"] is not None:
        said.append(
            f"To keep {percent(TARGET)} in the indexer's order, every query would need k = {number(fixed['k'])}: "
            f"{_keys(fixed)} keys on average, {number(fixed['relative_attention'])} times what it attends to now."
        )
    if by_layer:
        said.append(
            f"With a k of its own for each layer, each keeping {percent(TARGET)}, it is {_keys(by_layer)} keys."
        )
    if adaptive:
        said.append(
            f"With a k of its own for each query and layer, {percent(TARGET)} of each takes {_keys(adaptive)} keys."
        )
    if oracle:
        said.append(
            f"The best choice would keep {percent(TARGET)} of each with {_keys(oracle)} keys: no selection needs fewer."
        )
    return (*said, *_savings(frames), *_extremes(budgets))


def _savings(frames: Frames) -> Sequence[str]:
    """What a k of its own for each query saves within a layer at equal recall."""
    if "metrics" not in frames:
        return ()
    rows = frames["metrics"].filter((pl.col("metric") == "adaptive_saving_95") & pl.col("value").is_not_null())
    overall = rows.filter(pl.col("layer").is_null())
    layers = sorted(rows.filter(pl.col("layer").is_not_null())["value"].to_list())
    if overall.is_empty():
        return ()
    row = overall.row(0, named=True)
    text = (
        "Against one k for all queries of a layer that keeps as much on average, a k of its own for each query saves "
    )
    text += f"{share(row)} of the keys"
    if len(layers) > 1:
        text += f", {number(100 * layers[0], places=1)} to {number(100 * layers[-1], places=1)}\u202f% in single layers"
    return (text + ".",)


def _extremes(budgets: pl.DataFrame) -> Sequence[str]:
    rows = budgets.filter(
        pl.col("layer").is_not_null() & (pl.col("target") == TARGET) & (pl.col("method") == "fixed")
    ).drop_nulls("k")
    if rows.height < 2:
        return ()
    ordered = rows.sort("k")
    least, most = ordered.row(0, named=True), ordered.row(-1, named=True)
    return (
        f"Layers differ: layer {least['layer']} reaches {percent(TARGET)} with k = {number(least['k'])}, layer "
        f"{most['layer']} with k = {number(most['k'])}.",
    )


def _keys(row: dict[str, float]) -> str:
    return with_interval(row, "keys")


def budget_row(frame: pl.DataFrame, layer: int | None, method: str, target: float | None) -> dict[str, float] | None:
    """The row of a budget, or None where its keys are not known."""
    rows = frame.filter(
        pl.col("layer").eq_missing(pl.lit(layer, dtype=pl.Int16))
        & (pl.col("method") == method)
        & pl.col("target").eq_missing(pl.lit(target, dtype=pl.Float64))
        & pl.col("keys").is_not_null()
    )
    return rows.row(0, named=True) if rows.height else None


def draw(frames: Frames) -> list[Drawn]:
    """Recall over k, and the drift of the scores."""
    budgets = frames.get("budgets")
    own = None if budgets is None else budget_row(budgets, None, "model", None)
    curve = None if "curve" not in frames else recall_curves(frames["curve"], own["k"] if own else None, TARGETS)
    return [
        Drawn(
            "recall-by-keys",
            "Attention held by k keys",
            "Mean over all sampled queries of the dense attention on k keys; a query with fewer keys holds all. The "
            "gap between the curves is what a better indexer could win at the same k. Bands are confidence intervals.",
            curve,
        ),
        Drawn(
            "drift",
            "Drift of the index scores",
            "Index scores of queries in effect by power-of-two bucket of the position. Where the k-th score moves, one "
            "threshold for all positions would select too many keys here and too few there. Bands are confidence "
            "intervals.",
            score_drift(frames["drift"]) if "drift" in frames else None,
        ),
    ]


def across(report: ReportInput) -> list[Drawn]:
    """Recall over k of all models."""
    own = {
        name: float(row["k"])
        for name, budgets in report.frames("key_budget", "budgets").items()
        if (row := budget_row(budgets, None, "model", None)) is not None and row["k"] is not None
    }
    models = overlaid(report)
    figure = budgets_of_models(report.frames("key_budget", "curve"), own, models)
    what = (
        "Solid: keys in the order of the index scores; dotted: most attended keys first. Rings mark each model's own "
        "k. "
        if any(name in own for name in models)
        else "Most attended keys first: no selection of as many keys keeps more. "
    )
    caption = (
        f"Share of the dense attention that k keys keep, mean over all sampled queries. {what}A query with fewer keys "
        f"keeps all. Bands are the {report.interval}."
    )
    return [Drawn("key-budget", "Attention kept by number of keys", caption, figure)]


def tables(frames: Frames) -> Sequence[TextTable]:
    """The smallest fixed k of each layer for each target."""
    if "budgets" not in frames:
        return ()
    budgets = frames["budgets"]
    selects = budgets.filter(pl.col("method") == "model")["k"].count() > 0
    rows = []
    for layer in budgets["layer"].unique().sort(nulls_last=False):
        own = budget_row(budgets, layer, "model", None)
        cells = ["all" if layer is None else str(layer)]
        if selects:
            cells.append(percent(float(own["recall"])) if own else DASH)
        for target in TARGETS:
            fixed, oracle = (budget_row(budgets, layer, method, target) for method in ("fixed", "adaptive oracle"))
            if selects:
                cells.append(number(fixed["k"]) if fixed else DASH)
            cells.append(_keys(oracle) if oracle else DASH)
        rows.append(tuple(cells))
    parts = ("k for", "best keys for") if selects else ("best keys for",)
    heads = [f"{part} {percent(target)}" for target in TARGETS for part in parts]
    samples = max((int(n) for n in budgets["n"] if known(n) is not None), default=0)
    caption = "The keys (CI) that the best choice of each query needs to keep so much of the attention"
    if selects:
        heads = ["kept now", *heads]
        caption = (
            f"The smallest k that keeps so much of the attention on average, and {caption[:1].lower()}{caption[1:]}"
        )
    return (TextTable(f"{caption} (n = {samples} samples)", ("layer", *heads), tuple(rows), open=False),)


def charts(frames: Frames) -> list[Chart]:
    """Recall over k and the drift of the scores, of a layer."""
    return [*_curves(frames), *_drift(frames)]


def _curves(frames: Frames) -> list[Chart]:
    if "curve" not in frames:
        return []
    rows = frames["curve"].filter(pl.col("layer").is_not_null()).sort("layer", "k")
    keys = {k: place for place, k in enumerate(sorted(rows["k"].unique()))}
    parts = [
        rows.filter(pl.col(value).is_finite()).select(
            "layer",
            pl.col("k").replace_strict(keys, return_dtype=pl.Int32).alias("place"),
            pl.col("k").cast(pl.String),
            pl.lit(words).alias("order"),
            recall=value,
            ci_low=f"{prefix}ci_low",
            ci_high=f"{prefix}ci_high",
        )
        for words, value, prefix in (
            ("indexer's order", "indexer_recall", ""),
            ("best order", "oracle_recall", "oracle_"),
        )
    ]
    return [
        Chart(
            "Attention kept by number of keys in the layer",
            "The gap between the lines is what a better indexer could win with as many keys. Bands are the intervals.",
            "line",
            pl.concat(parts),
            x="place",
            xlabel="keys per query, k (log)",
            labels="k",
            y="recall",
            ylabel="attention kept (share)",
            series="order",
            digits=3,
        )
    ]


def _drift(frames: Frames) -> list[Chart]:
    if "drift" not in frames:
        return []
    known_ones = pl.col("quantity").is_in(list(DRIFT)) & pl.col("value").is_finite() & pl.col("layer").is_not_null()
    rows = frames["drift"].filter(known_ones).sort("quantity", "layer", "bucket")
    return [
        Chart(
            "Drift of the index scores in the layer",
            "Where the k-th score moves, one threshold for all positions would select too many keys here and too few "
            "there. Bands are the intervals.",
            "line",
            rows.select(
                *("layer", "bucket", "value", "ci_low", "ci_high"),
                pl.col("quantity").replace(DRIFT),
                FROM,
            ),
            x="bucket",
            xlabel=FROM_LABEL,
            labels="from",
            y="value",
            ylabel="index score",
            series="quantity",
        )
    ]


PANEL = Panel(
    analysis="key_budget",
    order=20,
    chapter="misses",
    title="Key budget",
    about=(
        "How many keys would keep 90, 95 and 99 % of the dense attention (head mean) at the sampled queries: with one "
        "k for all queries, with a k for each, in the indexer's order and in the best. Index scores are computed for "
        "all keys whatever k is, so that a smaller k saves attention and not indexing."
    ),
    words=words,
    draw=draw,
    tables=tables,
    charts=charts,
    across=across,
)
