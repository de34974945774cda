"""Frames of the panels of a model of any size: a report with everything that a page can hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from indexscope.analysis.layer_sharing import LayerSharingSettings
from indexscope.analysis.layer_sharing import run as layer_sharing
from indexscope.analysis.prototypes.tables import EXAMPLES
from indexscope.analysis.report import ReportInput
from tests.analysis.layer_sharing.test_sharing import table

KINDS = ("word start", "continuation", "digit", "punctuation", "whitespace", "induction", "repeated")
TEXT = ("def", " area", "(", "r", "):", "\n", "    return", " 3.14", " *", " r", "<script>alert(1)</script>", "🚀", "ع")
VARIANTS = ("ties", "bfloat16", "float16", "fp8", "int8", "chunk_half", "chunk_odd")


def with_panels(given: ReportInput, indexer_heads: int = 4, resamples: int = 10) -> ReportInput:
    """The report with frames for the panels of every model that has an indexer."""
    pages = []
    for place, page in enumerate(given.models):
        layers, heads = int(page.facts["layers"]), int(page.facts["attention_heads"])
        random = np.random.default_rng(place)
        added = panel_frames(layers, heads, indexer_heads, random, resamples) if page.has_indexer else {}
        pages.append(replace(page, analyses={**page.analyses, **added}))
    return replace(given, models=pages)


def panel_frames(
    layers: int, heads: int, indexer_heads: int, random: np.random.Generator, resamples: int
) -> dict[str, dict[str, pl.DataFrame]]:
    """Result frames by analysis."""
    losses = 0.02 * np.abs(random.normal(size=(6, layers, layers)))
    shared = layer_sharing.run(
        {"layer_sharing": table(losses, [1.0] * len(losses))}, LayerSharingSettings(resamples=resamples)
    )
    return {
        "indexer_heads": _heads(layers, indexer_heads, random),
        "layer_sharing": {name: frame for name, frame in shared.items() if not frame.is_empty()},
        "stability": _stability(layers, random),
        "key_budget": _budget(layers, random),
        "token_content": _content(layers, random),
        "prototypes": _prototypes(layers, heads, random),
        "transitions": _transitions(layers, random),
    }


def _heads(layers: int, heads: int, random: np.random.Generator) -> dict[str, pl.DataFrame]:
    a, b = np.triu_indices(heads, 1)
    pairs = pl.DataFrame(
        {
            "layer": np.repeat(np.arange(layers), len(a)),
            "head_a": np.tile(a, layers),
            "head_b": np.tile(b, layers),
            "correlation": np.tanh(random.normal(size=layers * len(a))),
        }
    )
    layer, head = np.repeat(np.arange(layers), heads), np.tile(np.arange(heads), layers)
    loss = np.abs(random.normal(0, 0.003, layers * heads))
    focus = pl.DataFrame(
        {
            "layer": layer,
            "indexer_head": head,
            "words": [("recent keys", "first keys", "induction keys", "votes against old keys")[h % 4] for h in head],
            "contribution": random.dirichlet(np.ones(heads), layers).ravel(),
            "active_share": random.uniform(0.2, 0.9, layers * heads),
            "own_overlap": random.uniform(0.2, 0.9, layers * heads),
            "random_overlap": 0.13,
            "against_share": 0.1,
            "adds_share": 0.9,
            "recall_loss": loss,
            "recall_loss_ci_low": loss * 0.8,
            "recall_loss_ci_high": loss * 1.3,
            "n": 48,
        }
    )
    removed = np.arange(heads)
    every = [None, *range(layers)]
    pruning = pl.concat(
        pl.DataFrame(
            {
                "layer": pl.Series([layer] * heads, dtype=pl.Int16),
                "removed": removed,
                "recall_loss": 0.3 * (removed / heads) ** 2 * (1 + (layer or 0) / layers),
                "flops_share": 1 - removed / heads,
                "n": 36,
            }
        ).with_columns(ci_low=pl.col("recall_loss") * 0.9, ci_high=pl.col("recall_loss") * 1.2)
        for layer in every
    )
    return {"pairs": pairs, "focus": focus, "pruning": pruning}


def _stability(layers: int, random: np.random.Generator) -> dict[str, pl.DataFrame]:
    rows = []
    for place, variant in enumerate(VARIANTS):
        for layer in [None, *range(layers)]:
            value = float(0.01 * (place + 1) * random.uniform(0.5, 1.5))
            rows.append((variant, layer, value, value * 0.8, value * 1.2, 48, 0.12))
    schema = {
        "variant": pl.String, "layer": pl.Int16, "changed": pl.Float64, "ci_low": pl.Float64, "ci_high": pl.Float64,
        "n": pl.Int32, "near_tie": pl.Float64,
    }  # fmt: skip
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return {"variants": frame.filter(~pl.col("variant").str.starts_with("chunk")), "rerun": frame}


def _budget(layers: int, random: np.random.Generator) -> dict[str, pl.DataFrame]:
    k = 2 ** np.arange(3, 12)
    curves, drift = [], []
    for layer in [None, *range(layers)]:
        recall = 1 - 0.8 * np.exp(-k / (80 + 3 * (layer or 0)))
        oracle = np.minimum(recall + 0.08, 1)
        curves.append(
            pl.DataFrame(
                {
                    "layer": pl.Series([layer] * len(k), dtype=pl.Int16),
                    "k": k,
                    "indexer_recall": recall,
                    "ci_low": recall - 0.01,
                    "ci_high": np.minimum(recall + 0.01, 1),
                    "oracle_recall": oracle,
                    "oracle_ci_low": oracle - 0.005,
                    "oracle_ci_high": np.minimum(oracle + 0.005, 1),
                    "n": 48,
                }
            )
        )
    for layer in range(layers):
        for place, quantity in enumerate(("selected_mean", "threshold", "unselected_mean")):
            for bucket in range(6, 11):
                value = 3.0 - place + 0.1 * bucket + 0.1 * float(random.normal())
                drift.append((layer, quantity, bucket, value, value - 0.1, value + 0.1))
    schema = {
        "layer": pl.Int16, "quantity": pl.String, "bucket": pl.Int8, "value": pl.Float64, "ci_low": pl.Float64,
        "ci_high": pl.Float64,
    }  # fmt: skip
    return {"curve": pl.concat(curves), "drift": pl.DataFrame(drift, schema=schema, orient="row")}


def _content(layers: int, random: np.random.Generator) -> dict[str, pl.DataFrame]:
    rows = []
    for layer in [None, *range(layers)]:
        for kind in KINDS:
            value = float(np.exp(random.normal(0, 0.5)))
            rows.append((layer, kind, value, value * 0.9, value * 1.1, value * 1.2, value, value * 1.4, 900, 48))
    schema = {
        "layer": pl.Int16, "token_class": pl.String, "lift": pl.Float64, "ci_low": pl.Float64, "ci_high": pl.Float64,
        "attention_lift": pl.Float64, "attention_ci_low": pl.Float64, "attention_ci_high": pl.Float64,
        "selections": pl.Int64, "n": pl.Int32,
    }  # fmt: skip
    shown = 160
    examples = pl.concat(
        pl.DataFrame(
            {
                "sample": np.full(shown, sample),
                "layer": np.full(shown, layer),
                "query": np.full(shown, 900),
                "position": np.r_[40 : 40 + 64, 901 - 96 : 901],
                "token": [TEXT[place % len(TEXT)] for place in range(shown)],
                "selected": random.random(shown) < 0.4,
                "attention": random.random(shown),
                "score": random.random(shown),
                "recall": np.full(shown, 0.71),
                "outside": np.full(shown, 12),
            },
            schema_overrides={"layer": pl.Int16},
        )
        for layer in range(layers)
        for sample in (0, 24, 47)
    )
    return {"lift": pl.DataFrame(rows, schema=schema, orient="row"), "examples": examples}


def _prototypes(layers: int, heads: int, random: np.random.Generator) -> dict[str, pl.DataFrame]:
    chosen = [
        (cluster, rank, 24, int(random.integers(layers)), int(random.integers(heads)), "local", 1.5)
        for cluster in range(5)
        for rank in range(2)
    ]
    names = ("cluster", "rank", "sample", "layer", "head", "pattern_type", "distance")
    maps = [
        (cluster, rank, 1024, query, random.dirichlet(np.ones(48)).astype(np.float32))
        for cluster, rank, *_ in chosen
        for query in range(31, 1024, 62)
    ]
    schema = {"cluster": pl.Int32, "rank": pl.Int16, "length": pl.Int32, "query": pl.Int32}
    frame = pl.DataFrame([row[:4] for row in maps], schema=schema, orient="row").with_columns(
        pl.Series("attention", [row[4] for row in maps], dtype=pl.Array(pl.Float32, 48))
    )
    found = [
        (example, 24, int(random.integers(layers)), int(random.integers(heads)), lost, 1 - lost, 64)
        for example, lost in (("most", 0.41), ("middle", 0.06), ("least", 0.002))
    ]
    shown = [(example, 1024, query, query > 64) for example, *_ in found for query in range(31, 1024, 62)]
    dense = random.dirichlet(np.ones(48), len(shown)).astype(np.float32)
    example_maps = pl.DataFrame(shown, schema=["example", "length", "query", "in_effect"], orient="row").with_columns(
        pl.Series(name, values, dtype=pl.Array(pl.Float32, 48))
        for name, values in (("dense", dense), ("sparse", np.roll(dense, 1, axis=1)))
    )
    return {
        "prototypes": pl.DataFrame(chosen, schema=list(names), orient="row"),
        "maps": frame,
        "examples": pl.DataFrame(found, schema=list(EXAMPLES.schema), orient="row"),
        "example_maps": example_maps,
    }


def _transitions(layers: int, random: np.random.Generator) -> dict[str, pl.DataFrame]:
    rows = []
    for of, names in (("cluster", list("01234")), ("type", ["sink", "local", "previous-token", "induction", "mixed"])):
        for before in names:
            for after, share in zip(names, random.dirichlet(np.ones(len(names))), strict=True):
                low, high = max(0.0, share - 0.02), min(1.0, share + 0.02)
                rows.append((None, of, before, after, float(share), low, high, int(1000 * share), 36))
    schema = {
        "layer": pl.Int16, "of": pl.String, "before": pl.String, "after": pl.String, "share": pl.Float64,
        "ci_low": pl.Float64, "ci_high": pl.Float64, "count": pl.Int64, "n": pl.Int32,
    }  # fmt: skip
    return {"transitions": pl.DataFrame(rows, schema=schema, orient="row")}
