"""The differences between two finished reports, or within one: which models, which rows, which rules they break."""

from __future__ import annotations

from analysis.diff.choice import chosen_metrics, narrowed
from analysis.diff.definitions import defined
from analysis.diff.pairs import Pair, chosen_pairs, matched, within
from analysis.diff.premises import premises, same_data
from analysis.diff.rows import DIFFERENCES, diff, paired_rows
from analysis.diff.rules import Outcome, check_rules, fail_on

__all__ = [
    "DIFFERENCES",
    "Outcome",
    "Pair",
    "check_rules",
    "chosen_metrics",
    "chosen_pairs",
    "defined",
    "diff",
    "fail_on",
    "matched",
    "narrowed",
    "paired_rows",
    "premises",
    "same_data",
    "within",
]
