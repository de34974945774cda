"""From `fit.yaml` to one report: fitted, searched, and measured on text held out from both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM

from indexscope.flows.fitting.load import load_fit
from indexscope.flows.fitting.plan import make_plan
from indexscope.flows.study.load import load_study
from indexscope.flows.study.plan import make_plan as make_study_plan
from tests.flows.conftest import Run, run_command
from tests.tiny import save_fit

FILE = """\
model: model
dataset: {source: data.jsonl, column: input_ids, max_length: 32, samples: 24}
held_out: {samples: 8, queries: 32}
indexers: [{heads: 2, dim: 16}, {heads: 1, dim: 8}]
topk: [4, 8]
share: [1, 2]
optimise: {max_loss: 0.5, budget: 4, samples: 4}
stages: {dense: 4, sparse: 2}
training: {evaluate_every: 10, queries: 16, chunk: 16}
"""
FITTED = ["h2-d16 k4", "h2-d16 k4 every 2nd", "h2-d16 k8", "h2-d16 k8 every 2nd"]
FITTED += ["h1-d8 k4", "h1-d8 k4 every 2nd", "h1-d8 k8", "h1-d8 k8 every 2nd"]
BOUNDS = ["oracle k4", "oracle k8", "window k8", "random k8"]
FAST = ["closeup.samples=1", "closeup.rerun_samples=1", "extract.profile_repeats=1", "extract.profile_lengths=[16]"]


def made(folder: Path) -> Path:
    config = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=128,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    return save_fit(folder, FILE, sequences=140)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """A folder with a finished fit and its searches."""
    file = made(tmp_path_factory.mktemp("sweep"))
    run = run_command("fit", file)
    assert run.code == 0, run.err
    return file.parent, run


def found(folder: Path) -> dict[str, dict[str, object]]:
    """What each search left."""
    return {
        size: json.loads((folder / "fitted" / "optimised" / size / "search.json").read_text())
        for size in ("h2-d16", "h1-d8")
    }


def test_a_fit_that_searches_ends_in_one_study_of_sizes_keys_shared_layers_finds_and_bounds(
    finished: tuple[Path, Run],
) -> None:
    folder, run = finished
    study = load_study(folder / "fitted" / "study.yaml")
    names = [model.name for model in study.candidates]
    finds = names[len(FITTED) : -len(BOUNDS)]
    assert names[: len(FITTED)] == FITTED and names[-len(BOUNDS) :] == BOUNDS
    told = found(folder)
    wanted = [[one["edit"] for one in reversed(each["tests"]) if one["holds"]] for each in told.values()]  # type: ignore[attr-defined]
    edits = [model.edit for model in study.candidates if model.name in finds]
    assert all(wanted), "the bound is wide"
    dumped = [edit.model_dump(mode="json", exclude_defaults=True) for edit in edits if edit is not None]
    assert dumped == [edit for each in wanted for edit in each]
    assert [name.partition(" k8 at ")[0] for name in finds] == [
        size for size, each in zip(told, wanted, strict=True) for _ in each
    ]
    assert run.out[-1] == f"compare them: indexscope study {folder / 'fitted' / 'study.yaml'}"
    text = (folder / "fitted" / "study.yaml").read_text()
    assert all(f"# {one['found']}" in text for one in told.values())


def test_layers_share_where_the_sweep_has_them_share(finished: tuple[Path, Run]) -> None:
    folder, _ = finished
    raw = yaml.safe_load((folder / "fitted" / "study.yaml").read_text())
    shared = [one for one in raw["candidates"] if one["name"].endswith("every 2nd")]
    assert [one["edit"] for one in shared] == [{"share": "FS"}] * 4
    assert {(one["indexer"], one["topk"]) for one in shared} == {(s, k) for s in ("h2-d16", "h1-d8") for k in (4, 8)}


def test_no_sample_is_both_learned_from_or_searched_on_and_measured(finished: tuple[Path, Run]) -> None:
    folder, _ = finished
    plan = make_plan(load_fit(folder / "fit.yaml"))
    trained, calibrated, held_out = (
        {sample.input_ids for sample in samples} for samples in (plan.training, plan.calibration, plan.held_out)
    )
    assert (len(trained), len(calibrated), len(held_out)) == (24, 4, 8)
    assert not held_out & trained and not held_out & calibrated and not trained & calibrated
    study = make_study_plan(load_study(folder / "fitted" / "study.yaml"))
    assert {sample.input_ids for sample in study.samples} == held_out
    documents = {sample.name for sample in plan.held_out}
    for told in found(folder).values():
        assert set(told["held out"]) == documents  # type: ignore[call-overload]
        assert set(told["calibration"]) == {sample.name for sample in plan.calibration}  # type: ignore[call-overload]


def test_a_finished_sweep_is_not_made_again_and_an_interrupted_one_goes_on(
    finished: tuple[Path, Run], no_model: None
) -> None:
    folder, _ = finished
    out = folder / "fitted"
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    run = run_command("fit", folder / "fit.yaml")
    assert (run.code, run.err, run.out) == (0, [], [f"nothing to do: {out} holds this fit"])
    text = (out / "study.yaml").read_bytes()
    (out / "study.yaml").write_text("name: torn")
    run = run_command("fit", folder / "fit.yaml")
    assert run.out == [f"written anew: {out / 'study.yaml'}", f"nothing to do: {out} holds this fit"]
    assert (out / "study.yaml").read_bytes() == text
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_search_that_was_cut_off_goes_on_from_what_it_ran(finished: tuple[Path, Run], tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(finished[0], tmp_path / "copy"))
    searched = folder / "fitted" / "optimised" / "h1-d8"
    (searched / "search.json").unlink()
    (runs,) = (searched / ".work").glob("*.jsonl")
    whole = runs.read_text().splitlines()
    runs.write_text("\n".join(whole[:9]) + "\n")
    run = run_command("fit", folder / "fit.yaml")
    assert run.code == 0, run.err
    assert "going on: " in "\n".join(run.out) and not any(line.startswith("step ") for line in run.out)
    assert runs.read_text().splitlines()[:9] == whole[:9]
    assert (searched / "front.parquet").read_bytes() == (
        finished[0] / "fitted" / "optimised" / "h1-d8" / "front.parquet"
    ).read_bytes()


def test_another_search_of_the_same_fit_trains_nothing(finished: tuple[Path, Run], tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(finished[0], tmp_path / "copy"))
    weights = (folder / "fitted" / "h2-d16" / "indexer.safetensors").stat().st_mtime_ns
    run = run_command("fit", folder / "fit.yaml", "--set", "optimise.max_loss=0", "--set", "optimise.indexers=[h2-d16]")
    assert run.code == 0, run.err
    assert not any(line.startswith("step ") for line in run.out)
    assert (folder / "fitted" / "h2-d16" / "indexer.safetensors").stat().st_mtime_ns == weights


def test_one_report_has_them_all_with_limits_and_a_sentence_each(finished: tuple[Path, Run], tmp_path: Path) -> None:
    folder, _ = finished
    raw = yaml.safe_load((folder / "fitted" / "study.yaml").read_text())
    finds = [one for one in raw["candidates"] if " at " in one["name"]]
    some = {"h2-d16 k8", "h2-d16 k8 every 2nd", "h1-d8 k8", "oracle k4", "oracle k8", finds[0]["name"]}
    raw["candidates"] = [one for one in raw["candidates"] if one["name"] in some]
    (folder / "fitted" / "some.yaml").write_text(yaml.safe_dump(raw))
    less = [*FAST, f"store={tmp_path / 'store'}", f"report={tmp_path / 'reports'}"]
    run = run_command("study", folder / "fitted" / "some.yaml", *(word for one in less for word in ("--set", one)))
    (folder / "fitted" / "some.yaml").unlink()
    assert run.code == 0, run.err
    report = json.loads((Path(run.out[-1]) / "report.json").read_text())
    names = [one["name"] for one in report["models"]]
    assert set(names) == {"dense", *some}
    cost = {row["model"]: row["value"] for row in report["metrics"] if row["name"] == "relative_cost"}
    assert cost["dense"] == 1
    assert cost["oracle k4"] < cost["oracle k8"] < cost["h2-d16 k8 every 2nd"] < cost["h2-d16 k8"]
    for size, one in found(folder).items():
        for test in one["tests"]:  # type: ignore[attr-defined]
            if test["name"] in cost:
                assert cost[test["name"]] / cost[f"{size} k8"] == pytest.approx(test["cost"], rel=1e-3)
    told = (Path(run.out[-1]) / "report.md").read_text()
    quoted = [
        line for line in told.splitlines() if "of the cost of dense attention" in line and "n = 8 samples" in line
    ]
    for name in names[1:]:
        assert any(name in line for line in quoted), name
    page = (Path(run.out[-1]) / "report.html").read_text()
    assert 'id="figure-study-sweep"' in page and 'id="figure-study-tradeoff"' not in page


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("share=[0]", "should be greater than or equal to 1, not 0"),
        ("share=[2, 1]", "the numbers must increase"),
        ("share=[1, 3]", "share: is 3, but the model has 2 layers; lower it"),
        ("optimise.budget=much", "is no budget; give evaluations, as in 40, or a time, as in 5min"),
        ("optimise.budget=1", "is too little to search with; give 2 evaluations or more"),
        ("optimise.max_loss=-1", "should be greater than or equal to 0, not -1"),
        ("optimise.loss=bleu", "optimise.loss"),
        ("optimise.seeds=1", "unknown key; did you mean 'seed'?"),
        ("optimise.indexers=[h9-d9]", "has no indexer h9-d9 that optimise.indexers names; choose of h2-d16, h1-d8"),
        ("held_out.samples=2", "optimise: calibrates on 4 sequences and tests on 2; give data and held_out.samples"),
        ("held_out.source=data.jsonl", "sequences of what is trained on, among 8; give other text"),
    ],
)
def test_what_is_wrong_with_a_sweep_is_said_in_one_line_before_anything_is_fitted(
    tmp_path: Path, override: str, said: str
) -> None:
    file = made(tmp_path)
    run = run_command("fit", file, "--set", override)
    assert (run.code, len(run.err)) == (2, 1) and said in run.err[0], run.err
    assert not (tmp_path / "fitted").exists()


def test_a_dry_run_says_what_would_be_searched(tmp_path: Path) -> None:
    run = run_command("fit", made(tmp_path), "--dry-run")
    assert "then cheaper edits of h2-d16, h1-d8 are searched, calibrated on 4 other sequences" in run.out


def test_a_fitted_indexer_of_a_study_is_searched_by_name_and_stands_beside_the_others(
    finished: tuple[Path, Run], tmp_path: Path
) -> None:
    file = finished[0] / "fitted" / "study.yaml"
    told = ["--calibration", file.parent / "calibration.jsonl", "--budget", 4, "--baselines", "none"]
    plain = run_command("optimise", file, "--out", tmp_path / "found", *told)
    assert (plain.code, len(plain.err)) == (2, 1)
    assert (
        "dense: has no indexer that could be edited" in plain.err[0]
        and "choose one with --model: h2-d16 k4, h2-d16 k8" in plain.err[0]
    )
    assert not (tmp_path / "found").exists()
    told += ["--model", "h2-d16 k4", "--max-loss", 0.5]
    run = run_command("optimise", file, "--out", tmp_path / "found", *told)
    assert run.code == 0, run.err
    before, after = (load_study(one) for one in (file, tmp_path / "found" / "optimised.yaml"))
    assert after.candidates[: len(before.candidates)] == before.candidates
    new = after.candidates[len(before.candidates) :]
    assert new and all(one.edit is not None and one.indexer.endswith("h2-d16") and one.topk == 4 for one in new)
    again = run_command("optimise", file, "--out", tmp_path / "found", *told)
    assert again.out[0].startswith("finished already: ")


def test_text_on_which_finds_are_measured_does_not_calibrate(finished: tuple[Path, Run], tmp_path: Path) -> None:
    file = finished[0] / "fitted" / "study.yaml"
    told = ["--model", "h2-d16 k4", "--calibration", file.parent / "held_out.jsonl"]
    run = run_command("optimise", file, "--out", tmp_path / "found", *told)
    assert (run.code, len(run.err)) == (2, 1)
    assert "holds 8 of the 8 samples on which the study measures what is found; give other text" in run.err[0]
