"""Figures in the width of a journal's column hold all their words, at a size that can be read."""

from __future__ import annotations

import pytest
from matplotlib.text import Text

from indexscope.analysis.plots.sized import WIDTHS, as_file, sized
from indexscope.analysis.report.panelled import panels
from tests.report.fixtures import Kind, report

KINDS = {"two": Kind(panels=True), "five": Kind(layers=6, panels=True, candidates=("a", "b", "c", "d longer name"))}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", ["column", "page"])
def test_every_figure_over_all_models_fits_the_width(kind: str, width: str) -> None:
    drawn = [one for panel in panels() for one in panel.across(report(KINDS[kind])) if one.figure is not None]
    assert len(drawn) > 5
    for one in drawn:
        assert one.figure is not None
        sized(one.figure, WIDTHS[width])
        as_file(one.figure, "svg", one.title, one.caption)  # which lays it out
        wide, high = one.figure.get_size_inches()
        assert wide == pytest.approx(WIDTHS[width] / 25.4)
        box = one.figure.get_tightbbox()
        inside = box.x0 >= -0.06 and box.x1 <= wide + 0.06 and box.y0 >= -0.06 and box.y1 <= high + 0.06
        assert inside, (one.name, box, (wide, high))
        letters = [text.get_fontsize() for text in one.figure.findobj(Text) if text.get_text()]
        assert min(letters) >= 5.0, one.name
