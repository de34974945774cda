"""What the words of a comparison mean: the same sentences in the page and in the Markdown."""

from __future__ import annotations

DEFINITIONS = (
    ("better, worse", "The confidence interval of the difference leaves out zero, in that direction."),
    (
        "equivalent",
        "The interval of two one-sided tests (coverage 2 × confidence − 1) lies within the margin on both sides: the "
        "difference does not matter, detected or not. It goes before better and worse.",
    ),
    (
        "inconclusive",
        "Neither: no difference was detected, and one as large as the margin is not ruled out. “No worse than the "
        "margin” says that it is ruled out on the worse side.",
    ),
    (
        "leaks",
        "The model, or the one that it is compared with, failed the causality audit: later tokens reach earlier "
        "predictions. Its numbers are shown, but nothing is concluded from them, and no gate holds on them.",
    ),
    (
        "margin",
        "The difference that does not matter, by the study's settings (comparison.margin, comparison.margins).",
    ),
    (
        "effect size",
        "Difference over the standard deviation of a sample's share in it (d_z for equal weights), with Hedges' "
        "correction; a dash with fewer than three samples or without any spread.",
    ),
    (
        "adjusted p",
        "Benjamini–Hochberg within a family: a candidate's headline metrics over all layers, its other metrics over "
        "all layers, one metric's layers, one metric's lengths. “Not after correction” marks a difference that does "
        "not outlast it.",
    ),
    (
        "detectable",
        "The smallest true difference that a two-sided test with these samples finds with a probability of 80 %.",
    ),
)
