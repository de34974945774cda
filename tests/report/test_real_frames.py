"""The report of frames that the analyses themselves produce, from features to files."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import polars as pl
import pytest

from indexscope.analysis.clustering import ClusteringSettings
from indexscope.analysis.clustering import run as clustering
from indexscope.analysis.comparison.compare import combine, compare
from indexscope.analysis.comparison.gates import evaluate
from indexscope.analysis.distribution import DistributionSettings
from indexscope.analysis.distribution import run as distribution
from indexscope.analysis.efficiency import EfficiencySettings
from indexscope.analysis.efficiency import run as efficiency
from indexscope.analysis.positional_bias import PositionalBiasSettings
from indexscope.analysis.positional_bias import run as positional_bias
from indexscope.analysis.report import ModelPage, ReportInput, render
from indexscope.analysis.report.panelled import asked
from indexscope.analysis.settings import ComparisonSettings
from tests.analysis import planted


@dataclass(frozen=True)
class Gate:
    """A gate as a study file has it."""

    name: str
    rule: str


#: Facts that may be null of a model that selects, and of whose code nothing is known.
UNKNOWN = ("parameters", "indexer_parameters", "attention_parameters", "key_width", "value_width", "indexer_layers")
UNKNOWN += ("indexer_heads", "indexer_dim", "entry", "dtype")


def analysed(unknown: bool = False, **changes: object) -> tuple[dict[str, dict[str, pl.DataFrame]], pl.DataFrame]:
    """Result frames of all analyses of one model, and its facts; with those left out that may be unknown."""
    tables = planted.features(**changes)  # type: ignore[arg-type]
    if unknown:
        tables["facts"] = tables["facts"].with_columns(
            pl.lit(None, dtype=tables["facts"].schema[name]).alias(name) for name in UNKNOWN
        )
    frames = {
        "distribution": distribution.run(tables, DistributionSettings()),
        "clustering": clustering.run(tables, ClusteringSettings()),
        "positional_bias": positional_bias.run(tables, PositionalBiasSettings(resamples=20)),
        "efficiency": efficiency.run(tables, EfficiencySettings()),
    }
    return frames, tables["facts"]


def study(top_ks: dict[str, int | None], unknown: bool = False) -> ReportInput:
    """A study of planted models, the first one the baseline."""
    found = {name: analysed(unknown, top_k=top_k, layers=2, samples=6) for name, top_k in top_ks.items()}
    combined = {name: combine(frames) for name, (frames, _) in found.items()}
    baseline = next(iter(top_ks))
    comparisons = compare(combined, baseline, ComparisonSettings(resamples=50)) if len(top_ks) > 1 else pl.DataFrame()
    metrics = pl.concat([frames["metrics"].with_columns(model=pl.lit(name)) for name, frames in combined.items()])
    pages = [
        ModelPage(name, "baseline" if name == baseline else "candidate", f"f{name}", facts.row(0, named=True), frames)
        for name, (frames, facts) in found.items()
    ]
    gates = evaluate([Gate("recall", "recall.value >= 0.1")], comparisons, metrics)
    causality = pl.DataFrame({"model": list(top_ks), "passed": True, "max_logit_change": 0.0})
    return ReportInput("planted", pages, metrics, comparisons, gates, causality, {"seed": 0})


SPARSE = {"heads", "histograms", "bands", "liftmap", "clusters", "patterns", "costs"}


@pytest.mark.parametrize(
    ("top_ks", "figures"),
    [
        ({"base": 8, "light": 8}, SPARSE),
        ({"only": 8}, SPARSE),
        ({"dense": None}, SPARSE - {"histograms", "bands", "liftmap"}),
        ({"base": 8, "dense": None}, SPARSE),
    ],
)
def test_frames_of_the_analyses_make_a_whole_report(top_ks: dict[str, int | None], figures: set[str]) -> None:
    given = study(top_ks)
    files = render(given)
    data = json.loads(files["report.json"])
    assert len(data["metrics"]) == given.metrics.height
    assert len(data["comparisons"]) == given.comparisons.height
    drawn = {one.name for panel, frames in asked(given.models[0]) for one in panel.draw(frames) if one.figure}
    assert figures <= drawn and not drawn & (SPARSE - figures)
    if len(top_ks) == 1:
        assert "nothing is compared" in files["report.html"]


def test_a_model_of_whose_code_nothing_is_known_makes_a_whole_report() -> None:
    files = render(study({"base": 8, "light": 8}, unknown=True))
    values = {row["name"]: row["value"] for row in json.loads(files["report.json"])["metrics"] if row["layer"] is None}
    assert values["relative_cost"] is values["indexer_flops"] is values["indexer_parameters"] is None
    assert values["selection_recall"] > 0 and values["indexer_latency_ms"] > 0
    assert not any("nan" in re.split(r"\W+", files[name]) for name in ("report.json", "report.md"))
