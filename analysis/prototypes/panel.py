"""Maps to look at: those that stand for the clusters, and what the selection leaves out of some."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.plots.attention_maps import Example, left_out, sparse_against_dense
from indexscope.analysis.plots.style import short_labels
from indexscope.analysis.prototypes.figures import prototype_maps
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.numbers import percent
from indexscope.analysis.report.overlaid import overlaid
from indexscope.analysis.report.panel import Drawn, Frames, Panel


def draw_prototypes(frames: Frames) -> list[Drawn]:
    """The maps that stand for the clusters."""
    given = {"prototypes", "maps"} <= set(frames)
    figure = prototype_maps(frames["prototypes"], frames["maps"]) if given else None
    caption = (
        "Dense attention of the real maps nearest to each cluster's centre, at the sampled queries (down) and "
        "over the sequence in 48 equal parts (across); the number before the colon is the cluster. Darker is more "
        "(root scale); grey lies in the future."
    )
    return [Drawn("prototypes", "Prototypes of the clusters", caption, figure)]


def words_on_examples(frames: Frames) -> list[str]:
    """What the examples lose."""
    if "examples" not in frames:
        return []
    rows = frames["examples"]
    which = {"most": "the worst head", "middle": "the median one", "least": "the best one"}
    told = [f"{which[row['example']]} loses {percent(row['lost'])}" for row in rows.iter_rows(named=True)]
    maps = "map" if rows["of_maps"][0] == 1 else "maps"
    return [f"Of {rows['of_maps'][0]:,} {maps} with something left out, {', '.join(told)} of its dense attention."]


def draw_examples(frames: Frames) -> list[Drawn]:
    """The examples."""
    given = {"examples", "example_maps"} <= set(frames)
    figure = sparse_against_dense(frames["examples"], frames["example_maps"]) if given else None
    caption = (
        "Left, dense attention; middle, the same scores over the selected keys alone; right, sparse less dense: blue "
        "was lost, red gained by the scaling. Both are of one forward pass of the dense model, at the sampled queries "
        "(down) and over the sequence in 48 equal parts (across). Left and middle share a root scale; grey lies in the "
        "future. The percentage is the dense attention that the selection does not keep, mean over the queries with "
        "something left out."
    )
    return [Drawn("examples", "Sparse against dense attention", caption, figure)]


def across(report: ReportInput) -> list[Drawn]:
    """The map that loses most, of the baseline and the first candidate."""
    models = overlaid(report, 2)
    labels = short_labels(models, 20)
    found = []
    for name in models:
        given = [report.frames("prototypes", table).get(name) for table in ("examples", "example_maps")]
        if given[0] is not None and given[1] is not None:
            row = given[0].filter(pl.col("lost") == pl.col("lost").max()).row(0, named=True)
            found.append(Example(labels[name], row, given[1].filter(pl.col("example") == row["example"])))
    caption = (
        "The attention map that loses most to the selection, of those that the close-up kept: dense attention, the "
        "same scores over the selected keys alone, and sparse less dense (blue was lost, red gained by the scaling). "
        "Queries are sampled, keys pooled into 48 equal parts; grey lies in the future. What is left out is the mean "
        "over the queries with something left out."
    )
    return [Drawn("left-out", "Where the selection leaves out most", caption, left_out(found), overlaid=False)]


EXAMPLES = Panel(
    analysis="prototypes",
    order=40,
    chapter="misses",
    title="What the selection leaves out, on real maps",
    about="Of the maps that the close-up kept, those whose selection loses most attention, least, and the median one.",
    words=words_on_examples,
    draw=draw_examples,
    across=across,
)
PROTOTYPES = Panel(
    analysis="prototypes",
    order=25,
    chapter="selects",
    title="What the clusters look like",
    about="Centres of clusters are no maps: these are the nearest real ones of those that the close-up kept.",
    draw=draw_prototypes,
)
