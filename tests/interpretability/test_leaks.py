"""In a notebook a model that leaks is called so, and nothing is concluded from it."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import polars as pl
import pytest
import torch

from indexscope.analysis.plots.svg import to_svg
from interpretability import IndexerInterpreter, compare_indexer_analyses
from tests.analysis.capture.plain_modules import VOCABULARY, Plain, Told
from tests.analysis.capture.test_audit import _Leaks, _Picks
from tests.analysis.conftest import tiny_dsa
from tests.interpretability.test_interpreter import ids_of
from tests.interpretability.test_models import Showing

IDS = ids_of(3, 40, VOCABULARY - 1)
QUESTIONS = (
    "analyze_token_selection",
    "analyze_positional_bias",
    "study_relevance_distribution",
    "analyze_indexer_heads",
)


def leaking_dsa() -> torch.nn.Module:
    model = tiny_dsa()
    model.model.layers[1].self_attn = _Leaks(model.model.layers[1].self_attn)
    return model


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("build", [lambda: Plain("leak"), lambda: Told(Plain("leak by hand").eval()), leaking_dsa])
def test_every_analysis_of_a_model_that_leaks_says_so(build: Callable[[], object], question: str) -> None:
    with pytest.warns(UserWarning, match="^leaks: "):
        found = getattr(IndexerInterpreter(), question)(build(), IDS, name="mine")
    assert found.leaks is True
    assert sum(note.startswith("leaks: ") for note in found.notes) == 1
    assert repr(found).splitlines()[0].startswith(f"{type(found).__name__} of mine (leaks), n = 3")
    assert found.to_frame()["leaks"].all() and found.to_frame().height


def test_a_leak_that_no_mask_shows_is_found_by_the_audit() -> None:
    for model in (Plain("peek"), _Picks(faulty=True).eval()):
        with pytest.warns(UserWarning, match="^leaks: mine failed the causality audit: later tokens moved"):
            found = IndexerInterpreter().analyze_positional_bias(model, IDS, name="mine")
        assert found.leaks is True


@pytest.mark.parametrize(
    ("build", "leaks"),
    [
        (lambda: Plain("float"), False),
        (lambda: Plain("by hand"), False),
        (tiny_dsa, False),
        (lambda: Showing(tiny_dsa()), None),
    ],
)
def test_of_a_causal_model_nothing_of_the_kind_is_said(build: Callable[[], object], leaks: bool | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = IndexerInterpreter().analyze_token_selection(build(), IDS, name="mine")
    assert found.leaks is leaks and "leaks" not in repr(found) and not any("leaks" in note for note in found.notes)
    assert found.to_frame()["leaks"].unique().to_list() == [leaks]


@pytest.mark.filterwarnings("ignore:leaks")
@pytest.mark.parametrize("leaking", ["baseline", "candidate"])
def test_nothing_is_better_or_worse_than_what_leaks(leaking: str) -> None:
    kinds = {"baseline": "float", "candidate": "float"} | {leaking: "leak"}
    own = [
        IndexerInterpreter().analyze_token_selection(Plain(kind), IDS, name=f"the {role}")
        for role, kind in kinds.items()
    ]
    found = compare_indexer_analyses(*own)
    assert found.leaks == (leaking,) and any(note.startswith("leaks: ") for note in found.notes)
    assert found.metrics["verdict"].unique().to_list() == ["leaks"]
    assert found.metrics.select(pl.col("better", "no_worse", "corrected").is_null().all()).row(0) == (True,) * 3
    first = repr(found).splitlines()[0]
    assert f"the {leaking} (leaks)" in first and "better" not in repr(found).replace("verdict", "")
    drawn = to_svg(IndexerInterpreter().visualize_indexer_analysis(found), "f", "t")
    assert f"the {leaking} (leaks)" in drawn and "leaks, not judged" in drawn
    assert "(leaks)" in to_svg(IndexerInterpreter().visualize_indexer_analysis(own[leaking == "candidate"]), "f", "t")
