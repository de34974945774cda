"""The differences between two finished reports, or within one: which models, which rows, which rules they break."""

from __future__ import annotations

from indexscope.analysis.diff.choice import chosen_metrics, narrowed
from indexscope.analysis.diff.definitions import defined
from indexscope.analysis.diff.pairs import Pair, chosen_pairs, matched, within
from indexscope.analysis.diff.premises import premises, same_data
from indexscope.analysis.diff.rows import DIFFERENCES, between, diff, paired_rows
from indexscope.analysis.diff.rules import Outcome, check_rules, fail_on

__all__ = [
    "DIFFERENCES",
    "Outcome",
    "Pair",
    "between",
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
