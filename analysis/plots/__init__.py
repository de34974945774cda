"""The figures of Indexscope: frames in, matplotlib figures out, one house style, no global state."""

from indexscope.analysis.plots.buckets import metrics_by_position
from indexscope.analysis.plots.clusters import cluster_map
from indexscope.analysis.plots.cost import cost_by_length
from indexscope.analysis.plots.forest import forest
from indexscope.analysis.plots.heads import head_maps
from indexscope.analysis.plots.patterns import pattern_types_by_layer
from indexscope.analysis.plots.positional import lift_curves, lift_map
from indexscope.analysis.plots.recall import recall_by_layer
from indexscope.analysis.plots.scores import score_bands, score_histograms
from indexscope.analysis.plots.svg import as_image, to_svg
from indexscope.analysis.plots.tradeoff import quality_against_cost
from indexscope.analysis.plots.trends import Marks, metric_trends

__all__ = [
    "Marks",
    "as_image",
    "cluster_map",
    "cost_by_length",
    "forest",
    "head_maps",
    "lift_curves",
    "lift_map",
    "metric_trends",
    "metrics_by_position",
    "pattern_types_by_layer",
    "quality_against_cost",
    "recall_by_layer",
    "score_bands",
    "score_histograms",
    "to_svg",
]
