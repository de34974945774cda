"""Series in study files: members from a glob, what is refused or left for later, and that old ones cost nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from prefect.settings import PREFECT_API_URL, temporary_settings
from safetensors.torch import load_file, save_file

from indexscope import IndexscopeError
from indexscope.analysis.series.course import Course, Member
from indexscope.flows.study import series
from indexscope.flows.study.config import Study
from indexscope.flows.study.load import load_study
from indexscope.flows.study.plan import make_plan
from indexscope.flows.study.series import courses, waiting_notes
from indexscope.flows.watching import Watch, check_watched, watching
from indexscope.storage.store.store import Store
from indexscope.tasks.common.declared import Reads
from indexscope.tasks.common.models import Checkpoint
from tests.flows.conftest import Run, run_command
from tests.flows.engine.fakes import BASE, GIVEN, graph, step
from tests.tiny import save_model

SERIES = "series: {name: warm-up, models: 'runs/step-*', settled_for: 0}\n"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A study whose runs/ holds what is a checkpoint by its files alone."""
    save_model(tmp_path / "base", heads=1, seed=0)
    for number in (100, 9, 20):
        shutil.copytree(tmp_path / "base", tmp_path / "runs" / f"step-{number}")
    return tmp_path


def written(folder: Path, series: str = SERIES, more: str = "") -> Path:
    file = folder / "study.yaml"
    file.write_text(f"baseline: base\n{series}{more}")
    return file


def members(study: Study) -> list[tuple[str, float | None]]:
    return [(model.name, model.at) for model in study.candidates if model.series]


def refusal(file: Path) -> str:
    with pytest.raises(IndexscopeError) as caught:
        load_study(file)
    (line,) = str(caught.value).splitlines()
    return line


def test_a_glob_becomes_candidates_in_the_order_of_their_numbers(runs: Path) -> None:
    study = load_study(written(runs))
    assert members(study) == [("warm-up 9", 9.0), ("warm-up 20", 20.0), ("warm-up 100", 100.0)]
    assert study.candidates[0].path == str(runs / "runs" / "step-9")


def test_edits_indexers_and_loaders_make_series_too(runs: Path) -> None:
    edits = "series: [{name: k, models: {edit: {of: 'runs/step-*', topk: 4}}, settled_for: 0}]\n"
    edit = load_study(written(runs, edits)).candidates[1].edit
    assert edit is not None and edit.of == str(runs / "runs" / "step-20") and edit.topk == {"default": 4}
    (runs / "load.py").write_text("def load(file): ...\n")
    own = "series: {name: own, models: {loader: 'load.py:load', weights: 'runs/step-*'}, settled_for: 0}\n"
    last = load_study(written(runs, own)).candidates[-1]
    assert last.weights == str(runs / "runs" / "step-100") and last.loader == f"{runs / 'load.py'}:load"


def test_candidates_that_name_a_series_are_one(runs: Path) -> None:
    more = "".join(f"- {{edit: {{topk: {k}}}, series: keys, at: {k}}}\n" for k in (8, 4))
    study = load_study(written(runs, "series: {name: keys, axis: keys}\n", f"candidates:\n{more}"))
    (found,) = courses(study, [model.name for model in study.models])
    assert (found.axis, [member.at for member in found.members]) == ("keys", [4.0, 8.0])
    assert courses(study, []) == ()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["step-1a", "last"], "nothing matches"),
        (["step-final"], "'step-final' has no number"),
        (["step-1-2"], None),
        (["step-10k"], "'step-10k' has a number with a letter, 10k"),
        (["step-7", "step-07"], "'step-07' and 'step-7' are both at 7"),
    ],
)
def test_names_that_tell_no_step_are_one_line_that_names_them(runs: Path, names: list[str], said: str | None) -> None:
    shutil.rmtree(runs / "runs")
    for name in names:
        shutil.copytree(runs / "base", runs / "runs" / name)
    pattern = "runs/none-*" if said == "nothing matches" else "runs/step-*"
    file = written(runs, SERIES.replace("runs/step-*", pattern))
    if said is None:
        assert members(load_study(file)) == [("warm-up 1", 1.0)]  # the number after the axis' name
    else:
        assert said in refusal(file)


def test_a_name_with_several_numbers_is_refused_unless_one_follows_the_axis(runs: Path) -> None:
    shutil.copytree(runs / "base", runs / "fits" / "h4-d64")
    assert "'h4-d64' has several numbers (4, 64)" in refusal(written(runs, SERIES.replace("runs/step-*", "fits/*")))
    axis = "series: {name: width, models: 'fits/*', axis: d, settled_for: 0}\n"
    assert members(load_study(written(runs, axis))) == [("width 64", 64.0)]


@pytest.mark.parametrize(
    ("series", "said"),
    [
        ("{name: a, models: runs/step-9}", "has models with no *; put one path with a * into them"),
        ("{name: a, models: {path: 'x*', indexer: 'y*'}}", "has models with a * in path and in indexer"),
        (
            "{name: a, models: {path: 'runs/*', name: b}}",
            "has name, which is made of the series and each member's step",
        ),
        ("{name: a, models: {selections: 'x*', format: npz}}", "has selections, of which there is no series"),
        ("[{name: a, models: 'r*'}, {name: a, models: 's*'}]", "uses the name 'a' twice"),
        ("{name: a}", "'a' has no member"),
        ("{name: a, model: 'runs/*'}", "unknown key; did you mean 'models'?"),
    ],
)
def test_every_mistake_in_a_series_is_one_line(runs: Path, series: str, said: str) -> None:
    assert said in refusal(written(runs, f"series: {series}\n"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            "candidates: [{path: base, series: warm-up}]\n",
            "is of the series 'warm-up' without a step; add at, a number",
        ),
        ("candidates: [{path: base, at: 3}]\n", "has at, which is a place in a series; add series, its name"),
        ("candidates: [{path: base, name: again, series: warm-up, at: 9}]\n", "has 'again' where the series 'warm-up'"),
        ("candidates: [{path: base, name: warm-up 9}]\n", "uses the name 'warm-up 9' for a model and a member"),
    ],
)
def test_every_mistake_in_a_member_is_one_line(runs: Path, more: str, said: str) -> None:
    assert said in refusal(written(runs, more=more))


def test_a_checkpoint_that_is_not_complete_is_left_and_told(runs: Path) -> None:
    file = runs / "runs" / "step-20" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    (runs / "runs" / "step-100" / "config.json").unlink()
    study = load_study(written(runs))
    assert members(study) == [("warm-up 9", 9.0)]
    first, second = waiting_notes(study)
    assert first.startswith("note: warm-up 20 is left for the next run: step-20 is not whole (model.safetensors")
    assert second == "note: warm-up 100 is left for the next run: step-100 has no config.json"


def test_what_changed_a_moment_ago_is_left_and_what_is_left_alone_is_refused(runs: Path) -> None:
    waits = SERIES.replace("settled_for: 0", "settled_for: 3600")
    assert "matches nothing that is complete (step-9 changed less than 3600 s ago)" in refusal(written(runs, waits))
    for file in (runs / "runs" / "step-20").iterdir():
        os.utime(file, (1, 1))
    assert members(load_study(written(runs, waits))) == [("warm-up 20", 20.0)]


# --- what costs what


def course(*steps: int) -> Course:
    return Course("warm-up", "step", tuple(Member(f"warm-up {number}", float(number)) for number in steps))


def test_a_new_member_changes_no_result_of_the_others() -> None:
    """Fake steps: extraction, an analysis, one fitted on all models, and a comparison."""
    steps = [
        step("extract", "extract", sharded=True),
        step("analysis", "analyze", "extract"),
        step("clustering", "analyze", "extract", Reads("extract", of_each=True)),
        step("compare", "compare", "[analyze]", per="study"),
    ]

    def digests(*numbers: int) -> dict[str, str]:
        given = replace(GIVEN, series=(course(*numbers),))
        models = [BASE, *(Checkpoint(f"warm-up {number}", "/x", f"step {number}") for number in numbers)]
        return {node.title: node.key.digest for node in graph(steps, models, given)}

    before, after = digests(1, 2), digests(1, 2, 3)
    assert {title for title in before if before[title] != after[title]} == {"compare"}
    assert set(after) - set(before) == {"extract warm-up 3", "analysis warm-up 3", "clustering warm-up 3"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run, Run]:
    """A study of five checkpoints that ran, then with a sixth, and what both runs told."""
    folder = tmp_path_factory.mktemp("series")
    save_model(folder / "models" / "base", heads=2, seed=0)
    for number in range(6):
        save_model(folder / "made" / f"step-{100 * number}", heads=2, seed=number if number > 3 else 0)
    rows = [[(7 * place + 3 * row) % 300 for place in range(40)] for row in range(8)]
    (folder / "data.jsonl").write_text("".join(json.dumps({"input_ids": row}) + "\n" for row in rows))
    study = {
        "name": "tiny",
        "baseline": "models/base",
        "series": {"name": "warm-up", "models": "runs/step-*", "settled_for": 0},
        "dataset": {"source": "data.jsonl", "column": "input_ids", "max_length": 40, "samples": None},
        "extract": {"chunk": 40, "profile_lengths": [16], "profile_repeats": 1},
        "closeup": {"samples": 2, "queries": 4, "rerun_samples": 0},
        "gates": ["recall.change >= -1 over 300"],
        "shard_size": 8,
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    (folder / "runs").mkdir()
    for number in range(5):
        shutil.copytree(folder / "made" / f"step-{100 * number}", folder / "runs" / f"step-{100 * number}")
    first = run_command("study", folder / "study.yaml")
    shutil.copytree(folder / "made" / "step-500", folder / "runs" / "step-500")
    return folder, first, run_command("study", folder / "study.yaml")


def features(folder: Path) -> set[str]:
    return set(Store(str(folder / ".indexscope")).digests("features"))


def test_a_new_checkpoint_alone_is_extracted_by_the_next_run(finished: tuple[Path, Run, Run]) -> None:
    folder, first, second = finished
    assert first.code == second.code == 0, (first.err, second.err)
    extracted = [line for line in second.out + second.err if re.search(r"extract(ing)? ", line) and "warm-up" in line]
    assert not any(f"warm-up {number} " in line for line in extracted for number in range(100, 500, 100)), extracted
    # Of the six, four have the weights of the baseline, and so its features.
    assert len(features(folder)) == 1 + 2


def test_the_page_shows_the_newest_member_and_the_series(finished: tuple[Path, Run, Run]) -> None:
    folder, *_ = finished
    report = json.loads((folder / "reports" / "tiny" / "report.json").read_text())
    assert [model["name"] for model in report["models"]] == ["base", "warm-up 500"]
    assert {row["candidate"] for row in report["comparisons"]} == {"warm-up 500"}
    points = [row for row in report["series_points"] if row["metric"] == "nll"]
    assert [row["step"] for row in points] == [100.0 * number for number in range(6)]
    page = (folder / "reports" / "tiny" / "report.html").read_text()
    assert "Over the series" in page and "warm-up: 6 members, step 0 to 500" in page


def test_a_gate_on_the_change_holds_the_newest_beside_an_older_one(finished: tuple[Path, Run, Run]) -> None:
    folder, *_ = finished
    report = json.loads((folder / "reports" / "tiny" / "report.json").read_text())
    (gate,) = report["gates"]
    assert gate["candidate"] == "warm-up 500" and gate["passed"]
    assert gate["reason"].startswith("change of selection_recall since 200 is ")
    points = {
        row["step"]: row["value"]
        for row in report["series_points"]
        if row["metric"] == "selection_recall" and row["layer"] is None
    }
    assert gate["value"] == pytest.approx(points[500.0] - points[200.0])


def test_an_old_member_that_fails_is_told_and_fails_no_gate_on_the_newest(
    finished: tuple[Path, Run, Run], tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    shutil.copytree(finished[0], folder)
    shutil.copytree(folder / "made" / "step-100", folder / "runs" / "step-250")
    file = folder / "runs" / "step-250" / "model.safetensors"
    tensors = load_file(file)
    next(tensor for name, tensor in tensors.items() if "o_proj" in name)[0, 0] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    rules = json.dumps(["recall.change >= -1 over 300", "recall.change >= -1 over 250", "recall >= 0"])
    run = run_command("study", folder / "study.yaml", "--set", f"gates={rules}")
    assert run.code == 3, run.err
    assert any(line.startswith("warning: warm-up 250 is missing") for line in run.err)
    assert [line for line in run.err if line.startswith("gate failed")] == ["gate failed: recall.change >= -1 over 250"]
    report = json.loads((Path(run.out[-1]) / "report.json").read_text())
    held, beside, own = report["gates"]
    assert (held["passed"], held["candidate"]) == (True, "warm-up 500") and " since 200 " in held["reason"]
    assert beside["reason"] == "no result: warm-up 250, beside which it is held, is missing"
    assert (own["passed"], own["candidate"]) == (True, "warm-up 500")


def unknown(folder: Path, step: int) -> None:
    """A member of a kind that nobody knows."""
    shutil.copytree(folder / "made" / "step-100", folder / "runs" / f"step-{step}", dirs_exist_ok=True)
    config = folder / "runs" / f"step-{step}" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "unheard_of"}))


@pytest.fixture
def again(finished: tuple[Path, Run, Run], tmp_path: Path) -> Path:
    """The finished study of one's own, with two gates."""
    folder = Path(shutil.copytree(finished[0], tmp_path / "study"))
    study = yaml.safe_load((folder / "study.yaml").read_text())
    study["gates"] = ["recall.change >= -1 over 300", "recall >= 0"]
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return folder


def test_an_old_member_that_the_plan_cannot_use_stops_no_other_and_fails_no_gate(again: Path) -> None:
    unknown(again, 250)
    run = run_command("study", again / "study.yaml")
    assert run.code == 3, run.err
    (error,) = [line for line in run.err if line.startswith("error: ")]
    assert error.startswith("error: warm-up 250: ") and "unheard_of" in error
    assert any(line.startswith("warning: warm-up 250 is missing") for line in run.err)
    assert not any(line.startswith("gate failed") for line in run.err)
    assert run.err[-1].endswith("; the report is without warm-up 250; mend that and run the same command again")
    report = json.loads((Path(run.out[-1]) / "report.json").read_text())
    assert [model["name"] for model in report["models"]] == ["base", "warm-up 500"]
    assert [(gate["candidate"], gate["passed"]) for gate in report["gates"]] == [("warm-up 500", True)] * 2
    assert list(report["provenance"]["missing"]) == ["warm-up 250"]
    told = run_command("study", again / "study.yaml", "--dry-run")
    assert told.code == 0 and any(line.startswith("warning: warm-up 250 cannot be used: ") for line in told.out)
    part = run_command("extract", again / "study.yaml")
    assert (part.code, part.err) == (3, [error])


def test_gates_fail_where_the_plan_cannot_use_the_newest(again: Path) -> None:
    unknown(again, 900)
    run = run_command("study", again / "study.yaml")
    assert run.code == 1, run.err
    assert next(line for line in run.err if line.startswith("error: ")).startswith("error: warm-up 900: ")
    failed = [line for line in run.err if line.startswith("gate failed: ")]
    report = json.loads((Path(run.out[-1]) / "report.json").read_text())
    lacking = [gate for gate in report["gates"] if not gate["passed"]]
    assert len(failed) == len(lacking) > 0
    assert {gate["reason"] for gate in lacking} == {"no result: warm-up 900 is missing"}


def test_a_series_of_which_no_member_can_be_used_is_one_line(again: Path) -> None:
    for number in range(0, 600, 100):
        unknown(again, number)
    run = run_command("study", again / "study.yaml")
    assert run.code == 2 and len(run.err) == 1, run.err
    assert run.err[0].startswith("error: series 'warm-up': none of its 6 members can be used, first warm-up 0: ")
    assert "unheard_of" in run.err[0]


def test_a_member_with_too_few_positions_is_left_out_too(again: Path) -> None:
    config = again / "runs" / "step-300" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"max_position_embeddings": 16}))
    plan = make_plan(load_study(again / "study.yaml"))
    assert plan.missing == {
        "warm-up 300": "was made for 16 tokens, and sample data.jsonl:2 has 40; set dataset.max_length to 16 or less"
    }
    assert [model.name for model in plan.models][4:] == ["warm-up 400", "warm-up 500"]
    assert [member.at for member in plan.given.series[0].members] == [0.0, 100.0, 200.0, 400.0, 500.0]


def test_a_candidate_of_the_file_is_refused_though_it_has_a_place_in_a_series(again: Path) -> None:
    unknown(again, 50)
    study = yaml.safe_load((again / "study.yaml").read_text())
    shutil.move(again / "runs" / "step-50", again / "mine")
    study["candidates"] = [{"path": "mine", "name": "mine", "series": "warm-up", "at": 50}]
    (again / "study.yaml").write_text(yaml.safe_dump(study))
    run = run_command("study", again / "study.yaml")
    assert run.code == 2 and len(run.err) == 1 and "unheard_of" in run.err[0]


def test_history_follows_the_newest_member_of_a_series(finished: tuple[Path, Run, Run]) -> None:
    folder, *_ = finished
    run = run_command("history", folder / "study.yaml", "--metric", "nll", "--json")
    assert run.code == 0, run.err
    told = json.loads("\n".join(run.out))
    values = [row for row in json.dumps(told).split('"metric": "nll"')]
    assert len(values) > 1 and "warm-up 500" in json.dumps(told)


def test_a_gate_on_a_change_needs_a_series(runs: Path) -> None:
    file = written(runs, "", "gates: ['recall.change >= -0.01 over 100']\n")
    assert "a change is that of a series, and the study has none" in refusal(file)


# --- serve --watch


def test_a_run_follows_each_new_member_and_none_follows_what_is_half_written(runs: Path) -> None:
    file, ran, told = written(runs), [], []
    watch = Watch(file, [], lambda: ran.append(1), told.append)
    watch.look()
    watch.look()
    assert (len(ran), told) == (1, ["new: warm-up 100, warm-up 20, warm-up 9"])
    shutil.copytree(runs / "base", runs / "runs" / "step-200")
    weights = runs / "runs" / "step-200" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    watch.look()
    assert len(ran) == 1
    weights.write_bytes(whole)
    watch.look()
    watch.look()
    assert (len(ran), told[1:]) == (2, ["new: warm-up 200"])


def test_a_look_searches_a_series_once(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    monkeypatch.setattr("indexscope.flows.study.series.glob.glob", lambda pattern: looked.append(pattern) or [])
    watch = Watch(written(runs), [], lambda: None, lambda line: None)
    watch.look()
    assert len(looked) == 1
    monkeypatch.undo()
    asked: list[str] = []
    monkeypatch.setattr(series, "unfinished", lambda path, *_: asked.append(path) or "")
    watch.look()
    assert sorted(map(os.path.basename, asked)) == ["step-100", "step-20", "step-9"], "each is looked at once"


def test_a_checkpoint_that_is_written_over_is_run_again_once_it_is_complete(runs: Path) -> None:
    file, ran, told = written(runs), [], []
    watch = Watch(file, [], lambda: ran.append(1), told.append)
    watch.look()
    weights = runs / "runs" / "step-20" / "model.safetensors"
    whole = weights.read_bytes()
    changed = whole[:-4] + bytes([whole[-4] ^ 1]) + whole[-3:]
    weights.write_bytes(changed[: len(changed) // 2])
    watch.look()
    assert len(ran) == 1, "while it is written it is left alone"
    weights.write_bytes(changed)
    watch.look()
    watch.look()
    assert (len(ran), told[1:]) == (2, ["changed: warm-up 20"])
    shutil.copytree(runs / "base", runs / "runs" / "step-200")
    os.utime(weights, (1, 1))
    watch.look()
    assert (len(ran), told[2:]) == (3, ["new: warm-up 200", "changed: warm-up 20"])


def test_a_watch_tells_what_is_wrong_once_and_goes_on(runs: Path) -> None:
    file, ran, told = written(runs), [], []
    watch = Watch(file, [], lambda: ran.append(1), told.append)
    (runs / "runs" / "step-x").mkdir()
    watch.look()
    watch.look()
    assert not ran and len(told) == 1 and "'step-x' has no number" in told[0]
    (runs / "runs" / "step-x").rmdir()
    watch.look()
    assert len(ran) == 1


def test_a_run_that_could_not_be_started_is_tried_again(runs: Path) -> None:
    tries = []

    def run() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise IndexscopeError("study/tiny", "could not be run (ConnectError)", "it is tried again at the next look")

    watch = Watch(written(runs), [], run, lambda line: None)
    for _ in range(3):
        watch.look()
    assert len(tries) == 2


def test_a_folder_without_a_series_is_not_watched(runs: Path) -> None:
    check_watched(written(runs), [], runs / "runs")
    with pytest.raises(IndexscopeError, match="holds no member of a series of the study; give the folder"):
        check_watched(written(runs), [], runs / "base")
    with pytest.raises(IndexscopeError, match="is no folder"):
        check_watched(written(runs), [], runs / "nowhere")


def test_serving_may_begin_before_there_is_a_checkpoint(runs: Path) -> None:
    shutil.rmtree(runs / "runs")
    (runs / "runs").mkdir()
    check_watched(written(runs), [], runs / "runs")


def test_a_watch_knows_the_server_that_its_process_has(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the settings of the block Prefect would start a server of its own for each run, which outlives it."""
    seen: list[str | None] = []
    monkeypatch.setattr(Watch, "look", lambda self: seen.append(PREFECT_API_URL.value()))
    url = "http://127.0.0.1:9/api"
    with temporary_settings({PREFECT_API_URL: url}), watching(written(runs), [], "study/tiny", every=0.01):
        deadline = time.monotonic() + 20
        while not seen and time.monotonic() < deadline:
            time.sleep(0.01)
    assert seen[0] == url
