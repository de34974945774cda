"""Maps to look at."""

from __future__ import annotations

from matplotlib.figure import Figure

from indexscope.analysis.plots.prototypes import prototype_maps
from indexscope.analysis.report.panels.panel import Frames, Panel


def draw(frames: Frames) -> list[tuple[Figure, str, str]]:
    """The maps."""
    if not {"prototypes", "maps"} <= set(frames):
        return []
    figure = prototype_maps(frames["prototypes"], frames["maps"])
    caption = (
        "Dense attention of the real maps nearest to each cluster's centre, at the probed queries (down; not evenly "
        "spaced) and over the sequence in 48 equal parts (across); the number before the colon is the cluster. Darker "
        "is more (root scale); grey lies in the future."
    )
    return [] if figure is None else [(figure, "Prototypes of the clusters", caption)]


PANEL = Panel(
    analysis="prototypes",
    order=42,
    title="What the clusters look like",
    about="Centres of clusters are no maps: these are the nearest real ones of those that the probe kept.",
    draw=draw,
)
