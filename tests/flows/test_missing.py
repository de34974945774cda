"""A candidate that fails costs the others nothing: the report is made of what succeeded and says what is missing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from safetensors.torch import load_file, save_file

from indexscope.flows.engine.units import Failure, ModelsFailed, UnitsFailed, checked
from indexscope.flows.study.load import load_study
from indexscope.flows.study.outcome import TOLD, failure_lines
from indexscope.flows.study.plan import Plan, make_plan, without
from indexscope.flows.study.references import record_of
from indexscope.flows.study.remaining import remaining
from indexscope.storage.studies.records import read_records
from indexscope.tasks.common.declared import Job
from indexscope.tasks.common.unit import StepRecord
from tests.flows.conftest import address, run_command
from tests.flows.test_study import fresh, told

BOTH = "candidates=[./models/bad, ./models/light]"
GATE = "gates=[{name: loss, rule: nll.difference < 100}]"


def spoil(folder: Path) -> None:
    """A third model that has a NaN among its weights."""
    shutil.copytree(folder / "models" / "light", folder / "models" / "bad", dirs_exist_ok=True)
    file = folder / "models" / "bad" / "model.safetensors"
    tensors = load_file(file)
    next(tensor for name, tensor in tensors.items() if "o_proj" in name)[0, 0] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})


def mend(folder: Path) -> None:
    file = folder / "models" / "bad" / "model.safetensors"
    tensors = load_file(file)
    save_file({name: tensor.nan_to_num(0.5) for name, tensor in tensors.items()}, file, metadata={"format": "pt"})


def planned(folder: Path, *overrides: str) -> Plan:
    return make_plan(load_study(folder / "study.yaml", list(overrides)))


def test_a_broken_candidate_costs_the_others_nothing_and_is_missing_wherever_the_report_is_read(done: Path) -> None:
    assert run_command("study", done / "study.yaml").code == 0
    spoil(done)
    run = run_command("study", done / "study.yaml", "--set", BOTH, "--set", GATE)
    assert run.code == 3, run.err
    # The comparison is that of the study without the broken model, which had run: nothing is computed twice.
    assert fresh(run.out) == ["report"]
    assert {name.partition(" ")[2] for name in told(run.out)} == {"base", "light", ""}
    error, missing, small, gate, last = run.err
    assert error.startswith("error: audit bad: ") and "NaN" in error
    assert missing.startswith("warning: bad is missing, so this report is not complete: audit bad: ")
    assert small.startswith("warning: The study is too small to settle light")
    assert gate == "gate failed: loss (bad)"
    assert last.startswith(f"kept: 38 of 68 units in {done / '.indexscope'}; ")
    assert last.endswith("; the report is without bad; mend that and run the same command again")
    folder = Path(run.out[-1])
    report = json.loads((folder / "report.json").read_text())
    assert [model["name"] for model in report["models"]] == ["base", "light"]
    assert (report["warnings"][0]["kind"], report["warnings"][0]["model"]) == ("missing", "bad")
    assert report["verdict"]["headline"].startswith("Incomplete: bad has no result. Compared with base, light has")
    assert [(row["name"], row["candidate"], row["passed"]) for row in report["gates"]] == [
        ("loss (light)", "light", True),
        ("loss (bad)", "bad", False),
    ]
    assert report["gates"][1]["reason"] == "no result: bad is missing"
    assert list(report["provenance"]["missing"]) == ["bad"]
    assert "no result: <bdi>bad</bdi>" in (folder / "report.html").read_text()
    assert "> **Warning:** bad is missing" in (folder / "report.md").read_text()
    assert 'failures="1"' in (folder / "report.junit.xml").read_text()

    with get_client(sync_client=True) as client:
        flow = max(client.read_flow_runs(), key=lambda run: run.created)
    assert flow.state is not None and flow.state.type == "FAILED" and "bad is missing" in str(flow.state.message)

    whole, partial = planned(done, BOTH, GATE), without(planned(done, BOTH, GATE), report["provenance"]["missing"])
    records = {record.run: record for record in read_records(whole.store)}
    assert not records[record_of(whole).run].complete
    kept = records[record_of(partial).run]
    assert kept.complete and kept.missing == ("bad",) and list(kept.models) == ["base", "light"]

    rows = json.loads(run_command("history", done / "study.yaml", "--json").out[0])["runs"]
    assert [row["missing"] for row in rows] == [[], ["bad"]]
    assert rows[1]["changed"].startswith("bad failed, gate loss was set")
    assert "incomplete, without bad" in "\n".join(run_command("history", done / "study.yaml").out)
    diff = run_command("diff", done / "study.yaml", "--json")
    assert diff.code == 0 and json.loads(diff.out[0])["warnings"][0].startswith("bad is missing")
    assert run_command("diff", folder, done / "study.yaml").code == 0
    export = run_command("export", done / "study.yaml", done / "features.csv")
    assert (export.code, export.err[0].partition(";")[0]) == (2, "error: bad: has no shard in the store")

    mend(done)
    run = run_command("study", done / "study.yaml", "--set", BOTH, "--set", GATE)
    assert run.code == 0, run.err
    made = fresh(run.out)
    assert not [name for name in made if name.endswith((" base", " light")) and name.split()[0] not in CLUSTERED]
    assert {
        "audit bad",
        "extract bad",
        "profile bad",
        "closeup bad",
        "recommendations bad",
        "compare",
        "report",
    } <= set(made)
    rows = json.loads(run_command("history", done / "study.yaml", "--json").out[0])["runs"]
    assert (rows[2]["missing"], rows[2]["changed"]) == ([], "bad has a result again")


#: What is fitted on all models together, and what reads that.
CLUSTERED = ("clustering", "prototypes")


def test_a_plan_without_a_candidate_has_the_addresses_of_a_study_that_never_had_it(folder: Path) -> None:
    shutil.copytree(folder / "models" / "light", folder / "models" / "bad")
    (folder / "models" / "bad" / "config.json").write_text(
        json.dumps(json.loads((folder / "models" / "bad" / "config.json").read_text()) | {"rope_theta": 5.0})
    )
    both, never = planned(folder, BOTH), planned(folder)
    left = without(both, {"bad": "it broke"})
    assert [node.key for node in left.graph if node.step.name != "report"] == [
        node.key for node in never.graph if node.step.name != "report"
    ]
    for step, model in (("clustering", "base"), ("compare", "")):
        assert address(both, step, model) != address(never, step, model)
    assert left.models == never.models
    assert left.missing == {"bad": "it broke"} and left.study is both.study


class Steps:
    """Stands for the steps of a study: tells which models it was given, and fails some."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.given: list[tuple[str, list[str]]] = []
        self.failing: dict[str, dict[str, UnitsFailed]] = {}
        monkeypatch.setattr(
            "indexscope.flows.study.flows._made", lambda plan, command, *_, **__: self.make(command, plan)
        )
        monkeypatch.setattr("indexscope.flows.study.flows._report", lambda plan: self.make("report", plan))

    def make(self, command: str, plan: Plan) -> str:
        self.given.append((command, [model.name for model in plan.models]))
        there = {model.name for model in plan.models}
        if failed := {model: why for model, why in self.failing.get(command, {}).items() if model in there}:
            raise ModelsFailed(failed)
        return command


def failure(model: str, bad_input: bool = False, count: int = 1) -> UnitsFailed:
    return UnitsFailed(f"extract {model}", [Failure(f"{model} {n}", "it broke", bad_input) for n in range(count)], 20)


@pytest.mark.parametrize("step", ["analyze", "compare", "report"])
def test_a_model_that_falls_out_late_is_left_out_of_all_that_follows(
    folder: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    fake = Steps(monkeypatch)
    fake.failing = {step: {"light": failure("light")}}
    plan = planned(folder)
    with remaining(plan) as left:
        assert left.attempt(lambda plan: fake.make("extract", plan)) == "extract"
        assert left.attempt(lambda plan: fake.make(step, plan)) is None
        assert left.attempt(lambda plan: fake.make(step, plan)) == step
        left.made()
        assert all(record.is_running(record.seen) for record in read_records(plan.store)), "both are spared by a gc"
    assert [names for _, names in fake.given] == [["base", "light"], ["base", "light"], ["base"]]
    assert {record.missing: record.complete for record in read_records(plan.store)} == {(): False, ("light",): True}


@pytest.mark.parametrize(("bad_input", "code"), [(True, 2), (False, 3)])
def test_without_a_baseline_nothing_is_compared_and_the_last_line_says_what_is_kept(
    done: Path, monkeypatch: pytest.MonkeyPatch, bad_input: bool, code: int
) -> None:
    fake = Steps(monkeypatch)
    fake.failing = {"extract": {"base": failure("base", bad_input, 15)}}
    run = run_command("study", done / "study.yaml")
    assert (run.code, run.out) == (code, [])
    assert [name for name, _ in fake.given] == ["extract"]
    shown = ["error: base 0: it broke"] if bad_input else [f"error: base {n} failed: it broke" for n in range(10)]
    assert run.err[:-1] == [*shown, *([] if bad_input else ["error: and 5 more"])]
    remedy = "mend that and run the same command again" if bad_input else "to resume, run the same command again"
    assert run.err[-1].startswith("kept: 47 of 47 units in ") and run.err[-1].endswith(f".indexscope; {remedy}")


def test_a_failing_analysis_of_one_model_leaves_the_analyses_of_the_others(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = replace(planned(done), refresh=frozenset({"key_budget", "prototypes"}))
    seen: list[str] = []

    def some_fail(job: Job, result: StepRecord | BaseException) -> StepRecord | Failure:
        seen.append(job.title)
        return Failure(job.title, "no") if job.title == "key_budget light" else checked(job, result)

    monkeypatch.setattr("indexscope.flows.engine.side_by_side.checked", some_fail)
    known: set[Any] = set()
    with pytest.raises(ModelsFailed) as failed:
        plan.engine.make(plan.graph.some(["analyze"]), known)
    assert failed.value.failures["light"].reason == "key_budget light failed: no"
    assert "recommendations base" in seen and "recommendations light" not in seen
    assert address(plan, "recommendations", "base") in known and address(plan, "key_budget", "light") not in known
    seen.clear()
    left = without(plan, {"light": "no"})
    left.engine.make(left.graph.some(["analyze"]), known)
    assert [title for title in seen if title.endswith("base")] == seen
    assert {"clustering base", "prototypes base"} <= set(seen), "what pools features is made anew, and nothing else"


def test_a_store_that_refuses_ends_the_study_at_once_since_no_other_model_would_fare_better(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from indexscope import IndexscopeError
    from indexscope.tasks.common import step

    def full(self: Any, key: Any, *_: object, **__: object) -> None:
        raise IndexscopeError(self.location(key), "cannot be written (No space left on device)", "free some space")

    monkeypatch.setattr(step.Store, "commit", full)
    run = run_command("extract", folder / "study.yaml")
    assert run.code == 2
    assert len(run.err) == 2 and "No space left on device" in run.err[0]
    assert run.err[1].startswith("kept: 0 of 18 units in ")


def test_one_mistake_met_in_many_units_is_told_once() -> None:
    failed = [failure("light", bad_input=True, count=20), failure("bad", bad_input=True)]
    assert failure_lines(failed) == ["error: light 0: it broke"]
    assert len(failure_lines([failure("light", count=30)])) == TOLD + 1


def test_a_defect_is_one_line_that_names_the_file_with_the_traceback(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a defect at https://me:secret@host/x")

    monkeypatch.setattr("indexscope.flows.study.flows._made", broken)
    run = run_command("study", done / "study.yaml")
    assert (run.code, run.out, len(run.err)) == (70, [], 1)
    start = "internal error: ZeroDivisionError: a defect at https://***@host/x; please report it with "
    assert run.err[0].startswith(start) and run.err[0].endswith("; what was finished is kept")
    file = Path(run.err[0].removeprefix(start).partition(",")[0])
    log = file.read_text()
    file.unlink()
    assert "in broken" in log and "ZeroDivisionError: a defect" in log and "secret" not in log
