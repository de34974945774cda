"""Claims about what a page says and shows of the choices that a candidate makes differently."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from indexscope.analysis.features.queries import sampled_queries
from indexscope.analysis.selection_changes.panel import PANEL
from indexscope.analysis.selection_changes.run import run
from indexscope.analysis.selection_changes.tables import COMPARED
from indexscope.analysis.settings import ComparisonSettings
from tests.analysis.selection_changes.made import attended, names, selections, token_kinds
from tests.declared import check
from tests.report.drawing import drawn

Tables = dict[str, pl.DataFrame]


def planted(layers: int, samples: int = 8, differ: bool = True, closeup: bool = True) -> Tables:
    """The candidate drops the oldest key of every query and takes the query's own instead."""
    first: dict[tuple[int, int, int, int], list[int]] = {}
    second, mass = dict(first), {}
    for sample in range(samples):
        for layer in range(layers):
            for query in map(int, sampled_queries(64, 8, sample)[0]):
                first[sample, layer, 0, query] = [0, *range(max(1, query - 6), query)]
                second[sample, layer, 0, query] = [*first[sample, layer, 0, query][differ:], *[query] * differ]
                weights = 1.0 + (np.arange(query + 1) + sample + layer) % 7
                weights[0] = 20.0
                mass[sample, layer, query] = weights / weights.sum()
    base = {
        "selections": selections(first),
        "samples": names(range(samples)).with_columns(pl.col("name").replace("text 0", "text \u202etxt")),
    }
    light = {"selections": selections(second)}
    if closeup:
        classes = [0, 1, 2, 3, 4, 5]
        base["token_kinds"] = token_kinds({s: [(s + t) % 6 for t in range(64)] for s in range(samples)}, classes)
        base["attended"], light["attended"] = attended(first, mass, 64), attended(second, mass, 64)
        base["examples"] = pl.DataFrame({"sample": [1]})
    return run({"base": base, "light": light}, "base", ComparisonSettings(resamples=50))


def kept(frames: Tables) -> Tables:
    return {name: frame for name, frame in frames.items() if not frame.is_empty()}


def test_it_says_what_is_shared_what_is_lost_and_what_moved() -> None:
    text = " ".join(PANEL.words(planted(4)))
    assert "Of the baseline's selected keys 8" in text and "if it were random (n = 8 samples)" in text
    assert "By the baseline's own attention the dropped keys hold" in text and "by this model's own attention" in text
    dropped, added = text.split("Added more often")
    assert "Dropped more often" in dropped and "distance 32-63" in dropped and "first occurrence" in dropped
    assert "distance 0 " in added and "distance 32-63" not in added
    assert "raise closeup.attended_keys" not in text


def test_what_is_estimated_is_said_to_be() -> None:
    frames = planted(2)
    estimated = pl.col("metric") == "selection_mass_estimated"
    frames["metrics"] = frames["metrics"].with_columns(pl.when(estimated).then(0.2).otherwise("value").alias("value"))
    assert "estimated: raise closeup.attended_keys to measure it." in PANEL.words(frames)[-3]


@pytest.mark.parametrize("layers", [1, 4, 61])
def test_figures_are_drawn_at_any_depth_and_name_what_they_show(layers: int) -> None:
    pictures = drawn(PANEL, kept(planted(layers, samples=4 if layers == 61 else 8)))
    assert len(pictures) == 3
    assert all(word in pictures[0] for word in ("overlap by chance", "lost (the difference)", "layer (n = "))
    assert "query position (tokens)" in pictures[1] and "31-62" in pictures[1] and "attention lost" in pictures[1]
    assert "32-63" in pictures[2] and "punctuation" in pictures[2] and "lift over chance" in pictures[2]
    assert sum(map(len, pictures)) < 350_000


def test_without_a_closeup_half_of_it_remains_and_without_change_nothing_moves() -> None:
    pictures = drawn(PANEL, kept(planted(3, closeup=False)))
    assert len(pictures) == 3 and not any("attention" in picture for picture in pictures)
    same = planted(3, differ=False)
    assert len(drawn(PANEL, kept(same))) == 2, "nothing was dropped or added"
    text = " ".join(PANEL.words(same))
    assert "the overlap (Jaccard) is 100" in text and "more often" not in text
    assert PANEL.words({}) == PANEL.tables({}) == drawn(PANEL, {}) == []


def test_the_worst_samples_are_listed_by_name_with_their_excerpts() -> None:
    frames = planted(3)
    worst, lost, bins = PANEL.tables(frames)
    for table in (worst, lost):
        assert len(table.rows) == 8 and {len(row) for row in table.rows} == {len(table.columns)}
        assert {row[0]: row[-1] for row in table.rows} == {
            "text txt": "–", "text 1": "yes", **{f"text {sample}": "–" for sample in range(2, 8)}
        }  # fmt: skip
    overlaps, losses = (
        [float(row[place].split()[0]) for row in table.rows] for table, place in ((worst, 2), (lost, 4))
    )
    assert overlaps == sorted(overlaps) and losses == sorted(losses, reverse=True)
    assert {row[0].split(":")[0] for row in bins.rows} == {"distance", "relative", "kind"}
    assert not bins.open and {len(row) for row in bins.rows} == {len(bins.columns)}


def test_frames_are_as_declared() -> None:
    for name, frame in planted(2).items():
        check(frame, COMPARED[name])
