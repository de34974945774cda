"""`indexscope fit`, from a file to folders that a study can use."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM

from indexscope import IndexscopeError
from indexscope.analysis.features import extract_samples
from indexscope.analysis.fitting.selector import lay_over
from indexscope.analysis.settings import ExtractSettings
from indexscope.flows.fitting.flow import job_of
from indexscope.flows.fitting.load import load_fit
from indexscope.flows.fitting.plan import make_plan
from indexscope.flows.study.load import load_study
from indexscope.flows.study.plan import make_plan as make_study_plan
from indexscope.storage.inputs.checkpoints import load_model
from indexscope.storage.inputs.fitted import load_fitted
from indexscope.storage.store.locks import run_lock
from indexscope.tasks.common.fitting import STATE, fitted_of, train_indexers
from tests.flows.conftest import run_command
from tests.tiny import save_fit, save_model

FILE = """\
model: model
dataset: {source: data.jsonl, column: input_ids, max_length: 32, samples: 24}
held_out: {samples: 3, queries: 32}
indexers: [{heads: 2, dim: 16}, {heads: 1, dim: 8}]
topk: [4, 8]
stages: {dense: 8, sparse: 4}
training: {evaluate_every: 5, checkpoint_every: 3, queries: 16, chunk: 16}
"""
RESULTS = ("h2-d16/indexer.safetensors", "h2-d16/indexer.json", "h2-d16/MODEL_CARD.md", "h1-d8/indexer.safetensors")
RESULTS += ("curves.parquet", "held_out.parquet", "h2-d16/checkpoint/model.safetensors", "fit.json")


def made(folder: Path) -> Path:
    save_model(folder / "model", 2, 1)
    return save_fit(folder, FILE, sequences=80)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished fit."""
    file = made(tmp_path_factory.mktemp("fit"))
    run = run_command("fit", str(file))
    assert run.code == 0, run.err
    assert run.out[-2].startswith("fitted: ")
    assert run.out[-1] == f"compare them: indexscope study {file.parent / 'fitted' / 'study.yaml'}"
    assert sum("; recall " in line for line in run.out) == 4
    assert sum(line.startswith("step 16: ") for line in run.out) == 4
    return file.parent


def test_a_finished_fit_holds_indexers_curves_and_cards(finished: Path) -> None:
    out = finished / "fitted"
    assert all((out / name).is_file() for name in RESULTS)
    assert not (out / ".work").exists()
    curves, held_out = (pl.read_parquet(out / f"{name}.parquet") for name in ("curves", "held_out"))
    assert len(curves) == 2 * 8 * 2 + 2 * 4 * 2
    assert sorted(held_out["step"].unique()) == [5, 8, 10, 15, 16]
    final = held_out.filter(attention="sparse")
    assert set(final["topk"]) == {4, 8}
    assert (final["selection_recall"] <= final["oracle_recall"] + 1e-9).all()
    card = (out / "h2-d16" / "MODEL_CARD.md").read_text()
    assert "# Lightning indexer h2-d16" in card
    assert "checkpoint/` is a whole deepseek_v32 model" in card
    assert "There is no whole deepseek_v32 checkpoint" not in card
    assert (out / "curves.svg").read_text().startswith("<?xml") or "<svg" in (out / "curves.svg").read_text()


def test_a_fit_ends_in_a_study_of_the_sweep_and_what_bounds_it_on_the_held_out_text(finished: Path) -> None:
    fit = make_plan(load_fit(finished / "fit.yaml"))
    study = make_study_plan(load_study(finished / "fitted" / "study.yaml"))
    names = ["h2-d16 k4", "h2-d16 k8", "h1-d8 k4", "h1-d8 k8", "oracle k4", "oracle k8", "window k8", "random k8"]
    assert [model.name for model in study.models] == ["model", *names]
    assert [model.info.index_topk for model in study.models] == [8, 4, 8, 4, 8, 4, 8, 8, 8]
    ids = [sorted(sample.input_ids for sample in samples) for samples in (study.samples, fit.held_out)]
    assert ids[0] == ids[1]


def test_what_the_record_says_of_recall_is_what_a_study_of_the_laid_over_model_says(finished: Path) -> None:
    plan = make_plan(load_fit(finished / "fit.yaml"))
    stored = load_fitted(finished / "fitted" / "h2-d16")
    assert stored.parts.model == plan.fingerprint
    model = lay_over(load_model(finished / "model"), fitted_of(stored), 4)
    table = extract_samples(model, plan.held_out, ExtractSettings())["indexer"]
    held_out = pl.read_parquet(finished / "fitted" / "held_out.parquet").filter(
        attention="sparse", indexer="h2-d16", topk=4
    )
    for row in held_out.iter_rows(named=True):
        own = table.filter(sample=plan.held_out[row["sample"]].index, layer=row["layer"])
        weight = own["queries_in_effect"]
        assert row["queries_in_effect"] == weight.sum()
        for name in ("selection_recall", "oracle_recall", "random_recall"):
            assert row[name] == pytest.approx(float((own[name] * weight).sum()) / weight.sum(), rel=1e-5), name


def test_the_checkpoint_loads_by_itself_and_holds_the_indexer(finished: Path) -> None:
    folder = finished / "fitted" / "h2-d16"
    loaded = AutoModelForCausalLM.from_pretrained(folder / "checkpoint")
    assert (loaded.config.model_type, loaded.config.index_topk, loaded.config.index_n_heads) == ("deepseek_v32", 8, 2)
    weights = load_fitted(folder).weights
    for layer, block in enumerate(loaded.model.layers):
        for name, one in block.self_attn.indexer.state_dict().items():
            assert torch.equal(one, weights[f"layers.{layer}.{name}"])


def test_a_finished_fit_is_not_made_again_and_another_is_refused(finished: Path) -> None:
    file = str(finished / "fit.yaml")
    before = {path: path.stat().st_mtime_ns for path in (finished / "fitted").rglob("*")}
    run = run_command("fit", file)
    assert (run.code, run.err) == (0, [])
    assert run.out == [f"nothing to do: {finished / 'fitted'} holds this fit"]
    assert run_command("fit", file, "--dry-run").out[-1] == run.out[-1]
    assert run_command("fit", file, "--set", "training.checkpoint_every=7").out == run.out
    other = run_command("fit", file, "--set", "stages.dense=9")
    assert other.code == 2
    assert "holds a fit of other settings or data (stages.dense); choose another folder" in other.err[0]
    assert before == {path: path.stat().st_mtime_ns for path in (finished / "fitted").rglob("*")}


def test_a_dry_run_says_what_would_be_fitted_and_writes_nothing(tmp_path: Path) -> None:
    file = made(tmp_path)
    run = run_command("fit", str(file), "--dry-run", "--set", "out=other")
    assert run.code == 0
    assert run.out[1:3] == [
        "24 sequences of 32 tokens, 3 held out",
        "16 steps of 1 (8 dense, 4 sparse for each indexer); 4, 8 keys",
    ]
    assert run.out[-1] == f"results would go to {tmp_path / 'other'}"
    assert not (tmp_path / "other").exists()


def test_what_is_cut_or_left_out_of_texts_with_answers_is_said_before_anything_is_trained(tmp_path: Path) -> None:
    file = made(tmp_path)
    long, exact, short = (
        {"input_ids": [3 + place % 90 for place in range(length)], "evidence_tokens": [[2, 4]], "answer": answer}
        for length, answer in ((60, [50, 55]), (32, [28, 32]), (20, [18, 20]))
    )
    rows = [long] * 60 + [exact] * 60 + [short] * 60
    for number, row in enumerate(rows):
        row = {**row, "input_ids": [number + 3, *row["input_ids"][1:]]}
        rows[number] = row
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = run_command("fit", str(file), "--dry-run", "--set", "dataset.samples=null")
    assert run.code == 0, run.err
    plan = make_plan(load_fit(file, ["dataset.samples=null"]))
    both = [re.search(r"warning: (\w+): of (\d+) texts with an answer, (\d+) are cut off", line) for line in run.err]
    assert [found[1] for found in both if found] == ["dataset", "held_out"] and tuple(run.err) == plan.warnings
    assert all(line.endswith("all sequences of a fit have dataset.max_length (32) tokens") for line in run.err)
    first = both[0]
    assert first is not None and 40 <= int(first[3]) <= 60 and "are shorter and left out" in run.err[0]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[60:120]))
    assert run_command("fit", str(file), "--dry-run").err == []


KILLED = """\
import os, signal, sys
from indexscope.flows.fitting.flow import job_of
from indexscope.flows.fitting.load import load_fit
from indexscope.flows.fitting.plan import make_plan
from indexscope.tasks.common.fitting import train_indexers

def told(step, steps, kl, recall):
    if step == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

train_indexers.fn(job_of(make_plan(load_fit(sys.argv[1]))), told=told)
"""


@pytest.mark.parametrize("step", [7, 11])
def test_a_fit_that_was_killed_goes_on_to_the_same_bytes(finished: Path, tmp_path: Path, step: int) -> None:
    file = made(tmp_path)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(file), str(step)], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (tmp_path / "fitted" / ".work" / STATE).is_file()
    steps: list[int] = []
    train_indexers.fn(job_of(make_plan(load_fit(file))), told=lambda step, *_: steps.append(step))
    assert steps[0] == step // 3 * 3 + 1
    run = run_command("fit", str(file))
    assert run.code == 0, run.err
    for name in RESULTS:
        assert (tmp_path / "fitted" / name).read_bytes() == (finished / "fitted" / name).read_bytes(), name


def test_a_damaged_state_is_left_and_the_fit_begins_anew(finished: Path, tmp_path: Path) -> None:
    file = made(tmp_path)
    state = tmp_path / "fitted" / ".work" / STATE
    state.parent.mkdir(parents=True)
    state.write_bytes(b"no safetensors file")
    assert run_command("fit", str(file)).code == 0
    name = "h2-d16/indexer.safetensors"
    assert (tmp_path / "fitted" / name).read_bytes() == (finished / "fitted" / name).read_bytes()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("modle=x", "--set modle: unknown key; did you mean 'model'?"),
        ("training.chunks=3", "--set training.chunks: unknown key; did you mean 'chunk'?"),
        ("indexers=[{heads: 0, dim: 8}]", "should be greater than or equal to 1, not 0"),
        ("indexers=[{heads: 2, dim: 7}]", "dim 7 is odd, and RoPE rotates pairs of dimensions"),
        ("indexers=[{heads: 2, dim: 8}, {heads: 2, dim: 8}]", "has h2-d8 twice"),
        ("topk=[8, 4]", "the numbers must increase"),
        ("topk=[32]", "has a topk of 32 in sequences of 32 tokens, which would select every key; lower topk"),
        ("stages={dense: 0, sparse: 0}", "has no steps in stages"),
        ("model=./nowhere", "there is no "),
        ("dataset.source=./nowhere.jsonl", "there is no "),
        ("dataset.column=words", "has no column 'words'"),
        ("dataset.max_length=256", "is 256, but the model's positions end at 128"),
        ("dataset.max_length=100", "documents have no sequence of 100 tokens"),
        ("dataset.source=builtin:python-stdlib", "has no tokenizer"),
        ("out=s3://bucket/fitted", "is an address; give a local folder"),
        ("out=model", "holds other files; choose an empty folder"),
        ("out=fit.yaml", "is not a folder"),
    ],
)
def test_what_is_wrong_with_a_fit_is_said_in_one_line_and_nothing_is_written(
    tmp_path: Path, override: str, said: str
) -> None:
    file = made(tmp_path)
    run = run_command("fit", str(file), "--set", override)
    assert run.code == 2
    assert len(run.err) == 1
    assert said in run.err[0]
    assert not (tmp_path / "fitted").exists()


def test_a_file_that_is_not_there_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    run = run_command("fit", str(tmp_path / "none.yaml"))
    assert (run.code, len(run.err)) == (2, 1)
    assert "there is no such file; write one as docs/fitting.md has it" in run.err[0]


def test_a_damaged_indexer_is_refused_in_one_line(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "h2-d16"
    shutil.copytree(finished / "fitted" / "h2-d16", folder)
    whole = load_fitted(folder)
    description = json.loads((folder / "indexer.json").read_text())

    def refused(said: str) -> None:
        with pytest.raises(IndexscopeError, match=said):
            load_fitted(folder)

    (folder / "indexer.json").write_text(json.dumps({**description, "about": {}}))
    assert load_fitted(folder).fingerprint == whole.fingerprint
    (folder / "indexer.json").write_text(json.dumps({**description, "heads": 3}))
    refused("k_norm|wq_b.weight has shape|weights_proj.weight has shape")
    (folder / "indexer.json").write_text(json.dumps({**description, "format": 9}))
    refused("indexer.json: format")
    (folder / "indexer.json").write_text("{")
    refused("is not valid JSON")
    (folder / "indexer.json").write_text(json.dumps(description))
    data = (folder / "indexer.safetensors").read_bytes()
    (folder / "indexer.safetensors").write_bytes(data[:-8])
    refused("truncated|shorter")
    changed = bytearray(data)
    changed[-1] ^= 1
    (folder / "indexer.safetensors").write_bytes(bytes(changed))
    assert load_fitted(folder).fingerprint != whole.fingerprint
    (folder / "indexer.safetensors").unlink()
    refused("holds no fitted indexer")
    shutil.rmtree(folder)
    refused("does not exist")


def test_two_fits_do_not_write_into_one_folder(tmp_path: Path) -> None:
    file = made(tmp_path)
    (tmp_path / "fitted").mkdir()
    with run_lock(tmp_path / "fitted" / ".lock", "-"):
        run = run_command("fit", str(file))
    assert run.code == 2 and len(run.err) == 1 and "is being written by another run" in run.err[0], run.err
    assert [path.name for path in (tmp_path / "fitted").iterdir()] == [".lock"]
