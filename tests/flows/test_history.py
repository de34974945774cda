"""A study over time: every finished run is on record, and a gate's break is told from there whatever is collected."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from indexscope.flows.study.changes import AGAIN, told_changes
from indexscope.flows.study.config import identity_of
from indexscope.flows.study.history import history_of, past
from indexscope.flows.study.load import load_study
from indexscope.flows.study.publish import publish
from indexscope.storage.store.store import StepKey, Store, step_key
from indexscope.storage.studies.history import HISTORY, history_files, read_runs
from indexscope.storage.studies.records import read_records
from tests.flows.conftest import Run, run_command

GATE = "<b>loss</b>"


def published(done: Path, passed: bool) -> None:
    """Publish the finished report as one of the copied study, with a gate that passed or did not."""
    store = Store(done / ".indexscope")
    own = identity_of(load_study(str(done / "study.yaml")))
    first = next(record for record in read_records(store) if record.identity != own)
    old = next(step for step in first.steps if step.startswith("reports/")).partition("/")[2]
    manifest = store.manifest(key_of(old))
    assert manifest is not None
    tables = {name: store.read(key_of(old), name) for name in store.tables(key_of(old))}
    files = {row["name"]: row["content"] for row in tables["files"].iter_rows(named=True)}
    rule = f"nll.value <= {100 if passed else 0}"
    gates = [{"name": GATE, "rule": rule, "value": 5.7, "passed": passed}]
    files["report.json"] = json.dumps({**json.loads(files["report.json"]), "gates": gates})
    inputs: dict[str, Any] = json.loads(json.dumps(manifest.inputs))
    inputs["provenance"]["settings"]["gates"] = [{"name": GATE, "rule": rule}]
    key = step_key("reports", inputs)
    if not store.units(key):
        tables["files"] = pl.DataFrame({"name": list(files), "content": list(files.values())})
        tables["gates"] = tables["gates"].clear()
        store.commit(key, "result", tables, "planted")
    record(done, steps=(key.path,))
    publish(store, key, str(done / "reports" / "tiny"), load_study(str(done / "study.yaml")))


def key_of(digest: str) -> StepKey:
    return StepKey("reports", digest, {})


def history(done: Path, *more: str) -> dict[str, Any]:
    run = run_command("history", done / "study.yaml", "--json", *more)
    assert run.code == 0, run.err
    found: dict[str, Any] = json.loads(run.out[0])
    return found


def pages(done: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (done / "reports" / "tiny").iterdir()}


@pytest.mark.filterwarnings("ignore:Artifact creation outside of a flow")
def test_the_first_run_at_which_a_gate_broke_is_told_everywhere_and_outlives_gc(done: Path) -> None:
    published(done, passed=True)
    first = pages(done)
    assert b"over-time" not in first["report.html"]
    published(done, passed=True)
    assert pages(done) == first, "an unchanged study that is published again has the same bytes"
    published(done, passed=False)
    told = history(done)
    assert [(len(row["dates"]), row["gates"][0]["passed"]) for row in told["runs"]] == [(2, True), (1, False)]
    assert told["runs"][1]["changed"] == f"gate {GATE} changed nll.value <= 100 → nll.value <= 0"
    (one,) = told["breaks"]
    assert (one["broke"], one["mended"], one["since_first"]) == (2, None, False)
    second = pages(done)
    assert b"broke at run 2" in second["report.html"] and b"<b>loss" not in second["report.html"]
    assert json.loads(second["report.json"])["history"]["breaks"] == [one]
    published(done, passed=False)
    assert pages(done) == second

    assert run_command("gc", done / ".indexscope", "--keep-days", "0", "--delete").code == 0
    after = history(done)
    assert len(after["runs"][1]["dates"]) == 2
    assert [row["report"] == "collected" for row in after["runs"]] == [True, False]
    assert [row["metrics"] for row in after["runs"]] == [row["metrics"] for row in told["runs"]]
    lines = run_command("history", done / "study.yaml", "--metric", "nll", "--limit", "1").out
    assert lines[0] == "tiny: light" and lines[2].startswith("2  ")
    assert "1 of 1" not in lines[2] and "0 of 1 passed" in lines[2]
    assert lines[-1].startswith("gate <b>loss</b> (nll.value <= 0) broke at run 2, ")
    text = "\n".join(run_command("history", done / "study.yaml", "--markdown").out)
    assert "&lt;b&gt;loss&lt;/b&gt;" in text and "<b>" not in text


def test_bad_questions_are_one_line(done: Path) -> None:
    record(done)
    for options, told in (
        (("--metric", "nlll"), "did you mean 'nll'?"),
        (("--model", "dark"), "choose one of: base, light"),
        (("--since", "yesterday"), "is no date"),
    ):
        run = run_command("history", done / "study.yaml", *options)
        assert (run.code, len(run.err)) == (2, 1) and told in run.err[0]
    assert run_command("history", done / "study.yaml", "--since", "2999-01-01").out[0].startswith("no such run")
    unknown = run_command("history", done / ".indexscope", "--study", "other")
    assert (unknown.code, len(unknown.err)) == (2, 1) and "knows no study 'other'" in unknown.err[0]


def record(done: Path, **changes: Any) -> None:
    """Have the store believe that the finished run was one of the copied study, which it is but for its place."""
    store = Store(done / ".indexscope")
    identity = identity_of(load_study(done / "study.yaml"))
    old = next(record for record in read_records(store) if record.identity != identity)
    now = datetime.now(UTC)
    own = replace(old, **{"identity": identity, "started": now, "seen": now, "ended": now, **changes})
    store.folder.write(own.file, own.encode())


def test_runs_from_before_the_history_are_told_by_their_reports_or_as_lost(done: Path) -> None:
    store = Store(done / ".indexscope")
    for name in history_files(store):
        store.folder.remove(name)
    (old,) = read_records(store)
    past_day = datetime.now(UTC) - timedelta(days=3)
    gone = tuple("reports/" + "0" * 20 if step.startswith("reports/") else step for step in old.steps)
    record(done, steps=gone, started=past_day, seen=past_day, ended=past_day)
    record(done)
    lost, kept = history(done)["runs"]
    assert (lost["problem"], lost["metrics"], kept["problem"]) == ("its report was collected", [], "")
    assert {row["model"] for row in kept["metrics"]} == {"base", "light"}
    assert kept["report"] == next(step for step in old.steps if step.startswith("reports/")).split("/")[1][:8]
    run = run_command("history", done / "study.yaml")
    assert run.code == 0 and "its report was collected" in run.out[2]
    assert history_files(store) == [], "looking writes nothing"


def test_the_finished_study_is_on_record_with_all_that_its_report_says(first_run: tuple[Path, Run]) -> None:
    folder = first_run[0]
    store = Store(folder / ".indexscope")
    (run,) = read_runs(store, identity_of(load_study(folder / "study.yaml")))
    assert all(name.startswith(f"{HISTORY}/tiny-") for name in history_files(store))
    told = json.loads((folder / "reports" / "tiny" / "report.json").read_text())
    assert run.numbers is not None
    assert len(run.numbers["metrics"]) == sum(row["layer"] is None for row in told["metrics"])  # type: ignore[arg-type]
    assert [row.run.numbers for row in history_of(past(store, identity_of(load_study(folder / "study.yaml"))))] == [
        run.numbers
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, AGAIN),
        ({"checkpoints": {"light": {"role": "candidate", "fingerprint": "f" * 20}}},
         "base left the study, checkpoint of light changed cccccccc → ffffffff"),
        ({"dataset": {"fingerprint": "x", "samples": 9}}, "dataset changed (8 → 9 samples)"),
        ({"settings": {"extract": {"chunk": 64}, "gates": []}}, "extract.chunk changed 16 → 64, gate g was dropped"),
        ({"versions": {"indexscope": "0.2.0"}}, "indexscope 0.1.0 → 0.2.0"),
        ({"machine": {"cores": 8}}, "the machine's cores 2 → 8"),
        ({"plugins": {"own.py": "2"}}, "plug-ins of own.py changed"),
        ({"results": {"version": 4, "models": [{"name": "base", "clustering": "e" * 20}]}},
         "another way of computing: report, clustering"),
    ],
)  # fmt: skip
def test_what_changed_is_told_by_its_cause(change: dict[str, Any], told: str) -> None:
    old: dict[str, Any] = {
        "checkpoints": {name: {"role": role, "fingerprint": "c" * 20} for name, role in
                        (("base", "baseline"), ("light", "candidate"))},
        "dataset": {"fingerprint": "d", "samples": 8},
        "settings": {"extract": {"chunk": 16}, "gates": [{"name": "g", "rule": "nll.value <= 3"}]},
        "versions": {"indexscope": "0.1.0"},
        "machine": {"cores": 2},
        "plugins": {"own.py": "1"},
        "results": {"version": 3, "models": [{"name": "base", "clustering": "a" * 20}]},
    }  # fmt: skip
    assert told_changes(old, {**old, **change}) == told
    assert told_changes(None, old) == ""
