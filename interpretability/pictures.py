"""Pictures of indexer analyses: the report's plots, stacked, saved and shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl
from matplotlib.figure import Figure

from indexscope import IndexscopeError
from indexscope.analysis.candidates.forest_figures import forest
from indexscope.analysis.distribution.figures import recall_by_layer
from indexscope.analysis.distribution.score_figures import score_bands, score_histograms
from indexscope.analysis.indexer_heads.figures import head_similarity, pruning_curves
from indexscope.analysis.key_budget.figures import recall_curves
from indexscope.analysis.leaks import marked
from indexscope.analysis.plots.drawing import Drawing
from indexscope.analysis.plots.layout import Measured
from indexscope.analysis.plots.style import WIDTH, drawn_into, house_style
from indexscope.analysis.positional_bias.figures import lift_curves, lift_map
from indexscope.analysis.token_content.figures import content_lift
from interpretability.analyses import (
    IndexerAnalysis,
    IndexerHeads,
    PositionalBias,
    RelevanceDistribution,
    TokenSelection,
)
from interpretability.compare import IndexerComparison
from interpretability.results import Result

HEADING = 0.34
"""Inches that a heading takes."""

Part = tuple[str, Callable[[], Figure | None]]


def draw_analysis(analysis: object) -> Figure:
    """Everything that is drawn of an analysis, of a comparison, or of several analyses of one model.

    Raises:
        TypeError: It is none of these.
        IndexscopeError: There is nothing to draw.
    """
    drawn = stacked(_parts(analysis))
    if drawn is None:
        reason = "holds nothing that could be drawn"
        raise IndexscopeError(type(analysis).__name__, reason, "see its notes, or give longer samples")
    return drawn


def name_of(analysis: object) -> str:
    """What a picture of an analysis or a comparison is called: what it is of, and the model or models."""
    if isinstance(analysis, IndexerComparison):
        return f"{analysis.kind} {analysis.candidate} against {analysis.baseline}"
    if isinstance(analysis, IndexerAnalysis):
        return f"{analysis.kind} {analysis.model}"
    return type(analysis).__name__


def _parts(analysis: object) -> list[Part]:
    for kind, parts in _PARTS.items():
        if isinstance(analysis, kind):
            leaks = isinstance(analysis, IndexerAnalysis) and bool(analysis.leaks)
            return [(marked(title, leaks), draw) for title, draw in parts(analysis)]
    if isinstance(analysis, Result):
        inner = [part for value in analysis.values() if isinstance(value, Result) for part in _parts(value)]
        if inner:
            return inner
    raise TypeError(
        f"{type(analysis).__name__} is no analysis of an indexer; give what IndexerInterpreter or "
        "compare_indexer_analyses returned"
    )


def _of_heads(own: IndexerHeads) -> list[Part]:
    return [
        ("Similarity of indexer heads", lambda: head_similarity(own.pairs) if own.pairs.height else None),
        ("Recall lost without some indexer heads", lambda: pruning_curves(own.pruning) if own.pruning.height else None),
    ]


def _of_scores(own: RelevanceDistribution) -> list[Part]:
    return [
        ("Index scores of selected and unselected keys", _where(own.histogram, score_histograms)),
        ("Index scores by layer", _where(own.quantiles, score_bands)),
    ]


def _of_positions(own: PositionalBias) -> list[Part]:
    return [
        (
            "Selections over chance, by distance and age",
            _where(own.lift, lambda lift: lift_curves({own.called: lift}, [own.called])),
        ),
        ("Selections over chance, by layer and distance", _where(own.lift, lift_map)),
    ]


def _of_selection(own: TokenSelection) -> list[Part]:
    named = own.metrics.with_columns(model=pl.lit(own.called))
    return [
        ("Attention kept by layer", _where(named, lambda metrics: recall_by_layer(metrics, [own.called]))),
        ("Kinds of tokens", _where(own.lift, content_lift)),
        ("Key budget", _where(own.curve, lambda curve: recall_curves(curve, _own_k(own), (0.95,)))),
    ]


def _of_comparison(own: IndexerComparison) -> list[Part]:
    baseline, candidate = own.called
    title = f"{candidate} against {baseline}: {own.kind}"
    return [(title, _where(own.metrics, lambda rows: forest(rows, [own.candidate])))]


def _where(frame: pl.DataFrame, draw: Callable[[pl.DataFrame], Figure | None]) -> Callable[[], Figure | None]:
    """Draw a frame if it has rows."""
    return lambda: draw(frame) if frame.height else None


def _own_k(own: TokenSelection) -> float | None:
    rows = own.budgets.filter(pl.col("layer").is_null() & pl.col("target").is_null())
    return None if rows.is_empty() else rows["k"][0]


_PARTS: dict[type, Callable[..., list[Part]]] = {
    IndexerHeads: _of_heads,
    RelevanceDistribution: _of_scores,
    PositionalBias: _of_positions,
    TokenSelection: _of_selection,
    IndexerComparison: _of_comparison,
}


def stacked(parts: Sequence[Part]) -> Drawing | None:
    """Draw figures one below the other.

    Each is drawn twice: once by itself, which tells its height, and then into its place.

    Args:
        parts: Heading and drawing function of each; one that draws nothing is left out.

    Returns:
        One figure whose ``data`` is that of all parts, or None where no part draws anything.
    """
    with house_style():
        alone = [(heading, draw, figure) for heading, draw in parts if (figure := draw()) is not None]
        if not alone:
            return None
        heights = [height for _, _, figure in alone for height in (HEADING, figure.get_figheight())]
        whole = Drawing(figsize=(WIDTH, sum(heights)), layout=Measured())
        # A heading has a place of its own: a figure's title and a legend above its panels would lie on each other.
        places = whole.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        for above, place, (heading, draw, _) in zip(places[::2], places[1::2], alone, strict=True):
            above.text(0.008, 0.35, heading, fontsize=11, fontweight="bold", va="center")
            with drawn_into(place):
                draw()
        return whole
