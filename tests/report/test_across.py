"""Figures over all models: few, named apart, drawn without complaint; those of a dense model speak of attention."""

from __future__ import annotations

import warnings
from collections import Counter

import pytest

from indexscope.analysis import questions
from indexscope.analysis.plots.svg import to_svg
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.panel import Answer, Drawn
from indexscope.analysis.report.panelled import asked, panels
from tests.report.fixtures import Kind, report
from tests.report.panel_frames import with_panels

QUESTIONS = (
    *("positional_bias", "clustering", "token_content"),
    *("distribution", "key_budget", "context_length", "prototypes"),
)


def drawn(given: ReportInput) -> list[Drawn]:
    """The figures of what is selected and missed."""
    every = [one for panel in panels() if panel.analysis in QUESTIONS for one in panel.across(given.for_readers())]
    return [one for one in every if one.figure is not None]


@pytest.mark.parametrize(
    "kind",
    [
        Kind(),
        Kind(layers=61, heads=16, candidates=tuple(f"a candidate of a long sweep, {number}" for number in range(5))),
        Kind(candidates=tuple(f"c{number}" for number in range(20)), audit_failed=("c3",)),
        Kind(candidates=("light", "lighter"), dense=("baseline",)),
    ],
    ids=["two", "deep", "many", "dense baseline"],
)
def test_there_are_six_figures_and_each_is_drawn(kind: Kind) -> None:
    """The seventh, by context length, needs frames that made-up reports have not."""
    figures = drawn(with_panels(report(kind)))
    assert [one.name for one in figures] == [
        *("lift", "pattern-types", "token-content"),
        *("recall", "key-budget", "left-out"),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for one in figures:
            assert one.figure is not None and all(axes.has_data() for axes in one.figure.axes)
            assert "…" not in to_svg(one.figure, "a", one.title) or len(kind.candidates) == 5


def test_a_dense_model_has_figures_of_its_attention_alone() -> None:
    figures = drawn(with_panels(report(candidates=(), dense=("baseline",))))
    assert [one.name for one in figures] == ["lift", "pattern-types"]
    assert not any("select" in (one.title + one.caption).lower() for one in figures)


def test_no_two_figures_have_one_name() -> None:
    given = with_panels(report())
    names = Counter(one.name for panel in panels() for one in panel.across(given))
    names += Counter(one.name for panel, frames in asked(given.models[1]) for one in panel.draw(frames))
    assert [name for name, count in names.items() if count > 1] == []


def test_answers_name_models_that_leak_and_have_an_end() -> None:
    given = with_panels(report(audit_failed=("light",))).for_readers()
    answers = [one for one in questions.declared("answer", Answer) if one.chapter in ("selects", "misses")]
    said = [text for one in answers for text in one.say(given)]
    assert len(said) >= 4 and all(text.endswith(".") and "nan" not in text and "None" not in text for text in said)
    assert all("light (leaks)" in text for text in said if "light" in text)
