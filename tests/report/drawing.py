"""What a panel draws of some frames."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import polars as pl

from indexscope.analysis.plots.svg import to_svg
from indexscope.analysis.report.panel import Panel


def drawn(panel: Panel, frames: Mapping[str, pl.DataFrame]) -> list[str]:
    """Its pictures as SVG, with warnings as errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return [to_svg(one.figure, one.name, one.title) for one in panel.draw(frames) if one.figure is not None]
