"""The command optimise on a tiny model: what it writes, how it resumes, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from indexscope.flows.optimise.split import divided
from indexscope.flows.optimise.written import FILES
from indexscope.flows.study.load import load_study
from indexscope.flows.study.plan import make_plan
from indexscope.storage.inputs.samples import Sample
from tests.flows.conftest import Run, run_command

OUT = "found"


def optimise(folder: Path, *options: object, out: str = OUT) -> Run:
    asked = ["--budget", 6, "--baselines", "none", "--max-loss", 0.05, *options]
    return run_command("optimise", folder / "study.yaml", "--out", folder / out, *asked)


def lines(folder: Path, out: str = OUT) -> list[str]:
    (file,) = (folder / out / ".work").glob("evaluations-*.jsonl")
    return file.read_text().splitlines()


@pytest.fixture(scope="module")
def searched(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    import shutil

    folder = Path(shutil.copytree(inputs, tmp_path_factory.mktemp("optimised") / "study"))
    return folder, optimise(folder, "--baselines", "greedy,even,random")


def test_a_search_writes_all_that_it_promises(searched: tuple[Path, Run]) -> None:
    folder, run = searched
    assert run.code == 0, run.err
    assert Path(run.out[-1]).name == OUT
    assert all((folder / OUT / name).is_file() for name in FILES)
    told = json.loads((folder / OUT / "search.json").read_text())
    assert len(told["calibration"]) == len(told["held out"]) == 4
    assert not set(told["calibration"]) & set(told["held out"])
    assert any(re.match(r"search, [\d.]+ of 6 evaluations: [\d.]+ % of the cost", line) for line in run.out)
    assert {"search", "greedy", "evenly spaced", "random"} == told["searches"].keys()
    assert all(one["evaluations"] <= 6 for one in told["searches"].values())


def test_the_table_holds_every_edit_and_says_what_its_columns_mean(searched: tuple[Path, Run]) -> None:
    folder, _ = searched
    table = pl.read_parquet(folder / OUT / "front.parquet")
    told = json.loads((folder / OUT / "search.json").read_text())
    assert table["search"].value_counts().sort("search").to_dicts() == [
        {"search": name, "count": one["edits"]} for name, one in sorted(told["searches"].items())
    ]
    tested = table.filter(pl.col("test").is_not_null()).sort("test")
    assert tested.height == len(told["tests"])
    assert tested["cost"].to_list() == sorted(tested["cost"], reverse=True)
    assert tested["held_out_loss"].to_list() == [one["held_out"]["mean"] for one in told["tests"]]
    assert table["cost"].min() > 0  # type: ignore[operator]


def test_the_study_that_it_writes_can_be_run(searched: tuple[Path, Run]) -> None:
    folder, _ = searched
    told = json.loads((folder / OUT / "search.json").read_text())
    study = load_study(folder / OUT / "optimised.yaml")
    chosen = [one for one in told["tests"] if one["holds"]] or told["tests"]
    assert study.candidates[0].name == "light"
    for candidate, one in zip(study.candidates[1:], reversed(chosen), strict=True):
        assert candidate.edit is not None
        assert candidate.edit.model_dump(mode="json", exclude_defaults=True) == one["edit"]
    assert run_command("study", folder / OUT / "optimised.yaml", "--dry-run").code == 0


def test_the_study_that_it_writes_measures_no_sample_that_the_search_saw(searched: tuple[Path, Run]) -> None:
    folder, _ = searched
    told = json.loads((folder / OUT / "search.json").read_text())
    rows = [json.loads(row)["input_ids"] for row in (folder / "data.jsonl").read_text().splitlines()]
    sides = {
        side: {tuple(rows[int(name.rpartition(":")[2]) - 1]) for name in told[side]}
        for side in ("calibration", "held out")
    }
    measured = {sample.input_ids for sample in make_plan(load_study(folder / OUT / "optimised.yaml")).samples}
    assert measured == sides["held out"] and not measured & sides["calibration"]


def test_a_finished_search_is_not_made_again(searched: tuple[Path, Run], no_model: None) -> None:
    folder, _ = searched
    before = {file.name: file.read_bytes() for file in (folder / OUT).iterdir() if file.is_file()}
    run = optimise(folder, "--baselines", "greedy,even,random")
    assert run.code == 0
    assert run.out[0].startswith("finished already: ")
    assert before == {file.name: file.read_bytes() for file in (folder / OUT).iterdir() if file.is_file()}


def test_another_bound_reuses_what_was_run(searched: tuple[Path, Run]) -> None:
    folder, _ = searched
    before = lines(folder)
    run = optimise(folder, "--max-loss", 1000)
    assert run.code == 0
    assert any(line.startswith("going on: ") for line in run.out)
    assert lines(folder)[: len(before)] == before


def test_a_killed_search_resumes_to_the_same_end(folder: Path) -> None:
    whole = optimise(folder, out="whole")
    assert whole.code == 0
    code = "import sys; from indexscope.flows.start import main; sys.argv[0] = 'indexscope'; main()"
    asked = ["optimise", str(folder / "study.yaml"), "--out", str(folder / OUT), "--budget", "6"]
    asked += ["--baselines", "none", "--max-loss", "0.05"]
    process = subprocess.Popen([sys.executable, "-c", code, *asked], stdout=subprocess.DEVNULL, env={**os.environ})
    deadline = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < deadline:
        found = list((folder / OUT / ".work").glob("*.jsonl"))
        if found and found[0].read_bytes().count(b"\n") >= 3:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    process.wait(30)
    kept = lines(folder)
    (file,) = (folder / OUT / ".work").glob("*.jsonl")
    with file.open("ab") as torn:
        torn.write(b'{"edit":{"topk"')
    assert optimise(folder).code == 0
    assert lines(folder)[: len(kept)] == kept, "nothing is run twice"

    def without_seconds(rows: list[str]) -> list[dict[str, object]]:
        return [{key: value for key, value in json.loads(row).items() if key != "seconds"} for row in rows]

    assert without_seconds(lines(folder)) == without_seconds(lines(folder, "whole"))
    assert (folder / OUT / "front.parquet").read_bytes() == (folder / "whole" / "front.parquet").read_bytes()
    assert (folder / OUT / "optimised.md").read_text() == (folder / "whole" / "optimised.md").read_text()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--max-loss", -1], "error: --max-loss -1: is no loss that may be allowed; give 0 or more"),
        (["--loss", "bleu"], "error: --loss bleu: is not known; choose nll, output_kl, skill"),
        (["--cost", "money"], "error: --cost money: is not known; choose attention, indexer, latency"),
        (["--budget", "much"], "error: --budget much: is no budget; give evaluations, as in 40, or a time, as in 5min"),
        (["--budget", "0.5"], "error: --budget 0.5: is too little to search with; give 2 evaluations or more"),
        (["--calibration", 2], "error: --calibration 2: is no share; give a number between 0 and 1"),
        (
            ["--calibration", "./none.jsonl"],
            "error: --calibration ./none.jsonl: is no share, and there is no such file",
        ),
        (["--model", "dark"], "is no model of"),
        (["--model", "dark"], "choose one with --model: base, light"),
        (["--baselines", "best"], "error: --baselines best: is not known; choose greedy, even, random"),
        (["--seed", -1], "error: --seed -1: is out of range; give 0 to 4294967295"),
        (["--out", "s3://bucket/there"], "error: s3://bucket/there: is an address"),
        (["--set", "dataset.samples=6"], "has 6 samples; a search and its test need 8 at least"),
        (["--set", "baseline={selections: data.jsonl, format: npz}", "--set", "candidates=[]"], "baseline"),
    ],
)
def test_what_cannot_be_searched_ends_in_one_line(
    folder: Path, no_model: None, options: list[object], line: str
) -> None:
    run = run_command("optimise", folder / "study.yaml", *options)
    assert run.code == 2
    assert len(run.err) == 1 and line in run.err[0]
    assert not (folder / "reports").exists()


def test_a_model_without_an_indexer_is_refused_in_one_line(folder: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=64,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "models" / "dense")
    run = optimise(folder, "--set", "baseline=models/dense", "--set", "candidates=[]")
    assert run.code == 2
    assert len(run.err) == 1 and "no indexer" in run.err[0]


def test_no_document_is_on_both_sides() -> None:
    samples = [Sample(place, f"book {place // 3}@{100 * (place % 3)}", (1,)) for place in range(30)]
    split = divided(samples, 0.5, "data")
    documents = [
        {samples[index].name.partition("@")[0] for index in side} for side in (split.calibration, split.held_out)
    ]
    assert not documents[0] & documents[1]
    assert len(split.calibration) in (15, 16, 17) and len(split.calibration) + len(split.held_out) == 30
    assert divided(samples, 0.5, "data") == split
    assert len(divided(samples, 0.2, "data").calibration) in (6, 7, 8)
