"""docs/report.schema.json: ``python -m indexscope.analysis.report.json_schema > docs/report.schema.json``.

What rows hold is declared once, as columns; this puts types, meanings and units of them into JSON Schema (2020-12).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, get_args

import polars as pl

from indexscope.analysis.metrics.metric import Kind as MetricKind
from indexscope.analysis.report.inputs import Level
from indexscope.analysis.report.json_rows import LEAKING, MODEL, ROWS, says_whose
from indexscope.analysis.report.judgement import Kind as Reading
from indexscope.analysis.report.panelled import panels
from indexscope.analysis.report.ranking import QUALITIES
from indexscope.analysis.report.warnings import Kind as WarningKind
from indexscope.columns import Column, Table, interval, names, of, places
from indexscope.layout import REPORT_SCHEMA

Schema = dict[str, Any]

#: What the values of a column are chosen from, where that is a closed list.
CHOICES: Mapping[str, Sequence[str]] = {
    "warnings.kind": get_args(WarningKind),
    "definitions.better": ("higher", "lower", "neither"),
    "definitions.kind": get_args(MetricKind),
    "ranking.quality": QUALITIES,
}
#: Columns that are never null: they say what a row is of.
_ALWAYS = {"model", "name", "metric", "leaks", "rank", "statistic", "axis", "kind", "length"}
_ABOUT = {
    "warnings": "What makes numbers worthless or weak.",
    "definitions": "The metrics that occur, whoever declared them.",
    "ranking": "The candidates, the best first.",
    "metrics": "Every metric of every model, over all layers and by layer.",
    "comparisons": "Every candidate beside the baseline, over all layers and by layer.",
    "by_length": "The headline metrics of the comparison by context length.",
    "gates": "Every gate for every candidate that it is about.",
    "causality": "The causality audits.",
}
_HISTORY_MODEL = (*MODEL, *places("metric"), *of(pl.String, unit="Unit of the value."))
_POINT = (
    *_HISTORY_MODEL,
    *of(pl.Float64, "in the column unit", value="The metric's value."),
    *interval(),
    *of(pl.Int32, "samples", n="Samples that the value is of."),
    *LEAKING,
)
_STEP = (
    *of(pl.Float64, "in the column unit", difference="From the row before."),
    *interval(whose="the difference's"),
    *of(pl.String, interval="How the interval came about."),
    *of(pl.Boolean, better="Whether the value got better; null where that is open."),
)
_BREAK = (
    *of(pl.String, gate="Name of the gate.", rule="Its rule."),
    *of(pl.Float64, "as the metric", value="The value with which it broke."),
    *of(pl.Int64, broke="Number of the run that broke it."),
    *of(pl.String, broke_at="When, in ISO 8601."),
    *of(pl.Boolean, since_first="Whether no run on record passed it."),
    *of(pl.Int64, lost_before="Results before it that are lost."),
    *of(pl.Int64, mended="Number of the run that mended it."),
    *of(pl.String, mended_at="When, in ISO 8601."),
    *of(pl.Int64, dropped="Number of the run from which on the study has it no longer."),
)


def schema() -> Schema:
    """The JSON Schema of report.json as this version writes it."""
    parts = {name: _rows(name, columns, _ABOUT[name]) for name, columns in ROWS.items()}
    properties = {
        "schema_version": {"const": REPORT_SCHEMA, "description": "Raised when a key changes its meaning or goes."},
        "study": _text("Name of the study."),
        "verdict": _verdict(),
        "models": {"type": "array", "items": _model(), "description": "Baseline first, then candidates, dumps too."},
        **parts,
        **_of_panels(),
        "provenance": {
            "type": "object",
            "description": "Versions, models, data, seeds, settings, machine and seconds; its keys follow the study.",
        },
    }
    whole = _object("A report of Indexscope, as this version writes it.", properties)
    whole["properties"]["history"] = _history()  # from the second result on
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": identifier(),
        "title": "report.json",
    } | whole


def identifier() -> str:
    """What the schema is called: it has no address, since it comes with the package."""
    return f"urn:indexscope:report:{REPORT_SCHEMA}"


def document() -> str:
    """The whole of docs/report.schema.json."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def _object(about: str, properties: Mapping[str, Schema], optional: Sequence[str] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {
        "description": about,
        "type": "object",
        "properties": dict(properties),
        "required": required,
        "additionalProperties": False,
    }


def _text(about: str, choices: Sequence[str] = ()) -> Schema:
    return {"type": "string", "description": about} | ({"enum": list(choices)} if choices else {})


def _list(about: str, items: Schema) -> Schema:
    return {"description": about, "type": "array", "items": items}


def _rows(part: str, columns: Iterable[Column], about: str) -> Schema:
    return _list(about, _row(part, columns))


def _row(part: str, columns: Iterable[Column], **more: Schema) -> Schema:
    found = {column.name: _cell(part, column) for column in columns}
    return _object("", {**found, **more}) | {"description": f"A row of {part}."}


def _cell(part: str, column: Column) -> Schema:
    kind = "string"
    if column.dtype == pl.Boolean:
        kind = "boolean"
    elif column.dtype.is_integer():
        kind = "integer"
    elif column.dtype.is_numeric():
        kind = "number"
    cell: Schema = {"description": column.meaning, "type": kind if column.name in _ALWAYS else [kind, "null"]}
    if (choices := CHOICES.get(f"{part}.{column.name}")) is not None:
        cell["enum"] = list(choices)
    if column.unit:
        cell["x-unit"] = column.unit
    return cell


def _verdict() -> Schema:
    return _object(
        "The report in words.",
        {
            "level": _text("What it comes to.", get_args(Level)),
            "headline": _text("One sentence."),
            "sentences": _list("What the headline rests on, and what limits it.", {"type": "string"}),
        },
    )


def _model() -> Schema:
    count = of(
        pl.Int64, heads="Indexer heads.", dim="Width of an indexer head.", topk="Entries that a query may select."
    )
    indexer = _row("models.indexer", count)
    properties = {
        "name": _text("Name of the model in the study."),
        "role": _text("What it is in the comparison.", ("baseline", "candidate")),
        "fingerprint": _text("Fingerprint of the checkpoint or of the dump."),
        "family": {"type": ["string", "null"], "description": "Family of the architecture."},
        "parameters": {"type": ["integer", "null"], "description": "Parameters of the model.", "x-unit": "parameters"},
        "indexer": indexer | {"type": ["object", "null"], "description": "Its indexer; null where it has none."},
        "selections": _text("What dumped it, where it is selections from elsewhere and no model."),
        "leaks": {"type": "boolean", "description": LEAKING[0].meaning},
    }
    return _object("A model of the study.", properties, optional=("selections",))


def _of_panels() -> dict[str, Schema]:
    found: dict[str, Schema] = {}
    for panel in panels():
        for name, keys in panel.json.items():
            table = _tables(import_module(f"indexscope.analysis.{panel.analysis}.tables"))[name]
            columns = [column for key in keys if (column := table.column(key)) is not None]
            if names(columns) != tuple(keys):
                raise ValueError(f"{panel.analysis}.{name} has keys that are no columns of its table")
            whose = () if says_whose(keys) else MODEL
            about = f"The {table.row} rows of {panel.analysis}, for all models."
            found[name] = _rows(name, (*whose, *columns, *LEAKING), about)
    return found


def _tables(module: ModuleType) -> dict[str, Table]:
    return {**getattr(module, "RESULTS", {}), **getattr(module, "COMPARED", {})}


def _history() -> Schema:
    step = _row("history.step", _STEP, reading=_text("How it is read.", get_args(Reading)))
    point = _row("history.metrics", _POINT, step=step | {"type": ["object", "null"]})
    texts: Schema = {"type": "string"}
    run = _object(
        "A result, whichever runs had it.",
        {
            "number": {"type": "integer", "description": "Its number, from 1."},
            "first": _text("When its first run ended, in ISO 8601."),
            "changed": _text("What sets it apart from the result before."),
            "problem": _text("Why there are no numbers; else empty."),
            "missing": _list("Candidates without a result.", texts),
            "leaks": _list("Models that failed the causality audit.", texts),
            "returned": {"type": ["integer", "null"], "description": "Number of an earlier run with the same result."},
            "gates": _list("Its gates.", {"type": "object"}),
            "metrics": _list("Headline metrics and those of gates.", point),
        },
    )
    parts = {
        "runs": _list("The results of the study in order.", run),
        "breaks": _list("Gates that broke.", _row("history.breaks", _BREAK)),
    }
    return _object("The study's earlier results beside this one; from the second result on.", parts)


if __name__ == "__main__":
    print(document(), end="")
