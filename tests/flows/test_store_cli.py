"""The commands that keep a store in order, on a study that has run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from indexscope.flows.finished.exporting import measures
from indexscope.flows.study.load import load_study
from indexscope.flows.study.plan import make_plan
from indexscope.flows.study.references import record_of
from indexscope.storage.store.store import Store
from indexscope.storage.studies.records import read_records
from tests.flows.conftest import ANALYSES, run_command

#: Of two models: three shards, audit, profile, close-up and every analysis; four comparisons and the report.
UNITS = 2 * (3 + 3 + 3 + len(ANALYSES)) + 5


def files_of(store: Path) -> set[str]:
    return {str(path.relative_to(store)) for path in store.rglob("*.parquet")}


def rerun(done: Path, *more: str) -> None:
    """Run the study in its copied place, which is another study to the store, and forget the original."""
    assert run_command("study", done / "study.yaml", *more).code == 0
    store = Store(done / ".indexscope")
    for record in read_records(store):
        if record.identity != record_of(make_plan(load_study(done / "study.yaml"))).identity:
            store.folder.remove(record.file)


def test_gc_shows_then_deletes_what_a_change_left_and_nothing_that_a_rerun_needs(done: Path) -> None:
    store = done / ".indexscope"
    rerun(done)
    original = files_of(store)
    assert run_command("study", done / "study.yaml", "--set", "analyses.clustering.clusters=3").code == 0
    both = files_of(store)

    shown = run_command("gc", store)  # a run of the last week still counts
    assert (shown.code, shown.err) == (0, [])
    assert shown.out[-1].startswith("0 steps, ")
    shown = run_command("gc", store, "--keep-days", "0")
    assert "give --delete" in shown.out[-1] and "would go" in shown.out[-1]
    assert files_of(store) == both

    as_json = json.loads(run_command("gc", store, "--keep-days", "0", "--delete", "--json").out[0])
    kinds = sorted(part["step"].rpartition("/")[0] for part in as_json["steps"])
    assert as_json["deleted"] is True
    assert kinds == ["analyses/clustering"] * 2 + ["analyses/prototypes"] * 2 + [
        "comparisons",
        "reports",
        "transitions",
    ]
    left = files_of(store)
    assert left < both and original - left and any("features" in name for name in left)
    again = run_command("study", done / "study.yaml", "--set", "analyses.clustering.clusters=3")
    assert all("computed" not in line for line in again.out), again.out
    assert run_command("gc", store, "--keep-days", "0").out[-1].startswith("0 steps, 0 B would go")


def test_a_run_is_on_record_with_all_that_it_made(done: Path) -> None:
    rerun(done)
    (record,) = read_records(Store(done / ".indexscope"))
    assert record.complete and record.ended is not None
    assert record.study == "tiny" and list(record.models) == ["base", "light"]
    listed = {str(path.parent.relative_to(done / ".indexscope")) for path in done.rglob("manifest.json")}
    assert len(record.steps) == 2 * (5 + len(ANALYSES)) + 5 and set(record.steps) == listed
    # The same run again keeps to its record.
    rerun(done)
    assert [again.run for again in read_records(Store(done / ".indexscope"))] == [record.run]


def test_a_running_study_is_neither_collected_nor_forgotten(done: Path) -> None:
    rerun(done)
    store = Store(done / ".indexscope")
    (record,) = read_records(store)
    running = replace(record_of(make_plan(load_study(done / "study.yaml"))), study="busy", identity="busy-1")
    store.folder.write(running.file, running.encode())
    store.folder.remove(record.file)
    before = set(record.steps)
    shown = run_command("gc", done / ".indexscope", "--keep-days", "0", "--delete")
    assert "running: busy; what it uses stays" in shown.out
    assert all((done / ".indexscope" / step / "manifest.json").exists() for step in before)
    refused = run_command("gc", done / ".indexscope", "--forget", "busy")
    assert (refused.code, len(refused.err)) == (2, 1) and "is running" in refused.err[0]


def test_export_holds_every_value_of_the_store(done: Path, tmp_path: Path) -> None:
    rerun(done)
    file = tmp_path / "features.parquet"
    run = run_command("export", done / "study.yaml", file)
    assert run.code == 0, run.err
    assert run.out[-1].startswith(f"wrote {file}: tiny, ")
    frame = pl.read_parquet(file)
    plan = make_plan(load_study(done / "study.yaml"))
    compared = 0
    for model in plan.models:
        features = plan.graph.of("extract", model.name)
        assert features is not None
        tables = plan.store.read_all(features.key)
        # A new column of the features must be exported, or be named here.
        numbers = {
            (table, column)
            for table, content in tables.items()
            if table not in ("samples", "selections")
            for column, kind in content.schema.items()
            if kind.is_numeric()
        }
        places = {"sample", "layer", "head", "bucket", "distance", "relative"}
        weights = {(measure.table, measure.weight) for measure in measures()} | {
            ("indexer", "queries"),
            ("scores", "m2"),
        }
        exported = {(measure.table, measure.column) for measure in measures()}
        assert {entry for entry in numbers if entry[1] not in places} - weights == exported - weights
        for measure in measures():
            values = tables[measure.table][measure.column].drop_nulls()
            key = {"model": model.name, "table": measure.table, "metric": measure.column}
            got = frame.filter(*(pl.col(name) == text for name, text in key.items()))
            assert got["value"].sum() == pytest.approx(values.cast(pl.Float64).sum())
            assert values.len() == got.height
            compared += got.height
    assert compared == frame.height > 1000
    assert frame["unit"].null_count() == 0 and frame["document"].null_count() == 0

    nll = tmp_path / "nll.csv"
    assert run_command("export", done / ".indexscope", nll, "--metric", "nll").code == 0
    assert pl.read_csv(nll)["value"].to_list() == frame.filter(pl.col("metric") == "nll")["value"].to_list()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--metric", "nl"], "--metric nl: is not exported; did you mean 'nll'?"),
        (["--table", "words"], "--table words: is not exported; choose among attention, heads"),
        (["--study", "none"], "knows no study 'none'; choose one of its studies: tiny"),
    ],
)
def test_wrong_choices_are_one_line(done: Path, tmp_path: Path, arguments: list[str], reason: str) -> None:
    run = run_command("export", done / ".indexscope", tmp_path / "out.csv", *arguments)
    assert (run.code, len(run.err), run.out) == (2, 1, [])
    assert reason in run.err[0]
    assert not (tmp_path / "out.csv").exists()


def test_a_study_file_means_its_own_runs_and_when_its_folder_was_copied_those_of_its_name(
    done: Path, tmp_path: Path
) -> None:
    asked = (
        ["export", "{study}", tmp_path / "nll.csv", "--metric", "nll", "--force"],
        ["history", "{study}", "--json"],
    )
    for question in asked:
        own = [str(word).format(study=done / "study.yaml") for word in question]
        named = [str(word).format(study=done / ".indexscope") for word in question] + ["--study", "tiny"]
        answer = run_command(*own)
        assert (answer.code, answer.err) == (0, [])
        assert answer.out == run_command(*named).out
        wrong = run_command(*own, "--study", "other")
        assert (wrong.code, len(wrong.err)) == (2, 1)
        assert f"--study other: {done / 'study.yaml'} is the study tiny; leave --study out" in wrong.err[0]


@pytest.mark.usefixtures("no_model")
def test_an_import_is_used_by_the_next_run(folder: Path, done: Path) -> None:
    store = folder / ".indexscope"
    run = run_command("import", done / ".indexscope", store)
    assert (run.code, run.err) == (0, [])
    assert run.out[-1].startswith(f"imported {UNITS} units, ")
    assert files_of(store) == files_of(done / ".indexscope")
    again = run_command("import", done / ".indexscope", store)
    assert again.out[-1] == f"imported 0 units, 0 B; {UNITS} were here already"
    study = run_command("study", folder / "study.yaml")
    assert study.code == 0, study.err
    assert [line for line in study.out if "computed" in line and not line.startswith("report")] == []


def test_damage_is_told_by_verify_and_left_out_by_import(done: Path) -> None:
    store = done / ".indexscope"
    whole = run_command("verify", store)
    assert (whole.code, whole.err) == (0, [])
    assert whole.out[-1].startswith(f"{UNITS} units, ") and whole.out[-1].endswith("read: all as committed")
    victim = next(store.glob("features/*/attention/shard-00001.parquet"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 4
    victim.write_bytes(data)
    step = str(victim.parent.parent.relative_to(store))
    run = run_command("verify", store)
    assert run.code == 1
    assert run.out[0].startswith(f"{step}/attention/shard-00001.parquet: ")
    assert run.out[1].endswith("read: 1 problem")
    assert run.out[2].startswith("1 unit damaged; give --discard")
    content = json.loads(run_command("verify", store, "--json").out[0])
    assert [(found["digest"], found["unit"]) for found in content["findings"]] == [(step[9:], "shard-00001")]
    merged = run_command("import", store, done / "new")
    assert merged.code == 1
    assert merged.out[0].startswith(f"{step}/shard-00001: not as committed in {store}")
    assert run_command("verify", done / "new").code == 0
    discarded = run_command("verify", store, "--discard")
    assert discarded.code == 1
    assert discarded.out[2].startswith("1 unit discarded")
    again = run_command("verify", store)
    assert again.code == 0
    assert again.out[0].startswith(f"{UNITS - 1} units, ")


@pytest.mark.parametrize("command", ["gc", "verify", "import", "export"])
def test_no_store_is_one_line(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("no store")
    more = [tmp_path / "out.csv"] if command == "export" else []
    for place in (tmp_path / "nothing", tmp_path / "file"):
        run = run_command(command, place, *more)
        assert (run.code, len(run.err), run.out) == (2, 1, []), run
        assert not (tmp_path / "nothing").exists()
    shutil.rmtree(tmp_path)
