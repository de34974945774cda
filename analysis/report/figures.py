"""Which figures a report shows, with the sentence that tells how to read each one."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
from matplotlib.figure import Figure

from indexscope.analysis import plots
from indexscope.analysis.efficiency.reference import THIS
from indexscope.analysis.names import plain
from indexscope.analysis.report.catalogue import units
from indexscope.analysis.report.inputs import ModelPage, ReportInput
from indexscope.analysis.report.numbers import percent
from indexscope.analysis.report.pictures import Picture, picture


def study_figures(report: ReportInput) -> list[Picture]:
    """Figures over all models; those for which there is nothing to draw are left out."""
    names = [page.name for page in report.models]
    seen = units(report.metrics.select("metric", "unit").drop_nulls().unique(maintain_order=True).iter_rows())
    interval = f"{percent(report.confidence)} CI (bootstrap over samples)"
    drawn: list[tuple[str, str, str, Figure | None]] = [
        (
            "differences",
            "Differences from the baseline",
            f"Paired by sample; bars are the {interval}. A bar that touches zero means that no difference was "
            "detected, not that there is none. The axis is linear within ±1 % and logarithmic outside. Where nothing "
            f"differs, about {percent(1 - report.confidence)} of the bars leave out zero by chance alone.",
            plots.forest(report.comparisons, [page.name for page in report.candidates]),
        ),
        (
            "tradeoff",
            "Quality against cost",
            f"Indexer FLOPs by formula against quality; bars are the {interval} of each model on its own. The dotted "
            "line joins the Pareto front by the estimates; models off it, which another beats in both, are hollow. "
            "Models are "
            "paired, so differences are known better than overlapping bars suggest: see the comparison.",
            plots.quality_against_cost(report.metrics, names, seen),
        ),
        (
            "recall",
            "Selection recall by layer",
            "Share of the dense attention mass that falls on selected keys. The grey area runs from a blind choice to "
            f"the best choice of as many keys; the coloured band is the {interval}. Only queries with more eligible "
            "keys than the indexer may select count.",
            plots.recall_by_layer(report.metrics, names),
        ),
        (
            "positions",
            "By position of the query",
            "Means over all layers in power-of-two buckets: attention entropy and sparsity grow with the number of "
            "eligible keys, so models are comparable within a bucket only.",
            plots.metrics_by_position(_each(report, "distribution", "by_bucket"), names, seen),
        ),
        (
            "lift",
            "Positional bias of the selection",
            f"Selections over those expected from exposure alone: 1 is no bias. Bands are the {interval}.",
            plots.lift_curves(_each(report, "positional", "lift"), names),
        ),
        (
            "cost",
            "Cost of the indexer by context length",
            "Left, latency as measured on the machine named in the provenance; right, operations by formula, projected "
            "to contexts that were not run. Lower is better in both.",
            _indexer_cost(report, names),
        ),
    ]
    return _pictures("study", drawn)


def model_figures(report: ReportInput, page: ModelPage, prefix: str) -> dict[str, Picture]:
    """Figures of one model by name; those for which there is nothing to draw are left out."""
    seen = units(report.metrics.select("metric", "unit").drop_nulls().unique(maintain_order=True).iter_rows())
    empty = pl.DataFrame()
    tables: Mapping[str, tuple[str, str]] = {
        "heads": ("distribution", "by_head"),
        "histograms": ("distribution", "score_histogram"),
        "bands": ("distribution", "score_quantiles"),
        "liftmap": ("positional", "lift"),
        "clusters": ("clustering", "clusters"),
        "patterns": ("clustering", "pattern_types"),
    }
    frames = {key: page.frame(*place) for key, place in tables.items()}
    found = {key: frame if frame is not None else empty for key, frame in frames.items()}
    drawn: list[tuple[str, str, str, Figure | None]] = [
        (
            "heads",
            "Every attention head",
            "Means over samples and positions. Dark is low, light is high; grey cells have no value.",
            plots.head_maps(found["heads"], seen) if found["heads"].width else None,
        ),
        (
            "histograms",
            "Index scores of selected and unselected keys",
            "Over queries for which the indexer is in effect. Scores of different layers have different scales.",
            plots.score_histograms(found["histograms"]) if found["histograms"].width else None,
        ),
        (
            "bands",
            "Index scores by layer",
            "Medians, and the bands that hold most scores.",
            plots.score_bands(found["bands"]) if found["bands"].width else None,
        ),
        (
            "liftmap",
            "Positional bias by layer",
            "Green: selected more often than exposure alone would give; purple: less often; white: as expected.",
            plots.lift_map(found["liftmap"]) if found["liftmap"].width else None,
        ),
        (
            "clusters",
            "Clusters of attention heads",
            "Above, the share of rows (a row is one head on one sample) in each cluster with its confidence interval "
            "over samples; below, how far the cluster's mean lies from the mean of all rows, in standard deviations.",
            plots.cluster_map(found["clusters"]) if found["clusters"].width else None,
        ),
        (
            "patterns",
            "Pattern types by layer",
            "Rules over the features, checked on planted patterns; ‘mixed’ is what no rule fits clearly.",
            plots.pattern_types_by_layer(found["patterns"]) if found["patterns"].width else None,
        ),
        (
            "costs",
            "Cost by context length",
            "Left, latency as measured; right, operations by formula, projected to contexts that were not run.",
            _own_cost(page),
        ),
    ]
    return {found.identifier.rpartition("-")[2]: found for found in _pictures(prefix, drawn, plain(page.name))}


def _pictures(prefix: str, drawn: list[tuple[str, str, str, Figure | None]], of: str = "") -> list[Picture]:
    return [
        picture(f"{prefix}-{key}", title, caption, figure, of)
        for key, title, caption, figure in drawn
        if figure is not None
    ]


def _each(report: ReportInput, analysis: str, table: str) -> dict[str, pl.DataFrame]:
    found = {page.name: page.frame(analysis, table) for page in report.models}
    return {name: frame for name, frame in found.items() if frame is not None}


def _indexer_cost(report: ReportInput, names: list[str]) -> Figure | None:
    """The indexers of all models; with one indexer the model's own figure says more."""
    own = pl.col("component") == "indexer"
    latency = {name: frame.filter(own) for name, frame in _each(report, "efficiency", "latency").items()}
    projection = {name: _this(frame).filter(own) for name, frame in _each(report, "efficiency", "projection").items()}
    if len({name for name, frame in (*latency.items(), *projection.items()) if frame.height}) < 2:
        return None
    return plots.cost_by_length(latency, projection, names)


def _this(projection: pl.DataFrame) -> pl.DataFrame:
    """The projection at the checkpoint's own dimensions."""
    return projection.filter(pl.col("dimensions") == THIS) if "dimensions" in projection.columns else projection


def _own_cost(page: ModelPage) -> Figure | None:
    latency, projection = page.frame("efficiency", "latency"), page.frame("efficiency", "projection")
    projection = None if projection is None else _this(projection)
    parts = [frame for frame in (latency, projection) if frame is not None]
    if not parts:
        return None
    series = list(dict.fromkeys(str(name) for frame in parts for name in frame["component"]))
    return plots.cost_by_length(
        {} if latency is None else {name: latency.filter(pl.col("component") == name) for name in series},
        {} if projection is None else {name: projection.filter(pl.col("component") == name) for name in series},
        series,
    )
