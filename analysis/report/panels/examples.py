"""What the selection leaves out of real maps."""

from __future__ import annotations

from matplotlib.figure import Figure

from indexscope.analysis.plots.attention_maps import sparse_against_dense
from indexscope.analysis.report.numbers import percent
from indexscope.analysis.report.panels.panel import Frames, Panel


def words(frames: Frames) -> list[str]:
    """What the examples lose."""
    if "examples" not in frames:
        return []
    rows = frames["examples"]
    which = {"most": "the one that loses most", "middle": "the median one", "least": "the one that loses least"}
    told = [f"{which[row['example']]} loses {percent(row['lost'])}" for row in rows.iter_rows(named=True)]
    maps = "map" if rows["of_maps"][0] == 1 else "maps"
    return [f"Of {rows['of_maps'][0]:,} {maps} with something left out, {', '.join(told)} of its dense attention."]


def draw(frames: Frames) -> list[tuple[Figure, str, str]]:
    """The examples."""
    if not {"examples", "example_maps"} <= set(frames):
        return []
    figure = sparse_against_dense(frames["examples"], frames["example_maps"])
    caption = (
        "Left, dense attention; middle, the same scores over the selected keys alone; right, sparse less dense: blue "
        "was lost, red gained by the scaling. Both are of one forward pass of the dense model, at the probed queries "
        "(down; not evenly spaced) and over the sequence in 48 equal parts (across). Left and middle share a root "
        "scale; grey lies in the future. The percentage is the dense attention that the selection does not keep, mean "
        "over the queries with something left out."
    )
    return [] if figure is None else [(figure, "Sparse against dense attention", caption)]


PANEL = Panel(
    analysis="prototypes",
    name="examples",
    order=38,
    title="What the selection leaves out, on real maps",
    about="Of the maps that the probe kept, those whose selection loses most attention, least, and the median one.",
    words=words,
    draw=draw,
)
