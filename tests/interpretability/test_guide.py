"""The examples of docs/notebooks.md run as they stand, and its tables name what there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from interpretability.analyzer import Clusters, PatternTypes
from interpretability.content import ContentAnalysis
from interpretability.efficiency import EfficiencyMetrics, OptimalPatterns
from interpretability.measures import AttentionMeasures
from interpretability.sparse_dense import SparseDense

GUIDE = (Path(__file__).parents[2] / "docs" / "notebooks.md").read_text()
SECTIONS = ("In a notebook", "AttentionVisualizer", "PatternAnalyzer", "Extending")


def section(title: str) -> str:
    return next(part for part in re.split(r"^#+ ", GUIDE, flags=re.MULTILINE) if part.startswith(f"{title}\n"))


def test_every_example_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for title in SECTIONS:
        for code in re.findall(r"^```python\n(.*?)^```", section(title), flags=re.MULTILINE | re.DOTALL):
            exec(compile(code, title, "exec"), names)
    assert {path.name for path in tmp_path.iterdir()} == {"sparse.svg", "largest.pdf", "pictures"}
    assert (tmp_path / "pictures" / "sparse_attention.png").exists()
    assert names["plain"].quality and names["plain"].notes
    assert names["entropy_stats"].causal and names["kept"].selection_recall > names["kept"].random_recall
    assert names["pattern_types"].labels[0, 1] == "sink"
    assert names["MyAnalyzer"](n_clusters=2).cluster_patterns(names["attention_weights"]).feature_names[-1] == (
        "second_diagonal"
    )


def test_the_guide_names_every_field_of_the_measures() -> None:
    own = section("AttentionVisualizer")
    for kind in (AttentionMeasures, SparseDense):
        missing = [name for name in kind._names() if f"`{name}`" not in own]
        assert set(missing) <= {"by_head", "by_position", "metrics"}


def test_the_guide_names_no_field_that_there_is_not() -> None:
    kinds = {
        kind.__name__: kind for kind in (Clusters, PatternTypes, EfficiencyMetrics, OptimalPatterns, ContentAnalysis)
    }
    current: Any = None
    for row in re.findall(r"^\| (`\.?\w.*?) \|", section("PatternAnalyzer"), flags=re.MULTILINE):
        for holder, name in re.findall(r"`(\w*)\.(\w+)`", row):
            current = kinds[holder] if holder else current
            assert name in current._names(), (current, name)
