"""A study of data with answers: its steps, its page, its gates by length, and which keys what is marked is part of."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from indexscope.flows.study.load import load_study
from indexscope.flows.study.plan import Plan, make_plan
from indexscope.storage.inputs.evidence import Evidence
from indexscope.storage.inputs.samples import Sample
from indexscope.tasks.extract import STEP as EXTRACT
from tests.flows.conftest import address, blank_figures, run_command

WINDOW = {"name": "window", "edit": {"selector": {"recent": {"window": 12, "sink": 0}}}}
WHOLE = {"name": "whole", "edit": {"selector": {"recent": {"window": 48, "sink": 0}}}}


def rows(shift: int = 0, lengths: tuple[int, ...] = (40, 48)) -> list[dict[str, Any]]:
    draw = random.Random(0)
    found = []
    for number in range(12):
        length = lengths[number % len(lengths)]
        ids = [draw.randrange(300) for _ in range(length)]
        begin = 2 * number + shift
        found.append({"input_ids": ids, "evidence_tokens": [[begin, begin + 2]], "answer": [length - 4, length - 1]})
    return found


def written(folder: Path, data: list[dict[str, Any]], **settings: Any) -> Path:
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | settings))
    return file


def digests(plan: Plan) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for node in plan.graph:
        found.setdefault(node.step.name, []).append(node.key.digest)
    return found


def test_a_study_of_answers_tells_selection_answers_and_gates_by_length(folder: Path) -> None:
    gates = [
        "evidence_selected >= 0.95 at length 48",
        "evidence_selected <= 0 at length 40",
        "evidence_selected.difference <= 0 at length 48",
        "evidence_selected >= 0 at length 44",
        "answer_exact >= 0",
    ]
    file = written(folder, rows(), candidates=[WINDOW, WHOLE], gates=gates)
    with blank_figures():
        run = run_command("study", file)
    assert run.code == 1, run.err
    plan = make_plan(load_study(file))
    report = json.loads((folder / "reports" / "tiny" / "report.json").read_text())
    cells = {
        (row["model"], row["metric"], row["length"]): row["value"]
        for row in report["evidence_cells"]
        if row["kind"] is None and row["depth"] is None
    }
    # The queries are 5 to 3 tokens before the end, the last evidence ends at 24: a window of 12 has none of it.
    assert cells["window", "evidence_selected", 48] == cells["window", "evidence_selected", 40] == 0.0
    assert cells["whole", "evidence_selected", None] == 1.0 and ("window", "evidence_keys_needed", None) not in cells
    held = {(gate["candidate"], gate["rule"]): gate["passed"] for gate in report["gates"]}
    assert held["window", gates[0]] is False and held["whole", gates[0]] is True
    assert held["window", gates[1]] is True and held["whole", gates[1]] is False
    assert held["window", gates[2]] is True and held["whole", gates[2]] is False
    assert held["window", gates[3]] is held["whole", gates[3]] is False, "no sample is of that length"
    answers = plan.store.read(address(plan, "extract", "window"), "answers", ["shard-00000"])
    assert answers["dense_nll"].null_count() == 0, "all with an answer have a dense reference"
    assert answers["kind"].to_list() == [""] * 3
    changes = plan.store.read(address(plan, "evidence_changes"), "evidence_changes", ["result"])
    whole = changes.filter(pl.all_horizontal(pl.col("kind", "length", "depth").is_null()))
    assert set(whole["candidate"]) == {"window", "whole"}
    html = (folder / "reports" / "tiny" / "report.html").read_text()
    assert "Evidence and answers" in html and "Was it the indexer?" in html


def test_data_without_answers_have_neither_steps_nor_tables_nor_a_panel(first_run: tuple[Path, Any]) -> None:
    plan = make_plan(load_study(first_run[0] / "study.yaml"))
    assert not {"evidence", "evidence_changes"} & set(digests(plan))
    tables = plan.store.tables(address(plan, "extract", "base"))
    assert not {"answers", "evidence", "answer_text"} & set(tables)
    assert "Evidence and answers" not in (first_run[0] / "reports" / "tiny" / "report.html").read_text()


def test_what_is_marked_is_part_of_the_features_key_and_of_what_is_made_from_them_and_of_no_other(folder: Path) -> None:
    before = digests(make_plan(load_study(written(folder, rows()))))
    moved = digests(make_plan(load_study(written(folder, rows(shift=1)))))
    assert set(before) == set(moved)
    for step in ("audit", "closeup", "reruns", "profile", "key_budget", "token_content", "stability"):
        assert before[step] == moved[step], step
    for step in ("extract", "evidence", "evidence_changes", "distribution", "report"):
        assert before[step] != moved[step], step
    bare = [{"input_ids": row["input_ids"]} for row in rows()]
    plain = digests(make_plan(load_study(written(folder, bare))))
    assert plain["closeup"] == before["closeup"] and plain["extract"] != before["extract"]
    assert set(before) - set(plain) == {"evidence", "evidence_changes"}


def test_answers_that_are_cut_off_are_told_before_anything_runs(folder: Path) -> None:
    file = written(folder, rows(lengths=(40, 64)))
    plan = make_plan(load_study(file))
    (note,) = [note for note in plan.notes if "answers end beyond" in note]
    assert "6 of 12 answers end beyond dataset.max_length (48 tokens), first that of data.jsonl:" in note
    assert sum(sample.evidence is not None for sample in plan.samples) == 6


def samples(answered: int, plain: int) -> list[Sample]:
    marks = Evidence(((0, 1),), (2, 3))
    return [Sample(number, "", (1, 2, 3), marks if number < answered else None) for number in range(answered + plain)]


@pytest.mark.parametrize(
    ("setting", "answered", "plain", "wanted"),
    [("auto", 300, 100, (300, 0)), ("auto", 10, 90, (10, 22)), (20, 30, 30, (20, 0)), (20, 5, 30, (5, 15)),
     (True, 3, 3, (3, 3)), (False, 3, 3, (0, 0)), ("auto", 0, 40, (0, 32))],
)  # fmt: skip
def test_samples_with_an_answer_come_first_among_the_dense_ones(
    folder: Path, setting: Any, answered: int, plain: int, wanted: tuple[int, int]
) -> None:
    given = make_plan(load_study(folder / "study.yaml")).given
    given = type(given)(**{**vars(given), "extract": given.extract.model_copy(update={"dense_reference": setting})})
    assert EXTRACT.chooses is not None
    chosen = EXTRACT.chooses(samples(answered, plain), given)
    assert (sum(one.evidence is not None for one in chosen), sum(one.evidence is None for one in chosen)) == wanted
    assert [one.index for one in chosen] == sorted(one.index for one in chosen)


def test_needles_longer_than_the_positions_are_one_line(folder: Path) -> None:
    needle = {"kinds": ["single"], "lengths": [64, 256], "depths": 2, "per_cell": 1}
    run = run_command("study", written(folder, rows(), dataset={"source": "builtin:needle", "needle": needle}))
    assert run.code == 2 and len(run.err) == 1 and "no tokenizer" in run.err[0]
    needle["lengths"] = [256, 64]
    run = run_command("study", written(folder, rows(), dataset={"source": "builtin:needle", "needle": needle}))
    assert run.code == 2 and len(run.err) == 1 and "must increase" in run.err[0]


BAD = [
    ("nll <= 3 at length 512", "nll is not measured at length 512; add 512 to the study's lengths"),
    ("evidence_selected >= 0.9 at length far", "there is no length 'far'"),
    ("evidence_selected >= 0.9 at length 0", "there is no length '0'"),
    ("evidence_selected >= 0.9 per layer at length 512", "is not a rule"),
]


@pytest.mark.parametrize(("rule", "told"), BAD)
def test_a_gate_by_length_that_cannot_be_is_one_line(folder: Path, rule: str, told: str) -> None:
    run = run_command("study", written(folder, rows(), gates=[rule]))
    assert run.code == 2 and len(run.err) == 1 and told in run.err[0]


EXAMPLE = Path(__file__).parents[2] / "examples" / "evidence" / "study.yaml"


def test_the_guide_shows_the_example() -> None:
    guide = (EXAMPLE.parents[2] / "docs" / "evidence.md").read_text()
    shown = guide.partition("```yaml\n")[2].partition("```")[0]
    assert yaml.safe_load(shown) == yaml.safe_load(EXAMPLE.read_text())


def test_the_example_runs_on_less_and_tells_a_window_from_the_oracle(tmp_path: Path) -> None:
    less = ["dataset.needle.depths=1", "dataset.needle.per_cell=1", "dataset.needle.kinds=[single]"]
    less += ["dataset.needle.lengths=[200,256]", "closeup.samples=1", "closeup.rerun_samples=1"]
    less += ["closeup.removal_samples=1", "extract.profile_repeats=1", "extract.profile_lengths=[32]"]
    less += [
        'gates=["evidence_attention_kept >= 0.5 at length 256", "answer_exact >= 1 at length 256"]',
        f"store={tmp_path / 'store'}",
        f"report={tmp_path / 'out'}",
    ]
    with blank_figures():
        run = run_command("study", EXAMPLE, *(word for one in less for word in ("--set", one)))
    assert run.code == 1, run.err
    report = json.loads((Path(run.out[-1]) / "report.json").read_text())
    passed = {(gate["candidate"], gate["rule"].split()[0]): gate["passed"] for gate in report["gates"]}
    assert passed == {
        (name, metric): name != "window"
        for name in ("light", "window", "oracle")
        for metric in ("evidence_attention_kept", "answer_exact")
    }, "the code lies 128 tokens before its question, and the window is of 60"
    outcomes = {(row["model"], row["outcome"]): row for row in report["answer_outcomes"]}
    assert outcomes["window", "lost"]["n"] == 2 and outcomes["window", "lost"]["missing"] == 1.0
    assert outcomes["light", "both right"]["n"] == 2 and outcomes["light", "both right"]["missing"] == 0.0
