"""Studies of selections that were made elsewhere: one run end to end, everything else from its plan."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexscope import IndexscopeError
from indexscope.flows.study.load import load_study
from indexscope.flows.study.plan import Plan, make_plan
from indexscope.storage.inputs.model_loading import load_model
from indexscope.tasks.common.tables import declared
from tests.analysis.parity.made import rows_of, seen
from tests.flows.conftest import run_command
from tests.flows.test_described import described_tables
from tests.storage.inputs.selections import written

TOP, LAYERS = 8, 2
Array = np.ndarray[Any, Any]
STUDY = """\
name: {name}
baseline: {baseline}
candidates:
{candidates}
dataset: {{source: data.jsonl, column: input_ids, max_length: 48, samples: null}}
extract: {{chunk: 16, profile_lengths: [16, 32], profile_repeats: 2}}
closeup: {{samples: 4, queries: 8, rerun_samples: 2}}
shard_size: 3
gates: {gates}
"""


@pytest.fixture(scope="module")
def sequences(inputs: Path) -> list[tuple[list[int], Array]]:
    """Token ids of the study's samples, each with one token more, and what the baseline selects."""
    model = load_model(inputs / "models" / "base", "float32", "cpu")
    rows = [json.loads(line)["input_ids"] for line in (inputs / "data.jsonl").read_text().splitlines()]
    return [([*ids, 7], rows_of(seen(model, ids), TOP)) for ids in rows]


def shifted(sequences: Any) -> Any:
    """Layer 1 off by one from position 20 on, as by a wrong offset."""
    changed = []
    for ids, rows in sequences:
        rows = rows.copy()
        own = rows[20:, 1]
        own[own > 0] -= 1
        changed.append((ids, rows))
    return changed


def study(folder: Path, candidates: str, baseline: str = "models/base", gates: str = "[]", name: str = "dumps") -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(STUDY.format(name=name, baseline=baseline, candidates=candidates, gates=gates))
    return file


def planned(file: Path) -> Plan:
    return make_plan(load_study(file))


def test_dumps_are_compared_with_the_model_and_gates_tell_them_apart(folder: Path, sequences: Any) -> None:
    written.sglang(folder / "same", sequences[:7])
    written.vllm_answers(folder / "shifted", shifted(sequences))
    candidates = (
        "  - {name: sglang fp8, selections: same, format: sglang}\n  - {name: port, selections: shifted, format: vllm}"
    )
    gates = "[selection_overlap >= 0.99 on lower, rows_identical >= 0.9 at layer 1, nll.value <= 100]"
    file = study(folder, candidates, gates=gates)
    done = run_command("study", file)
    assert done.code == 1, "\n".join(done.err)
    assert done.err[-2:] == [
        "gate failed: selection_overlap >= 0.99 on lower (port)",
        "gate failed: rows_identical >= 0.9 at layer 1 (port)",
    ]
    assert any("sglang fp8: 1 of 8 samples have no record of the same tokens" in line for line in done.out)
    out = Path(done.out[-1])
    report = json.loads((out / "report.json").read_text())
    values = {(row["model"], row["name"], row["layer"]): row["value"] for row in report["metrics"]}
    for metric in ("rows_identical", "rows_identical_up_to_ties", "selection_overlap"):
        assert values["sglang fp8", metric, None] == 1
    assert values["port", "rows_identical", 0] == 1 > values["port", "rows_identical", 1]
    assert ("port", "nll", None) not in values  # nothing is said of losses that nobody measured
    assert [(model["name"], model.get("selections")) for model in report["models"]] == [
        ("base", None),
        ("sglang fp8", "sglang"),
        ("port", "vllm"),
    ]
    assert report["verdict"]["headline"].startswith(
        "sglang fp8 selects exactly what the baseline selects. port selects"
    )
    assert {row["layer"] for row in report["parity_samples"] if row["candidate"] == "port"} == {1}
    passed = {gate["name"]: gate["passed"] for gate in report["gates"]}
    assert passed == {
        "selection_overlap >= 0.99 on lower (sglang fp8)": True,
        "selection_overlap >= 0.99 on lower (port)": False,
        "rows_identical >= 0.9 at layer 1 (sglang fp8)": True,
        "rows_identical >= 0.9 at layer 1 (port)": False,
        "nll.value <= 100": True,
    }
    for name in ("report.md", "report.html"):
        text = re.sub(r"\s+", " ", (out / name).read_text())
        assert "They part in more than ties first in layer 1" in text
        assert "It selects exactly the baseline" in text
    assert "nothing is compared" not in (out / "report.md").read_text()
    # Nothing is computed twice, and another name of the dump is no other dump.
    again = run_command("study", file)
    assert again.code == 1 and not any("computed" in line and "parity" in line for line in again.err)
    (folder / "same").rename(folder / "moved")
    moved = study(folder, candidates.replace("selections: same", "selections: moved"), gates=gates)
    assert "parity_rows" not in "".join(line for line in run_command("study", moved).err if "computed" in line)
    kinds = ("parity_rows", "parity")
    described = {known for known in described_tables(folder / ".indexscope") if known[0] in kinds}
    assert described == {known for known in declared() if known[0] in kinds}
    # What is known of dumps is told over time, and the store is whole.
    told = run_command("history", file)
    assert told.code == 0, told.err
    assert run_command("verify", folder / ".indexscope").code == 0
    # Between the baseline and a dump there is no metric that both have.
    assert "has no metric in common" in run_command("diff", file).err[0]


def test_two_dumps_are_compared_without_a_model(folder: Path, sequences: Any, no_model: None) -> None:
    written.npz(folder / "one", sequences)
    written.parquet(folder / "two", [(ids[:-1], rows) for ids, rows in shifted(sequences)])
    baseline, candidate = (
        f"{{name: {name}, selections: {name}, format: {form}}}" for name, form in (("one", "npz"), ("two", "parquet"))
    )
    file = study(folder, f"  - {candidate}", baseline, "[rows_identical >= 0.9]", "pair")
    done = run_command("study", file)
    assert done.code == 1, "\n".join(done.err)
    report = json.loads((Path(done.out[-1]) / "report.json").read_text())
    names = {row["name"] for row in report["metrics"]}
    assert "rows_identical" in names and "dumped_recall" not in names and "nll" not in names
    assert "part" in (Path(done.out[-1]) / "report.md").read_text()
    assert [model["role"] for model in report["models"]] == ["baseline", "candidate"]


def test_a_dump_of_other_tokens_is_refused_before_any_model_runs(folder: Path, sequences: Any, no_model: None) -> None:
    written.sglang(folder / "d", [([299 - one for one in ids], rows) for ids, rows in sequences])
    file = study(folder, "  - {name: d, selections: d, format: sglang}")
    with pytest.raises(IndexscopeError, match="d: has 8 records, and none of them has the tokens of a sample"):
        planned(file)


@pytest.mark.parametrize(
    ("candidate", "says"),
    [
        ("{selections: d}", "has selections without a format; add format"),
        ("{selections: d, format: pickle}", "sglang"),
        ("{selections: none, format: sglang}", "there is no"),
        ("{selections: d, format: npz}", "has no file of the format npz"),
        ("{selections: d, format: sglang, layers: [0, 1, 2]}", "of which nothing tells how they divide into 3 layers"),
        ("{selections: d, format: sglang, path: models/light}", "has both a path and selections"),
        ("{path: models/light, format: sglang}", "has format, which is that of selections"),
        ("{selections: d, format: sglang, weights: data.jsonl}", "has weights, which is a loader's"),
    ],
)
def test_a_candidate_that_cannot_be_is_told_in_one_line(
    folder: Path, sequences: Any, no_model: None, candidate: str, says: str
) -> None:
    written.sglang(folder / "d", sequences[:1])
    done = run_command("study", study(folder, f"  - {candidate}"))
    assert done.code == 2
    assert says in done.err[0], done.err
    assert not (folder / ".indexscope").exists()


def test_a_model_cannot_be_compared_with_a_baseline_of_selections(folder: Path) -> None:
    (folder / "d").mkdir()
    file = study(folder, "  - models/light", "{selections: d, format: npz}")
    done = run_command("study", file)
    assert done.code == 2
    assert "has selections as its baseline, with which the model 'light' cannot be compared" in done.err[0]


def test_layers_content_and_ties_are_part_of_the_address_and_names_are_not(folder: Path, sequences: Any) -> None:
    written.sglang(folder / "d", sequences)

    def address(more: str = "", name: str = "d") -> str:
        file = study(folder, f"  - {{name: {name}, selections: d, format: sglang{more}}}")
        node = planned(file).graph.of("parity_rows", name)
        assert node is not None
        return node.key.digest

    first = address()
    assert address(name="other") == first
    assert address(", layers: [1, 0]") != first
    lines = (folder / "d" / "dump.jsonl").read_text().splitlines()
    (folder / "d" / "dump.jsonl").write_text("\n".join(lines[1:]))
    assert address() != first


def test_a_dump_that_breaks_while_it_is_read_costs_the_other_candidates_nothing(folder: Path, sequences: Any) -> None:
    written.sglang(folder / "good", sequences)
    written.sglang(folder / "bad", sequences)
    text = (folder / "bad" / "dump.jsonl").read_text()
    place = text.index('"indexer_topk": "') + 400
    (folder / "bad" / "dump.jsonl").write_text(text[:place] + "!" + text[place + 1 :])
    candidates = "  - {name: good, selections: good, format: sglang}\n  - {name: bad, selections: bad, format: sglang}"
    plan = planned(study(folder, candidates))
    assert [node.title for node in plan.graph.some(["extract"]) if node.step.per == "dump"] == [
        "parity_rows good",
        "parity_rows bad",
    ]
    from indexscope.flows.study.plan import without

    left = without(plan, {"bad": "it is bad"})
    assert [dump.name for dump in left.dumps] == ["good"] and left.missing == {"bad": "it is bad"}
    assert left.graph.of("parity_rows", "good").key == plan.graph.of("parity_rows", "good").key  # type: ignore[union-attr]


def test_what_a_dump_holds_of_the_evidence_is_told_and_samples_without_rows_of_the_answer_are_named(
    folder: Path, sequences: Any
) -> None:
    rows = [{"input_ids": ids[:-1], "evidence_tokens": [[2, 4]], "answer": [34, 38]} for ids, _ in sequences]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    planted = [(ids, own.copy()) for ids, own in sequences]
    for place, (_, own) in enumerate(planted):
        own[33:37, :, 0] = 2 + place % 2  # one of the two tokens, and by no other entry
        own[33:37, :, 1:][np.isin(own[33:37, :, 1:], (2, 3))] = -1
    short = [(ids[:30], own[:30]) for ids, own in planted[:2]]
    written.npz(folder / "port", [*short, *planted[2:]])
    file = study(folder, "  - {name: port, selections: port, format: npz}", gates="[dumped_evidence_selected >= 0.6]")
    (note,) = [note for note in planned(file).notes if "evidence" in note]
    assert note.startswith("port: 2 of 8 samples with evidence have no rows of all queries of their answers: ")
    run = run_command("study", file)
    assert run.code == 1, run.err
    report = json.loads((Path(run.out[-1]) / "report.json").read_text())
    values = {(row["model"], row["name"]): row for row in report["metrics"] if row["layer"] is None}
    held = values["port", "dumped_evidence_selected"]
    assert held["value"] == pytest.approx(0.5) and held["n"] == 6
    lost = values["base", "evidence_selected"]
    assert lost["value"] is not None and ("port", "evidence_selected") not in values
    assert ("port", "answer_nll") not in values and ("port", "answer_exact") not in values
    html = (Path(run.out[-1]) / "report.html").read_text()
    assert "its keys hold" in html and "of the evidence" in html
