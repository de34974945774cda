"""Passages of foreign text are shown with their marks, and have no power over the page."""

from __future__ import annotations

import re
from dataclasses import replace

import polars as pl
import pytest

from indexscope.analysis.names import visible
from indexscope.analysis.report import render
from indexscope.analysis.report.inputs import ModelPage
from indexscope.analysis.report.panelled import shown_panels
from indexscope.analysis.token_content.panel import passages
from indexscope.analysis.token_content.tables import EXAMPLES
from tests.report.fixtures import report

HOSTILE = [
    "</bdi></mark><script>alert(1)</script>",
    "\u202eevil",
    "\x00\x1b[31m",
    "\n\n",
    "\u0301" * 60,
    "&amp;",
    '"',
    " ",
]


def examples(tokens: list[str], layer: int = 0, sample: int = 5, skipped: int = 0) -> pl.DataFrame:
    rows = [
        (
            sample,
            layer,
            skipped + len(tokens) - 1,
            skipped + place,
            token,
            place % 2 == 0,
            0.1 * (place + 1),
            1.0,
            0.75,
            3,
        )
        for place, token in enumerate(tokens)
    ]
    return pl.DataFrame(rows, schema=EXAMPLES.schema, orient="row")


def page(frame: pl.DataFrame) -> ModelPage:
    return replace(report().models[0], analyses={"token_content": {"examples": frame}})


def test_control_characters_and_directions_are_made_visible() -> None:
    assert visible("a\tb\x7f\x07") == "a⇥b␡␇"
    assert visible("\n\n  x") == "⏎⏎\n  x"
    assert visible("\u202e\u200b\ufeff\ud800") == "⟨U+202E⟩⟨U+200B⟩⟨U+FEFF⟩⟨U+D800⟩"
    assert visible("\u0301a").startswith("◌") and visible("a\u0301") == "a\u0301"
    assert visible("\u00a0\u3000") == "  "
    assert visible("x" * 41) == "x" * 40 + "…"
    assert visible("") == ""


def test_hostile_tokens_are_shown_and_never_run() -> None:
    given = report(layers=1, heads=1)
    html = render(replace(given, models=[page(examples(HOSTILE, skipped=4)), *given.models[1:]]))["report.html"]
    passage = html[html.index('<p class="text">') : html.index("</p>", html.index('<p class="text">'))]
    assert "<script" not in passage and "&lt;script&gt;alert(1)" in passage
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", passage)
    assert passage.count("<bdi>") == passage.count("</bdi>") == len(HOSTILE)
    assert passage.count("<mark") == passage.count("</mark>") == 5  # four are selected, the query is not
    assert set(re.findall(r"<(/?\w+)", passage)) == {"p", "span", "/span", "bdi", "/bdi", "mark", "/mark"}
    assert passage.count("[…]") == 1
    assert "⟨U+202E⟩evil" in passage and "␀␛[31m" in passage and "&amp;amp;" in passage
    html.encode()


def test_marks_grow_with_the_attention_and_the_query_is_outlined() -> None:
    (shown,) = shown_panels(page(examples([" a", " b", " c", " d"])))
    ((caption, tokens),) = shown.passages
    assert [token.kind for token in tokens] == ["level-3", "", "level-4", "query"]
    assert "sample 5" in caption and "position 3" in caption
    assert "2 of its 5 selected keys" in caption and "75\u202f% of the attention" in caption


def test_left_out_tokens_leave_a_gap() -> None:
    first = examples(["a", "b"], skipped=4).with_columns(query=pl.lit(40, pl.Int32))
    later = examples(["c", "d"], skipped=39).with_columns(query=pl.lit(40, pl.Int32))
    (passage,) = passages({"examples": pl.concat([first, later])})
    assert [token.follows_gap for token in passage.tokens] == [True, False, True, False]
    assert [token.is_query for token in passage.tokens] == [False, False, False, True]


@pytest.mark.parametrize("layers", [1, 2, 3, 40])
def test_few_layers_are_shown_each_with_one_sample(layers: int) -> None:
    frames = [examples(["a", "b"], layer, sample) for layer in range(layers) for sample in (0, 9)]
    found = passages({"examples": pl.concat(frames)})
    assert len(found) == min(layers, 3)
    assert found[0].caption.startswith("Layer 0, sample 0") and found[-1].caption.startswith(f"Layer {layers - 1},")


def test_half_a_page_is_no_reason_to_fail() -> None:
    assert passages({}) == []
    assert "level-0" not in str(shown_panels(page(examples(["a"]).with_columns(selected=pl.lit(False))))[0].passages)
