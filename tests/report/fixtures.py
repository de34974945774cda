"""Reports to test with: seeded frames with the columns that the analyses produce, of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import polars as pl

from indexscope.analysis.clustering.pattern_types import TYPED
from indexscope.analysis.comparison.verdicts import with_verdicts
from indexscope.analysis.conventions import SERVED
from indexscope.analysis.efficiency.reference import THIS
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.report import ModelPage, ReportInput, render
from indexscope.analysis.report.inputs import (
    CAUSALITY_SCHEMA,
    COMPARISONS_SCHEMA,
    GATES_SCHEMA,
    LENGTHS_SCHEMA,
    METRICS_SCHEMA,
)
from indexscope.analysis.settings import ComparisonSettings
from tests.report.output_frames import output_frames
from tests.report.panel_frames import with_panels

SPARSE_ONLY = (
    *("indexer", "positions", "scores", "token_content", "layer_sharing"),
    *("indexer_heads", "indexer_head_pairs", "selection_stability", "output_stability", "selections", "attended"),
)
TYPES = (
    "sink",
    "previous-token",
    "self",
    "local",
    "vertical",
    "slash",
    "block",
    "induction",
    "uniform",
    "global",
    "mixed",
)
COMPARED = ["candidate", "metric", "layer", "unit", "baseline", "value", "difference", "ci_low", "ci_high", "n"]
TYPICAL = {
    "nats": 2.0,
    "share": 0.5,
    "keys": 24.0,
    "tokens": 90.0,
    "ratio": 1.2,
    "bits": 0.4,
    "sd": 0.3,
    "score": 1.3,
    "ms": 2.5,
    "bytes": 2.0e6,
    "parameters": 260_000.0,
    "FLOPs/token": 3.1e6,
    "clusters": 5.0,
    "heads": 3.0,
    "cosine": 0.4,
    "correlation": 0.2,
}


@dataclass(frozen=True)
class Kind:
    """What a made-up report looks like."""

    layers: int = 4
    candidates: Sequence[str] = ("light",)
    baseline: str = "baseline"
    dense: Sequence[str] = ()
    samples: int = 64
    heads: int = 8
    shift: float = -0.04
    seed: int = 0
    audit_failed: Sequence[str] = ()
    gates: bool = True
    panels: bool = False
    indexer_heads: int = 4


def bare(given: ReportInput) -> ReportInput:
    """The report without what takes long to draw, for tests of what is said."""
    metrics = given.metrics.filter(pl.col("layer").is_null())
    pages = [replace(page, analyses={}) for page in given.models]
    return replace(given, models=pages, metrics=metrics)


def report(kind: Kind | None = None, **changes: Any) -> ReportInput:
    """A whole report input; the same kind gives the same frames."""
    kind = kind or Kind(**changes)
    names = [kind.baseline, *kind.candidates]
    metrics = pl.concat([_metrics(kind, name, place) for place, name in enumerate(names)])
    comparisons = _comparisons(kind, metrics)
    return ReportInput(
        study="python-stdlib, baseline and light",
        models=[_page(kind, name, place) for place, name in enumerate(names)],
        metrics=metrics,
        comparisons=comparisons,
        gates=_gates() if kind.gates else pl.DataFrame(schema=GATES_SCHEMA),
        causality=pl.DataFrame(
            [
                (name, name not in kind.audit_failed, 3.1 if name in kind.audit_failed else 4.8e-7, None)
                for name in names
            ],
            schema=CAUSALITY_SCHEMA,
            orient="row",
        ),
        provenance=_provenance(kind, names),
        lengths=_lengths(comparisons),
    )


def _random(kind: Kind, *parts: object) -> np.random.Generator:
    return np.random.default_rng([kind.seed, *(sum(map(ord, str(part))) for part in parts)])


def _applies(kind: Kind, name: str, metric: str) -> bool:
    table = REGISTRY[metric].table
    if REGISTRY[metric].paired and name == kind.baseline:
        return False
    needs = table in SPARSE_ONLY or metric in ("head_recall", "output_error", "in_effect", "efficiency_score")
    return not (name in kind.dense and (needs or metric.startswith("indexer_")))


def _metrics(kind: Kind, name: str, place: int) -> pl.DataFrame:
    rows = []
    for metric in REGISTRY.values():
        if not _applies(kind, name, metric.name) or (metric.paired and not place):
            continue
        layers: list[int | None] = [None, *range(kind.layers)] if metric.per_layer else [None]
        sampled = metric.table not in ("facts", "profile") and metric.name not in (
            "clusters_chosen",
            "cluster_stability",
        )
        base = _level(metric.name)
        for layer in layers:
            wave = 0.0 if layer is None else 0.25 * np.sin(layer / max(kind.layers - 1, 1) * 5)
            value = base * (1 + wave + kind.shift * place) if place or layer is not None else base
            if not sampled:
                value = base * 0.5**place if metric.unit != "clusters" else base
            elif metric.unit == "share":
                value = min(max(value, 0.001), 0.999)
            half = abs(value) * 0.015 if sampled else None
            low, high = (value - half, value + half) if half is not None else (None, None)
            rows.append((name, metric.name, layer, float(value), metric.unit, low, high, kind.samples))
    return pl.DataFrame(rows, schema=METRICS_SCHEMA, orient="row")


def _level(metric: str) -> float:
    special = {
        "oracle_recall": 0.88,
        "random_recall": 0.27,
        "selection_recall": 0.71,
        "in_effect": 0.76,
        "tie_share": 0.02,
    }
    return special.get(metric, TYPICAL[REGISTRY[metric].unit])


def _comparisons(kind: Kind, metrics: pl.DataFrame) -> pl.DataFrame:
    keys = ["metric", "layer"]
    ours = metrics.filter(pl.col("model") == kind.baseline)
    rows = []
    for candidate in kind.candidates:
        random = _random(kind, "comparison", candidate)
        pairs = metrics.filter(pl.col("model") == candidate).join(ours, on=keys, suffix="_ours", nulls_equal=True)
        for row in pairs.iter_rows(named=True):
            difference = row["value"] - row["value_ours"]
            low = high = None
            if row["ci_low"] is not None:
                half = abs(row["value_ours"]) * random.choice([0.005, 0.02, 0.09])
                low, high = difference - half, difference + half * random.uniform(0.8, 1.2)
            rows.append(
                {
                    "candidate": candidate,
                    "metric": row["metric"],
                    "layer": row["layer"],
                    "unit": row["unit"],
                    "baseline": row["value_ours"],
                    "value": row["value"],
                    "difference": difference,
                    "ci_low": low,
                    "ci_high": high,
                    "n": kind.samples if low is not None or row["unit"] == "ms" else None,
                }
            )
    return judged(pl.DataFrame(rows, schema={name: COMPARISONS_SCHEMA[name] for name in COMPARED}))


def _lengths(comparisons: pl.DataFrame) -> pl.DataFrame:
    """Headline metrics at three lengths, the shorter ones with smaller values."""
    overall = comparisons.filter(
        pl.col("layer").is_null() & pl.col("metric").is_in(["nll", "selection_recall"]) & pl.col("ci_low").is_not_null()
    )
    parts = [
        overall.with_columns(
            (pl.col("baseline", "value", "difference", "ci_low", "ci_high") * share),
            length=pl.lit(length, dtype=pl.Int32),
            kind=pl.lit(kind),
        )
        for kind in ("up to", "at")
        for length, share in ((127, 0.8), (255, 0.9), (511, 1.0))
    ]
    return pl.concat(parts).select(*LENGTHS_SCHEMA)


def judged(rows: pl.DataFrame) -> pl.DataFrame:
    """Comparison rows with what follows from their intervals, as if those were of Student's t."""
    half = (pl.col("ci_high") - pl.col("ci_low")) / 2
    error = half / 2
    inferred = rows.with_columns(
        n_effective=pl.col("n").cast(pl.Float64),
        standard_error=error,
        effect=pl.col("difference") / error / pl.col("n").sqrt(),
        p=(-((pl.col("difference") / error) ** 2) / 2).exp(),
        mde=2.8 * error,
        tost_low=pl.col("ci_low") + 0.16 * half,
        tost_high=pl.col("ci_high") - 0.16 * half,
    )
    return with_verdicts(inferred, ComparisonSettings()).select(*COMPARISONS_SCHEMA)


def _gates() -> pl.DataFrame:
    rows = [
        (
            "recall is kept",
            "selection_recall.difference >= -0.02 per layer",
            "light",
            -0.0284,
            False,
            2,
            "layer 2 fails",
        ),
        ("loss is kept", "nll.difference <= 0.05 on upper", "light", 0.031, True, None, "it is <= 0.05"),
        ("nothing measured", "stability.value >= 0.9", "light", None, None, None, "there is no stability"),
    ]
    return pl.DataFrame(rows, schema=GATES_SCHEMA, orient="row")


def _page(kind: Kind, name: str, place: int) -> ModelPage:
    dense = name in kind.dense
    facts = {
        "family": "llama" if dense else "deepseek_v32",
        "parameters": 4_812_416 - 100_000 * place,
        "indexer_parameters": 0 if dense else 262_144 // 2**place,
        "attention_parameters": 1_048_576,
        "layers": kind.layers,
        "attention_heads": kind.heads,
        "key_width": 48,
        "value_width": 32,
        "indexer_layers": 0 if dense else kind.layers,
        "indexer_heads": None if dense else 4 // 2 ** min(place, 2),
        "indexer_dim": None if dense else 64,
        "index_topk": None if dense else 64,
        "dtype": "float32",
        "device": "cpu",
        "chunk": 256,
    }
    distribution = {"by_bucket": _by_bucket(kind, name, place), "by_head": _by_head(kind, name)}
    if not dense:
        distribution |= {"score_quantiles": _quantiles(kind, name), "score_histogram": _histogram(kind, name)}
    return ModelPage(
        name=name,
        role="candidate" if place else "baseline",
        fingerprint=f"{_random(kind, name).integers(2**62):016x}",
        facts=facts,
        analyses={
            "distribution": distribution,
            "clustering": _clustering(kind, name),
            "positional_bias": {"lift": _lift(kind, name, place, dense)},
            "output_divergence": output_frames(name, place, kind.samples),
            "efficiency": {"projection": _projection(place, dense), "latency": _latency(place, dense)},
        },
    )


def _by_bucket(kind: Kind, name: str, place: int) -> pl.DataFrame:
    rows = []
    for metric in ("selection_recall", "normalized_entropy", "sparsity_ratio", "nll"):
        if not _applies(kind, name, metric):
            continue
        for layer in [None, *range(min(kind.layers, 3))]:
            for bucket in range(6 if metric == "selection_recall" else 0, 10):
                value = {"nll": 4.2 * 0.9**bucket}.get(metric, 0.95 * 0.93**bucket) * (1 - 0.03 * place)
                rows.append((metric, layer, bucket, value, kind.samples))
    schema = {"metric": pl.String, "layer": pl.Int16, "bucket": pl.Int8, "value": pl.Float64, "n": pl.Int32}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _by_head(kind: Kind, name: str) -> pl.DataFrame:
    random = _random(kind, "head", name)
    rows = [
        (metric, layer, head, float(random.beta(4, 3)))
        for metric in ("normalized_entropy", "head_recall")
        if _applies(kind, name, metric)
        for layer in range(kind.layers)
        for head in range(kind.heads)
    ]
    schema = {"metric": pl.String, "layer": pl.Int16, "head": pl.Int16, "value": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _quantiles(kind: Kind, name: str) -> pl.DataFrame:
    rows = [
        (layer, group, level, (1 + 0.1 * np.sin(layer)) * (place * 1.4 + 3 * level), 40_000)
        for layer in range(kind.layers)
        for place, group in enumerate(("unselected", "selected"))
        for level in (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
    ]
    schema = {"layer": pl.Int16, "group": pl.String, "quantile": pl.Float64, "value": pl.Float64, "count": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _histogram(kind: Kind, name: str) -> pl.DataFrame:
    edges = np.linspace(0, 6, 61)
    middle = (edges[1:] + edges[:-1]) / 2
    rows = []
    for layer in range(kind.layers):
        for group, centre, width in (("selected", 3.4 + 0.1 * layer % 1, 0.8), ("unselected", 1.1, 0.7)):
            density = np.exp(-(((middle - centre) / width) ** 2) / 2)
            if group == "unselected":
                density[0] += 2.0
            density /= density.sum() * 0.1
            for left, right, value in zip(edges[:-1], edges[1:], density, strict=True):
                rows.append((layer, group, left, right, value, int(value * 4000)))
    schema = {
        "layer": pl.Int16,
        "group": pl.String,
        "left": pl.Float64,
        "right": pl.Float64,
        "density": pl.Float64,
        "count": pl.Int64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def _clustering(kind: Kind, name: str) -> dict[str, pl.DataFrame]:
    random = _random(kind, "cluster", name)
    names = ("sharp local", "attention sink", "broad, high entropy", "previous token and induction", "vertical columns")
    features = [
        "normalized_entropy",
        "max_weight",
        "local_mass",
        "sink_mass",
        "previous_mass",
        "mean_distance",
        "induction_mass",
        "vertical_mass",
        "slash_mass",
        "block_mass",
    ]
    total = kind.samples * kind.layers * kind.heads
    share = np.array([0.38, 0.25, 0.17, 0.12, 0.08])
    columns: dict[str, Any] = {
        "cluster": range(5),
        "name": names,
        "size": (share * total).astype(int),
        "share": share,
        "ci_low": share - 0.02,
        "ci_high": share + 0.03,
        "n": kind.samples,
        **{feature: random.normal(0, 1.1, 5) for feature in features},
    }
    types = []
    for layer in [None, *range(kind.layers)]:
        parts = random.dirichlet(np.linspace(3, 0.5, len(TYPES)))
        types += [
            (layer, kind_, float(part), 0.9 * part, 1.1 * part, int(part * 512), kind.samples)
            for kind_, part in zip(TYPES, parts, strict=True)
        ]
    silhouette = np.array([0.21, 0.26, 0.29, 0.33, 0.32, 0.31, 0.30])
    ends = {"silhouette_low": silhouette - 0.02, "silhouette_high": silhouette + 0.02}
    choice = {"k": range(2, 9), "silhouette": silhouette, **ends, "inertia": [9.0] * 7}
    return {
        "clusters": pl.DataFrame(columns),
        "choice": pl.DataFrame(choice).with_columns(chosen=pl.col("k") == 5),
        "pattern_types": pl.DataFrame(types, schema=TYPED.schema, orient="row"),
    }


def _lift(kind: Kind, name: str, place: int, dense: bool) -> pl.DataFrame:
    rows = []
    for layer in [None, *range(kind.layers)]:
        for axis, count in (("distance", 10), ("relative", 10)):
            for position in range(count):
                x = position / (count - 1)
                value = 2.0 ** (2.2 * (1 - 2 * x) * (1 + 0.1 * place)) if axis == "distance" else 0.6 + x**3 * 2
                value *= 1 + 0.1 * np.sin((layer or 0) + position)
                label = (
                    ("0" if not position else f"{2 ** (position - 1)}–{2**position - 1}")
                    if axis == "distance"
                    else f"{x:.1f}"
                )
                sparse = (None, None, None) if dense else (value, value * 0.93, value * 1.08)
                counted = (None, None) if dense else (value * 900, 900.0)
                attended = (value * 1.1, value * 1.02, value * 1.2)
                rows.append((layer, axis, position, label, *sparse, *attended, *counted, kind.samples))
    schema = {
        "layer": pl.Int16,
        "axis": pl.String,
        "bin": pl.Int32,
        "label": pl.String,
        "lift": pl.Float64,
        "ci_low": pl.Float64,
        "ci_high": pl.Float64,
        "attention_lift": pl.Float64,
        "attention_ci_low": pl.Float64,
        "attention_ci_high": pl.Float64,
        "selections": pl.Float64,
        "expected": pl.Float64,
        "n": pl.Int32,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def _projection(place: int, dense: bool) -> pl.DataFrame:
    rows = []
    for length in (4096, 16384, 65536, 262144, 1048576):
        if not dense:
            rows += [(length, "indexer", 520.0 * length**2 / 2**place), (length, "attention", 4e4 * length)]
        rows.append((length, "dense attention", 2_560.0 * length**2))
    schema = {"length": pl.Int64, "component": pl.String, "flops": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        dimensions=pl.lit(THIS), convention=pl.lit(SERVED.name)
    )


def _latency(place: int, dense: bool) -> pl.DataFrame:
    rows = []
    for length in (128, 256, 512):
        if not dense:
            ms = (0.004 * length + 1e-5 * length**2) / 1.6**place
            rows.append(("indexer", length, ms, ms * 0.95, ms * 1.2))
        rows.append(("attention", length, 0.01 * length, 0.0095 * length, 0.013 * length))
        rows.append(("model", length, 0.05 * length, 0.048 * length, 0.06 * length))
    schema = {"component": pl.String, "length": pl.Int64, "ms": pl.Float64, "low": pl.Float64, "high": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _provenance(kind: Kind, names: Sequence[str]) -> Mapping[str, Any]:
    return {
        "versions": {"indexscope": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "python": "3.11.7"},
        "fingerprints": {
            "dataset": "d3c0ffee" * 8,
            "models": {name: f"{place:064x}" for place, name in enumerate(names)},
        },
        "settings": {
            "comparison": {"resamples": 2000, "confidence": 0.95, "seed": 0},
            "extract": {"chunk": 256, "profile_lengths": (128, 256, 512)},
        },
        "timings": {"extract": {"seconds": 61.25, "cached": False}},
    }


@cache
def rendered(kind: Kind) -> Mapping[str, str]:
    """The files of a made-up report; drawn once for all tests of a process, since drawing takes seconds."""
    return render(with_panels(report(kind), kind.indexer_heads) if kind.panels else report(kind))
