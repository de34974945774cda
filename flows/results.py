"""Tables for people at a terminal: the plan of a study, what a store holds, the differences of two reports."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from flows.load import load_study
from flows.plan import Plan
from flows.status import status
from flows.tables import new_table, show, size_text
from storage.reports import read_report
from storage.store import Store


def print_plan(plan: Plan) -> None:
    """Print what a study would do and why."""
    lines = status(plan)
    table = new_table("step", "units", "cached", "rows", "why it would run")
    for line in lines:
        rows = "" if line.rows is None else f"{line.rows:,}"
        table.add_row(line.step, str(line.units), str(line.cached), rows, line.why or "it would not: cached")
    show(table)
    samples = plan.samples
    missing = sum(line.units - line.cached for line in lines)
    tokens = sum(len(sample.input_ids) for sample in samples)
    shape = f"{len(samples)} samples, {tokens:,} tokens in {len(plan.shards)} shards"
    print(f"{shape}; {len(plan.models)} models on {plan.device}")
    print("rows: per sample, layer, head and position bucket, in the attention table")
    print("nothing to do: the store has everything" if not missing else f"{missing} units to compute")


def print_store(url: str, as_json: bool) -> None:
    """Print the steps of a store."""
    steps = Store(url).list_steps()
    if as_json:
        print(steps.write_json())
        return
    if steps.is_empty():
        print(f"{url} holds nothing")
        return
    table = new_table("kind", "digest", "label", "units", "rows", "size", "created", "state")
    for row in steps.sort("kind", "created").iter_rows(named=True):
        units = str(row["units"]) if row["expected"] is None else f"{row['units']}/{row['expected']}"
        created = "" if row["created"] is None else f"{row['created'].astimezone():%Y-%m-%d %H:%M}"
        size, rows = _size(row["bytes"]), "" if row["rows"] is None else f"{row['rows']:,}"
        table.add_row(row["kind"], row["digest"], row["label"] or "", units, rows, size, created, row["state"])
    show(table)
    print(f"{steps.height} steps, {_size(int(steps['bytes'].sum()))}")


def print_diff(a: str, b: str, as_json: bool, rules: Sequence[str], layers: bool) -> int:
    """Print the differences of two reports.

    Returns:
        1 if a rule of ``--fail-on`` holds, else 0.
    """
    from analysis.diff import diff, fail_on

    frame = diff(_report(a), _report(b))
    broken = [rule for rule in rules if not fail_on(rule, frame).is_empty()]
    if as_json:
        rows = [{key: _finite(value) for key, value in row.items()} for row in frame.iter_rows(named=True)]
        print(json.dumps({"differences": rows, "failed": broken}, ensure_ascii=False))
    else:
        _print_differences(frame if layers else frame.filter(pl.col("layer").is_null()))
        for rule in broken:
            print(f"failed: {rule}")
    return int(bool(broken))


def _report(text: str) -> dict[str, Any]:
    if Path(text).suffix in (".yaml", ".yml"):
        study = load_study(text)
        text = f"{study.report.rstrip('/')}/{study.slug}"
    return read_report(text)


def _print_differences(frame: pl.DataFrame) -> None:
    both = frame.filter(pl.col("status") == "both")
    for (first, second), rows in both.group_by("model_a", "model_b", maintain_order=True):
        print(f"{first}" if first == second else f"{first} → {second}")
        table = new_table("metric", "layer", "unit", "a", "b", "difference", "interval", "n", "verdict")
        for row in rows.iter_rows(named=True):
            low, high = row["ci_low"], row["ci_high"]
            interval = "" if low is None or high is None else f"{_cell(low)} to {_cell(high)} ({row['interval']})"
            numbers = [_cell(row[name]) for name in ("a", "b", "difference")]
            layer = "all" if row["layer"] is None else str(row["layer"])
            table.add_row(row["metric"], layer, row["unit"], *numbers, interval, _cell(row["n"]), _verdict(row))
        show(table)
    for row in frame.filter(pl.col("status") != "both").unique("metric", maintain_order=True).iter_rows(named=True):
        print(f"{row['status']}: {row['metric']} of {row['model_a'] or row['model_b']}")
    if frame.is_empty():
        print("neither report has a metric")


def _verdict(row: Mapping[str, Any]) -> str:
    if row["better"] is not None:
        return "better" if row["better"] else "worse"
    if row["difference"] is None:
        return ""
    if row["difference"] == 0:
        return "unchanged"
    low, high = row["ci_low"], row["ci_high"]
    return "not significant" if low is not None and high is not None and low <= 0 <= high else ""


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _size(count: int | None) -> str:
    return "" if count is None else size_text(count)
