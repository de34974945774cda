"""Numbers are shown with the digits they deserve, and nothing is shown as a number that is not one."""

from __future__ import annotations

import math

import pytest

from indexscope.analysis.names import markdown, plain
from indexscope.analysis.report.judgement import judge
from indexscope.analysis.report.numbers import DASH, decimals, digits, number, percent, span


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_unknown_is_a_dash_and_never_zero_or_nan(value: float | None) -> None:
    assert number(value) == DASH
    assert span(value, 1.0) == DASH


@pytest.mark.parametrize(
    ("value", "unit", "places", "text"),
    [
        (0.0, "", None, "0"),
        (0.71234567, "share", None, "0.7123"),
        (-0.02, "nats", 3, "−0.020"),
        (-0.0001, "nats", 2, "0.00"),
        (12345.6, "ms", None, "12,346"),
        (73728, "parameters", None, "73,728"),
        (4_812_416, "parameters", None, "4.812\u202fM"),
        (3.1e15, "FLOPs", None, "3.1\u202fP"),
        (1.55e6, "FLOPs/token", None, "1.55\u202fM"),
        (4.8e-7, "", None, "4.8\u202f×\u202f10⁻⁷"),
        (0.5, "score", None, "0.5"),
    ],
)
def test_numbers(value: float, unit: str, places: int | None, text: str) -> None:
    assert number(value, unit, places) == text


def test_decimals_show_two_digits_of_the_uncertainty() -> None:
    assert decimals((-0.0164, -0.0082), 0.7) == 4
    assert decimals((-1.5, 2.5), 90) == 1
    assert decimals((100.0, 900.0)) == 0
    assert decimals((None, 1.0)) is None
    assert decimals((0.5, 0.5)) is None


def test_differences_carry_their_sign() -> None:
    assert number(0.1, places=2, signed=True) == "+0.10"
    assert span(-0.2, 0.1, places=1, signed=True) == "−0.2 to +0.1"
    assert percent(0.954) == "95.4\u202f%"


@pytest.mark.parametrize(
    ("difference", "low", "high", "better", "kind"),
    [
        (0.1, 0.05, 0.2, True, "better"),
        (-0.1, -0.2, -0.05, False, "worse"),
        (0.1, 0.05, 0.2, None, "different"),
        (0.1, -0.05, 0.2, None, "inconclusive"),
        (0.1, 0.0, 0.2, None, "inconclusive"),
        (0.1, None, None, None, "uncertain"),
        (-5.0, None, None, True, "better"),
        (0.0, None, None, None, "same"),
        (0.0, 0.0, 0.0, None, "same"),
        (0.0, -0.1, 0.1, None, "inconclusive"),
        (None, None, None, None, "missing"),
        (math.nan, None, None, None, "missing"),
    ],
)
def test_judgements(difference: float, low: float, high: float, better: bool, kind: str) -> None:
    row = {"difference": difference, "ci_low": low, "ci_high": high, "better": better}
    assert judge(row).kind == kind


def test_a_direction_is_shown_only_where_one_is_established() -> None:
    assert judge({"difference": 0.1, "ci_low": -1.0, "ci_high": 1.0, "better": None}).arrow == ""
    assert judge({"difference": 0.1, "ci_low": 0.05, "ci_high": 1.0, "better": True}).word == "higher, better"


def test_markdown_shows_foreign_text_as_text() -> None:
    assert markdown("a|b `c` <script> [x](y) *z*\n# h") == r"a\|b \`c\` &lt;script&gt; \[x\](y) \*z\* \# h"
    assert markdown("selection_recall _x_") == r"selection_recall \_x\_"
    assert "http:" not in markdown("see http://example.org") and "www." not in markdown("www.example.org")


def test_names_are_one_short_line_and_right_to_left_stays_inside() -> None:
    assert plain("a\nb\u202ec\x00") == "a bc"
    assert len(plain("x" * 500)) == 80
    assert plain("עברית") == "\u2068עברית\u2069"
    assert plain("") == "(no name)"


@pytest.mark.parametrize(
    ("unit", "values", "interval", "texts", "bounds"),
    [
        ("share", (0.8, -0.00218), (-0.002276, -0.00208), ("0.80000", "−0.00218"), "−0.00228 to −0.00208"),
        ("nats", (2.5338, 0.0018), (0.0008, 0.003), ("2.5338", "0.0018"), "0.0008 to 0.0030"),
        ("nats", (1e-8, 4e-8), (-3e-7, 3e-7), ("0.00000", "0.00000"), "0.00000 to 0.00000"),
        ("FLOPs/token", (1_253_400.0, -897_420.0), (), ("1.253\u202fM", "−0.897\u202fM"), DASH),
        ("parameters", (226_560, 76_416), (), ("226,560", "76,416"), DASH),
        ("ratio", (0.8457, 0.542, -0.3037), (-0.3037, -0.3037 + 1e-14), ("0.8457", "0.5420", "−0.3037"), DASH),
        ("tokens", (398.0, 243.0, -155.0), (), ("398", "243", "−155"), DASH),
        ("logit", (3.2e-7,), (), ("3.2\u202f×\u202f10⁻⁷",), DASH),
        ("ms", (None, 2.0), (), (DASH, "2"), DASH),
    ],
)  # fmt: skip
def test_the_numbers_of_a_row_have_the_same_digits(
    unit: str, values: tuple[float, ...], interval: tuple[float, ...], texts: tuple[str, ...], bounds: str
) -> None:
    row = digits(unit, values, interval)
    assert tuple(row.number(value) for value in values) == texts
    assert row.span(*(interval or (None, None))) == bounds
