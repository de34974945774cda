"""Claims about the registry and its documentation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from indexscope.analysis.evidence.tables import COLLECTED
from indexscope.analysis.metrics.document import document
from indexscope.analysis.metrics.metric import Derived, Ratio
from indexscope.analysis.metrics.registry import FAMILIES, REGISTRY
from indexscope.columns import empty
from tests.analysis import planted

REQUIRED = [
    "attention_entropy",
    "normalized_entropy",
    "effective_keys",
    "participation",
    "sparsity_ratio",
    "max_weight",
    "top_5_mass",
    "top_10_mass",
    "top_20_mass",
    "top_64_mass",
    "top_k_mass",
    "keys_for_95",
    "local_mass",
    "local_global_ratio",
    "sink_mass",
    "self_mass",
    "previous_mass",
    "mean_distance",
    "induction_mass",
    "head_recall",
    "output_error",
    "selection_recall",
    "oracle_recall",
    "random_recall",
    "oracle_overlap",
    "top_key_kept",
    "selection_reuse",
    "cache_hits_2k",
    "cache_hits_4k",
    "recall_of_oracle",
    "tie_share",
    "score_margin",
    "score_gap",
    "indexer_kl",
    "zero_share",
    "in_effect",
    "nll",
    "perplexity",
    "dense_nll",
    "sparsity_cost",
    "accuracy",
    "positional_bias",
    "indexer_parameters",
    "indexer_flops",
    "attention_flops",
    "indexer_latency_ms",
    "efficiency_score",
    "model_parameters",
]
ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", REQUIRED)
def test_a_promised_metric_is_declared(name: str) -> None:
    assert REGISTRY[name].name == name


@pytest.mark.parametrize("name", REGISTRY)
def test_a_metric_has_everything_that_a_reader_needs(name: str) -> None:
    metric = REGISTRY[name]
    assert metric.unit
    assert metric.better in ("higher", "lower", "neither")
    assert metric.meaning.endswith(".")
    assert "\n" not in metric.meaning + metric.formula
    assert len(metric.formula) > 3
    assert "`" not in metric.formula


def test_every_metric_says_its_range_and_what_can_mislead() -> None:
    lacking = [metric.name for metric in REGISTRY.values() if not (metric.range and metric.misleads)]
    assert lacking == [], "give these a range and what can make them mislead"


def test_what_can_mislead_is_of_one_metric_alone() -> None:
    """Sentences, and not the same ones for everything."""
    texts = [metric.misleads for metric in REGISTRY.values()]
    assert all(text.endswith(".") and "\n" not in text for text in texts)
    assert len(set(texts)) == len(texts)


def test_the_documentation_shows_ranges_and_what_can_mislead() -> None:
    text = document()
    for metric in REGISTRY.values():
        assert f"| {metric.range} | {metric.better} |" in text
        assert f"*Can mislead:* {metric.misleads}" in text


def test_every_column_that_a_metric_reads_is_one_that_extraction_writes() -> None:
    tables = planted.features() | empty(COLLECTED)
    for metric in REGISTRY.values():
        if isinstance(metric.rule, Ratio):
            needed = {metric.rule.value, metric.rule.weight, metric.rule.minus, metric.rule.over} - {""}
            assert needed <= set(tables[metric.rule.table].columns), metric.name


def test_derived_metrics_derive_from_ratios() -> None:
    """Derivation goes one step deep, so that one pass over the registry finds them all."""
    for metric in REGISTRY.values():
        for base in metric.bases:
            assert not isinstance(REGISTRY[base].rule, Derived)


def test_no_metric_belongs_to_two_families() -> None:
    assert sum(len(family.metrics) for family in FAMILIES) == len(REGISTRY)


def test_the_documentation_is_up_to_date() -> None:
    """If this fails: python -m indexscope.analysis.metrics.document > docs/metrics.md."""
    assert (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8") == document()


def test_the_documentation_command_prints_it() -> None:
    command = [sys.executable, "-X", "utf8", "-m", "indexscope.analysis.metrics.document"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    assert printed.splitlines() == document().splitlines()


def test_declarations_need_no_torch() -> None:
    imports = "import sys, indexscope.analysis.metrics, indexscope.analysis.features.columns"
    code = f"{imports}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
