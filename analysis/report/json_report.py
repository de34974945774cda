"""report.json: the whole report for machines, with the keys that other programs build on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from indexscope.analysis.leaks import LEAKS
from indexscope.analysis.metrics.registry import REGISTRY, all_families
from indexscope.analysis.report.inputs import ModelPage, ReportInput
from indexscope.analysis.report.json_rows import DEFINITIONS, WARNINGS, keys_of, says_whose
from indexscope.analysis.report.ranking import ranking
from indexscope.analysis.report.verdict import verdict
from indexscope.columns import names
from indexscope.layout import REPORT_SCHEMA


def build_json(report: ReportInput) -> dict[str, Any]:
    """The report as JSON values: NaN and infinity become null, rows keep the order of their frames.

    Returns:
        A dictionary with the keys schema_version, study, verdict, warnings, models, definitions, ranking, metrics,
        comparisons, by_length, those of the panels (parity_where, output_divergence, ...), gates, causality and
        provenance.
    """
    words = verdict(report)
    return {
        "schema_version": REPORT_SCHEMA,
        "study": report.study,
        "verdict": {"level": words.level, "headline": words.headline, "sentences": list(words.sentences)},
        "warnings": [{key: getattr(warning, key) for key in names(WARNINGS)} for warning in words.warnings],
        "models": [_model(page) | {LEAKS: page.name in report.leaking} for page in report.models],
        "definitions": _definitions(report),
        "ranking": _rows(ranking(report), keys_of("ranking")),
        "metrics": _metrics(report),
        "comparisons": _rows(report.comparisons, keys_of("comparisons")),
        "by_length": _rows(report.lengths, keys_of("by_length")),
        **_of_panels(report),
        "gates": _rows(report.gates, keys_of("gates")),
        "causality": _rows(report.causality, keys_of("causality")),
        "provenance": finite(report.provenance),
    }


def dump(value: Any) -> str:
    """JSON text: indented, UTF-8 kept readable, never NaN."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """The value as JSON: NaN and infinity as null, tuples as lists, keys as text, anything else as its text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        return [finite(item) for item in (sorted(value, key=str) if isinstance(value, set | frozenset) else value)]
    return str(value)


def _rows(frame: pl.DataFrame, keys: Sequence[str]) -> list[dict[str, Any]]:
    return [{key: finite(row[key]) for key in keys} for row in frame.iter_rows(named=True)]


def _metrics(report: ReportInput) -> list[dict[str, Any]]:
    rows = _rows(report.metrics.rename({"metric": "name"}), [key for key in keys_of("metrics") if key != LEAKS])
    return [row | {LEAKS: row["model"] in report.leaking} for row in rows]


def _definitions(report: ReportInput) -> list[dict[str, str]]:
    """What a reader must know of each metric to judge it, whoever declared it and whatever version reads it."""
    held = {*report.metrics["metric"], *report.comparisons["metric"]}
    titles = {metric.name: family.title for family in all_families() for metric in family.metrics}
    return [
        {key: titles[name] if key == "family" else getattr(metric, key) for key in names(DEFINITIONS)}
        for name, metric in REGISTRY.items()
        if name in held
    ]


def _of_panels(report: ReportInput) -> dict[str, list[dict[str, Any]]]:
    from indexscope.analysis.report.panelled import panels

    return {
        table: [
            ({} if says_whose(keys) else {"model": model}) | row | {LEAKS: model in report.leaking}
            for model, frame in report.frames(panel.analysis, table).items()
            for row in _rows(frame, keys)
        ]
        for panel in panels()
        for table, keys in panel.json.items()
    }


def _model(page: ModelPage) -> dict[str, Any]:
    facts = page.facts
    indexer = {
        "heads": finite(facts.get("indexer_heads")),
        "dim": finite(facts.get("indexer_dim")),
        "topk": finite(facts.get("index_topk")),
    }
    return {
        "name": page.name,
        "role": page.role,
        "fingerprint": page.fingerprint,
        "family": finite(facts.get("family")),
        "parameters": finite(facts.get("parameters")),
        "indexer": indexer if page.has_indexer else None,
        **({"selections": page.dump} if page.dump else {}),
    }
