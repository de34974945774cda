"""What a page says and draws of planted answers."""

from __future__ import annotations

import warnings
from itertools import pairwise

import polars as pl
from matplotlib.figure import Figure
from matplotlib.text import Text

from indexscope.analysis.evidence import EvidenceSettings
from indexscope.analysis.evidence.figures import evidence_maps, keys_needed, kind_maps
from indexscope.analysis.evidence.panel import PANEL
from indexscope.analysis.evidence.run import run
from indexscope.analysis.plots.svg import to_svg
from tests.analysis.evidence.planted import features

FOUND = run(features(), EvidenceSettings(resamples=50, missing=0.6))


def sound(figure: Figure) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert to_svg(figure, "one", "One")


def test_it_says_what_is_selected_answered_lost_and_why() -> None:
    text = " ".join(PANEL.words(FOUND))
    assert "select 87.5" in text and "12.5\u202f% by chance" in text
    assert "Was it the indexer? Of 76 answers that are exact with every key, 20 are lost" in text
    assert "0 others are gained" in text and "100\u202f%" in text and "beside 0\u202f% of those that are kept" in text
    assert "Keys that would have kept all evidence at length 2,048: 32 in 50\u202f%" in text


def test_it_says_why_what_is_not_known_is_not() -> None:
    cells = FOUND["evidence_cells"]
    dense = {
        "evidence_cells": cells.filter(pl.col("metric").is_in(["answer_exact", "answer_nll", "evidence_attention"]))
    }
    assert "selects nothing: every key is attended to" in " ".join(PANEL.words(dense))
    scoreless = {"evidence_cells": cells.filter(pl.col("metric") != "evidence_attention")}
    text = " ".join(PANEL.words(scoreless))
    assert "no ranks of evidence" in text and "no attention on evidence" in text


def test_the_maps_show_every_cell_of_every_model() -> None:
    figure = evidence_maps({"a": FOUND["evidence_cells"], "b": FOUND["evidence_cells"]}, ["a", "b"])
    assert figure is not None
    rows = figure.data.filter(pl.col("series") == "evidence selected")
    assert rows.height == 2 * 20
    lost = rows.filter((pl.col("length") == 2048) & (pl.col("depth") < 0.5))
    assert set(lost["value"]) == {0.5} and set(rows.filter(pl.col("length") == 512)["value"]) == {1.0}
    assert figure.data["panel"].n_unique() == 3, "two models, and one of them with every key"
    sound(figure)


def test_titles_of_many_maps_lie_beside_each_other() -> None:
    models = [f"{number} a model of a long name" for number in range(7)]
    figure = evidence_maps(dict.fromkeys(models, FOUND["evidence_cells"]), models)
    assert figure is not None
    figure.draw_without_rendering()
    rows: dict[int, list[tuple[float, float]]] = {}
    for axes in figure.axes:
        if title := axes.get_title(loc="left"):
            box = axes.findobj(lambda one: isinstance(one, Text) and one.get_text() == title)[0].get_window_extent()
            rows.setdefault(round(axes.get_position().y0 * 100), []).append((box.x0, box.x1))
    assert [len(row) for row in rows.values()] == [7, 7, 8]
    for row in rows.values():
        ends = sorted(row)
        assert all(left[1] < right[0] for left, right in pairwise(ends))


def test_answers_with_every_key_are_drawn_once_where_a_model_selects_nothing() -> None:
    cells = FOUND["evidence_cells"]
    exact = cells.filter(pl.col("metric") == "dense_answer_exact").with_columns(metric=pl.lit("answer_exact"))
    figure = evidence_maps({"dense": exact, "sparse": cells}, ["dense", "sparse"])
    assert figure is not None and figure.data["panel"].unique().sort().to_list() == ["dense", "sparse"]
    other = evidence_maps({"dense": exact.with_columns(value=0.5), "sparse": cells}, ["dense", "sparse"])
    assert other is not None and "sparse, every key" in set(other.data["panel"])


def test_one_model_has_maps_by_kind_and_the_keys_needed() -> None:
    kinds, keys = kind_maps(FOUND["evidence_cells"]), keys_needed({"": FOUND["evidence_keys"]}, [""])
    assert kinds is not None and keys is not None
    assert kinds.data["panel"].unique().sort().to_list() == ["copy", "single"]
    assert set(keys.data["share"]) == {0.5, 0.9, 0.95}
    sound(kinds)
    sound(keys)


def test_there_is_no_figure_without_depths() -> None:
    bare = FOUND["evidence_cells"].filter(pl.col("depth").is_null())
    assert evidence_maps({"a": bare}, ["a"]) is None and kind_maps(bare) is None
    assert keys_needed({"a": FOUND["evidence_keys"].clear()}, ["a"]) is None


def test_lost_answers_are_shown_with_their_evidence_and_wrong_tokens_marked() -> None:
    passages = PANEL.passages(FOUND)
    assert len(passages) == 3
    for passage in passages:
        marks = {token.text: (token.selected, token.weight, token.is_query) for token in passage.tokens}
        assert marks == {" evidence": (True, 0.5, False), " text": (False, 0.0, False), " answer": (False, 0.0, True)}
        assert "exact with every key and not with the selection" in passage.caption


def test_tables_hold_outcomes_lengths_and_kinds() -> None:
    outcomes, lengths, kinds = PANEL.tables(FOUND)
    assert [row[0] for row in outcomes.rows] == ["both right", "lost", "gained", "both wrong"]
    assert [row[0] for row in lengths.rows] == ["512", "2,048"] and [row[0] for row in kinds.rows] == ["copy", "single"]
    (chart,) = PANEL.charts(FOUND)
    assert chart.frame.height == 6


def test_the_markdown_has_the_keys_that_every_length_needs() -> None:
    brief = PANEL.brief(FOUND)
    assert brief is not None
    rows = {row[0]: row[1:] for row in brief.rows if row[0].startswith("keys that keep all evidence in 95\u202f%")}
    needed = FOUND["evidence_keys"].filter(pl.col("length").is_not_null() & (pl.col("share") == 0.95)).sort("length")
    assert [name.rpartition(" ")[2] for name in rows] == [f"{length:,}" for length in needed["length"]]
    assert [float(text.split()[0]) for text, _ in rows.values()] == needed["keys"].to_list()
    without = PANEL.brief({name: frame for name, frame in FOUND.items() if name != "evidence_keys"})
    assert without is not None and len(without.rows) == len(brief.rows) - len(rows)
