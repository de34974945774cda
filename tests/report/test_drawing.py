"""Figures bring the rows that they were drawn from, each with the place of its mark in the picture."""

from __future__ import annotations

import base64
import json
import math
import re
import zlib

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexscope.analysis.distribution.figures import recall_by_layer
from indexscope.analysis.plots.drawing import Drawing, note
from indexscope.analysis.plots.packed import column, packed
from indexscope.analysis.plots.style import new_figure
from indexscope.analysis.plots.svg import to_svg
from indexscope.analysis.report.html_report import embedded
from indexscope.analysis.report.pictures import picture
from tests.report.fixtures import report


def unpacked(values: object) -> list[object]:
    """A packed column as the report's script reads it."""
    if isinstance(values, list):
        return values
    assert isinstance(values, dict)
    if "texts" in values:
        return [values["texts"][place] for place in unpacked(values["at"])]  # type: ignore[index]
    runs = values["runs"]
    return [
        start + step * place
        for start, step, count in zip(runs[::3], runs[1::3], runs[2::3], strict=True)
        for place in range(count)
    ]


def places(part: dict[str, object], axis: str) -> list[float]:
    place = part[axis]
    if isinstance(place, list):
        return place
    assert isinstance(place, dict)
    columns = part["columns"]
    assert isinstance(columns, dict)
    values = unpacked(columns[place["of"]])
    return [place["a"] + place["b"] * (math.log(float(x)) if place["log"] else float(x)) for x in values]  # type: ignore[arg-type]


@given(st.lists(st.integers(-5, 5) | st.integers(-(2**40), 2**40)))
def test_whole_numbers_survive_their_runs(numbers: list[int]) -> None:
    assert unpacked(column(pl.Series(numbers, dtype=pl.Int64))) == numbers


@given(st.lists(st.text(max_size=3)))
def test_texts_survive_their_list(texts: list[str]) -> None:
    assert unpacked(column(pl.Series(texts, dtype=pl.String))) == texts


@given(st.lists(st.none() | st.floats(), max_size=8))
def test_numbers_keep_six_digits_and_what_is_none_is_null(numbers: list[float | None]) -> None:
    found = column(pl.Series(numbers, dtype=pl.Float64))
    for number, kept in zip(numbers, found, strict=True):
        if number is None or not math.isfinite(number):
            assert kept is None
        else:
            assert kept == pytest.approx(number, rel=5.1e-6, abs=0)
    json.dumps(found, allow_nan=False)


def test_a_grid_takes_a_run_a_row_instead_of_a_number_a_cell() -> None:
    layers = pl.Series([layer for layer in range(61) for _ in range(64)])
    assert len(json.dumps(column(layers))) < 61 * 13


def test_marks_lie_where_the_picture_has_them() -> None:
    """Against the markers that matplotlib drew: a straight and a logarithmic axis."""
    figure = new_figure(3)
    axes = figure.subplots()
    rows = pl.DataFrame({"length": [64, 256, 4096], "value": [1.5, 7.25, 3.0]})
    axes.plot(rows["length"].to_numpy(), rows["value"].to_numpy(), marker="o", linestyle="")
    axes.set_xscale("log", base=2)
    axes.set_axis_off()
    note(axes, rows, "length", "value")
    svg = to_svg(figure, "a", "t")
    (part,) = packed(figure)["parts"]
    drawn = [(float(x), float(y)) for x, y in re.findall(r'<use x="([\d.]+)" y="([\d.]+)"', svg)]
    assert part["x"]["of"] == "length" and part["x"]["log"] and part["y"]["of"] == "value"
    assert list(zip(places(part, "x"), places(part, "y"), strict=True)) == [pytest.approx(at, abs=0.2) for at in drawn]
    width, height = packed(figure)["size"]
    assert re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0].split('"')[1].split() == [  # type: ignore[index]
        "0",
        "0",
        f"{width:g}",
        f"{height:g}",
    ]


def test_the_rows_are_those_of_the_frame_with_interval_and_n() -> None:
    given_report = report()
    figure = recall_by_layer(given_report.metrics, ["baseline", "light"])
    assert isinstance(figure, Drawing)
    rows = figure.data.filter(pl.col("series") == "light")
    frame = given_report.metrics.filter(
        (pl.col("model") == "light") & (pl.col("metric") == "selection_recall") & pl.col("layer").is_not_null()
    ).sort("layer")
    names = ["layer", "value", "ci_low", "ci_high", "n"]
    assert rows.select(names).rows() == frame.select(names).rows()


def test_what_is_no_drawing_keeps_no_rows() -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    with pytest.raises(TypeError, match="new_figure"):
        note(axes, pl.DataFrame({"a": [1]}), "a", "a")
    plain = picture("a", "t", "c", axes.get_figure())  # type: ignore[arg-type]
    assert plain.data is None


def test_nothing_in_the_data_can_leave_a_script_element() -> None:
    data = {"</script><script>": "<!-- & \u2028 \ud800", "e": "é"}
    text = embedded(data)
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", text)
    assert json.loads(zlib.decompress(base64.b64decode(text)).decode("utf-8", "surrogatepass")) == data
