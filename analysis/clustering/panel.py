"""Clusters of attention maps and their pattern types: what they are, and how stable they are."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.clustering.choice import FOUND_AGAIN
from indexscope.analysis.clustering.figures import (
    REACH,
    cluster_map,
    features_of,
    pattern_types_by_layer,
    pattern_types_of_models,
)
from indexscope.analysis.metrics.registry import label
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.numbers import DASH, count, known, number, percent_with_interval, span
from indexscope.analysis.report.overlaid import overlaid
from indexscope.analysis.report.panel import Chart, Drawn, Frames, Panel, TextTable

STABLE = 0.8
"""Adjusted Rand index from which on clusterings count as the same; a convention, not a test."""


def words(frames: Frames) -> list[str]:
    """Stability over seeds and halves, agreement with the rules."""
    found = []
    choice, metrics = frames.get("choice"), frames.get("metrics")
    if choice is not None and "halves_mean" in choice.columns:
        for row in choice.filter(pl.col("chosen")).iter_rows(named=True):
            seeds, halves = known(row["seeds_mean"]), known(row["halves_mean"])
            if seeds is not None and halves is not None:
                verdict = "do not depend on" if min(seeds, halves) >= STABLE else "depend on"
                found.append(
                    f"With {row['k']} clusters, fits with other seeds agree with an adjusted Rand index of "
                    f"{number(seeds, places=3)} (least {number(row['seeds_min'], places=3)}) and fits on either half "
                    f"of the samples of {number(halves, places=3)} (least {number(row['halves_min'], places=3)}): the "
                    f"clusters {verdict} seed and samples, {number(STABLE)} taken as the bound."
                )
    if metrics is not None:
        for row in metrics.filter((pl.col("metric") == "rule_agreement") & pl.col("value").is_not_null()).to_dicts():
            found.append(
                "Clusters and pattern types by rules agree with an adjusted Rand index of "
                f"{number(row['value'], places=3)} (CI {span(row['ci_low'], row['ci_high'], places=3)}, "
                f"n = {count(row['n'])} samples)."
            )
    return found


def tables(frames: Frames) -> list[TextTable]:
    """Pattern types of all maps and of each cluster."""
    types, agreement = frames.get("pattern_types"), frames.get("agreement")
    found = [] if types is None else [_types(types)]
    return found if agreement is None else [*found, _agreement(agreement)]


def _types(rows: pl.DataFrame) -> TextTable:
    overall = rows.filter(pl.col("layer").is_null() & (pl.col("count") > 0)).sort("count", descending=True)
    lines = [
        (str(row["pattern_type"]), *percent_with_interval(row), count(row["count"]), count(row["n"]))
        for row in overall.iter_rows(named=True)
    ]
    caption = "Pattern types by rules, share of all attention maps in per cent (a map is one head on one sample)"
    return TextTable(caption, ("pattern type", "share, %", "CI", "maps", "n (samples)"), tuple(lines))


def _agreement(rows: pl.DataFrame) -> TextTable:
    types = list(dict.fromkeys(rows.sort("count", descending=True)["pattern_type"].cast(pl.String)))
    lines = []
    for (cluster,), own in rows.sort("cluster").group_by("cluster", maintain_order=True):
        cells = {str(row["pattern_type"]): "{} ({})".format(*percent_with_interval(row)) for row in own.to_dicts()}
        lines.append((str(cluster), *(cells.get(name, DASH) for name in types), count(own["count"].sum())))
    caption = "Pattern types by rules in each cluster, share of its maps in per cent (CI)"
    return TextTable(caption, ("cluster", *types, "maps"), tuple(lines), open=False)


def words_on_choice(frames: Frames) -> list[str]:
    """How the number of clusters was chosen."""
    if "choice" not in frames:
        return []
    rows = frames["choice"].sort("k").to_dicts()
    chosen = [str(row["k"]) for row in rows if row["chosen"]]
    tried = [
        f"{row['k']}: {number(row['silhouette'], places=3)} "
        f"({span(row['silhouette_low'], row['silhouette_high'], places=3)})"
        for row in rows
        if row["silhouette"] is not None
    ]
    again = [
        f"{row['k']}: {number(found, places=3)}" for row in rows if (found := known(row.get("found_again"))) is not None
    ]
    told = [f"Clusters chosen: {', '.join(chosen)}."] if chosen else []
    if again:
        told.append(
            "How well halves of the samples find the least stable cluster again (Jaccard index; "
            f"{number(FOUND_AGAIN)} taken as the bound), by number of clusters: {', '.join(again)}."
        )
    return [*told, f"Silhouette (CI) by number of clusters: {', '.join(tried)}."] if tried else told


def draw(frames: Frames) -> list[Drawn]:
    """The clusters, and the types by layer."""
    clusters, types = frames.get("clusters"), frames.get("pattern_types")
    return [
        Drawn(
            "clusters",
            "Clusters of attention heads",
            "Above, the share of maps (a map is one head on one sample) in each cluster with its confidence interval "
            "over samples; below, the mean of each feature in the cluster, coloured by its difference from that of "
            "all maps.",
            None if clusters is None else cluster_map(clusters),
        ),
        Drawn(
            "patterns",
            "Pattern types by layer",
            "Rules over the features, checked on planted patterns; ‘mixed’ is what no rule fits clearly.",
            None if types is None else pattern_types_by_layer(types),
        ),
    ]


def across(report: ReportInput) -> list[Drawn]:
    """The types by layer of at most four models."""
    models = overlaid(report, 4)
    figure = pattern_types_of_models(report.frames("clustering", "pattern_types"), models)
    caption = (
        "Share of each layer's attention maps, a map being one head on one sample, by rules that were checked on "
        "planted patterns; ‘mixed’ is what no rule fits clearly."
    )
    if len(models) < len(report.measured):
        caption += f" {len(models)} of {len(report.measured)} models are shown."
    return [Drawn("pattern-types", "Pattern types by layer", caption, figure, overlaid=False)]


def tables_of_clusters(frames: Frames) -> list[TextTable]:
    """The clusters with their sizes."""
    if "clusters" not in frames:
        return []
    lines = [
        (str(row["cluster"]), str(row["name"]), count(row["size"]), *percent_with_interval(row), count(row["n"]))
        for row in frames["clusters"].sort("cluster").iter_rows(named=True)
    ]
    caption = "Clusters of attention maps; a map is one head on one sample"
    return [TextTable(caption, ("cluster", "name", "maps", "share, %", "CI", "n (samples)"), tuple(lines))]


def charts(frames: Frames) -> list[Chart]:
    """The types of a layer, and the clusters' centres."""
    return [*chart_types(frames), *_centres(frames)]


def _centres(frames: Frames) -> list[Chart]:
    if "clusters" not in frames:
        return []
    rows = frames["clusters"].sort("cluster")
    features = features_of(rows)
    share = pl.col("share") / pl.col("share").sum().over("feature")
    means = rows.unpivot(features, index=["cluster", "share"], variable_name="feature", value_name="mean")
    apart = means.with_columns(
        apart=pl.col("mean") - (pl.col("mean") * share).sum().over("feature"),
        place=pl.col("feature").replace_strict(
            {feature: place for place, feature in enumerate(features)}, return_dtype=pl.Int32
        ),
    )
    words = {name: label(name) for name in features}
    # A feature of larger numbers than shares is coloured by its own largest difference.
    reach = pl.max_horizontal(pl.col("apart").abs().max().over("feature"), REACH) / REACH
    return [
        Chart(
            "Centres of the clusters",
            "Mean of each feature in the cluster, coloured by its difference from that of all maps.",
            "map",
            apart.select("place", pl.col("feature").replace(words), "cluster", "mean", shade=pl.col("apart") / reach),
            x="place",
            labels="feature",
            y="cluster",
            ylabel="cluster",
            shade="shade",
            middle=0.0,
            digits=3,
        )
    ]


def chart_types(frames: Frames) -> list[Chart]:
    """The pattern types of a layer."""
    if "pattern_types" not in frames:
        return []
    rows = frames["pattern_types"].filter(pl.col("layer").is_not_null() & (pl.col("count") > 0))
    return [
        Chart(
            "Pattern types of the layer",
            "Share of the layer's attention maps (a map is one head on one sample) of each type, by rules.",
            "bars",
            rows.sort("pattern_type", "layer").select("pattern_type", "layer", "share", "count"),
            x="pattern_type",
            y="share",
            ylabel="share of maps",
        )
    ]


CLUSTERS = Panel(
    "clustering",
    20,
    "selects",
    "Clusters and pattern types",
    "",
    words_on_choice,
    draw,
    tables_of_clusters,
    charts=charts,
    across=across,
)
TRUST = Panel(
    analysis="clustering",
    order=40,
    chapter="trust",
    title="How stable the clusters are",
    about=(
        "k-means always finds clusters: whether it finds the same ones again says more. Intervals resample samples and "
        "leave the clusters as they are; seeds and halves tell how far the clusters themselves would change."
    ),
    words=words,
    tables=tables,
)
