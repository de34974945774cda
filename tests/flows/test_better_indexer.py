"""The examples of examples/better_indexer, run on less data."""

from __future__ import annotations

import json
from pathlib import Path

from indexscope.flows.study.load import load_study
from indexscope.flows.study.plan import make_plan
from tests.flows.conftest import run_command

EXAMPLES = Path(__file__).parents[2] / "examples" / "better_indexer"
SMALL = ["--set", "dataset.samples=3", "--set", "dataset.max_length=96"]


def test_the_example_of_edits_runs_and_each_costs_what_is_left_of_it(tmp_path: Path) -> None:
    less = ["closeup.samples=1", "closeup.rerun_samples=1", "extract.profile_repeats=1"]
    less += [f"store={tmp_path / 'store'}", f"report={tmp_path / 'reports'}"]
    run = run_command("study", str(EXAMPLES / "edits.yaml"), *SMALL, *(word for one in less for word in ("--set", one)))
    assert run.code in (0, 1), run.err  # on so few samples the gate may not hold
    report = json.loads((Path(run.out[-1]) / "report.json").read_text())
    cost = {row["model"]: row["value"] for row in report["metrics"] if row["name"] == "relative_cost"}
    assert cost["oracle"] == cost["window"] < cost["less of everything"] < cost["fewer heads"] < cost["baseline"]
    assert cost["blocks first"] != cost["baseline"]


def test_the_example_of_a_fit_ends_in_a_study(tmp_path: Path) -> None:
    less = [
        "dataset.samples=6",
        "dataset.max_length=96",
        "stages.dense=2",
        "stages.sparse=1",
        "held_out.samples=4",
        "optimise=null",
    ]
    less += [f"out={tmp_path / 'fitted'}"]
    run = run_command("fit", str(EXAMPLES / "fit.yaml"), *(word for one in less for word in ("--set", one)))
    assert run.code == 0, run.err
    plan = make_plan(load_study(tmp_path / "fitted" / "study.yaml"))
    sizes, shared = ("h2-d32", "h1-d32"), ("", " every 2nd")
    fitted = [f"{size} k{k}{how}" for size in sizes for k in (32, 64) for how in shared]
    names = [model.name for model in plan.models]
    assert names == ["model", *fitted, "oracle k32", "oracle k64", "window k64", "random k64"]
