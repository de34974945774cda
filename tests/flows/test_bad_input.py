"""Bad checkpoints and data through the command line: one line, exit code 2, and nothing that looks finished."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from flows.load import load_study
from flows.plan import make_plan
from tests.flows.conftest import Run, run_command

Weights = dict[str, torch.Tensor]


def configure(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def rewrite(folder: Path, change: Callable[[Weights], Any]) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})


def truncate(light: Path) -> None:
    file = light / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def cut_header(light: Path) -> None:
    file = light / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])


def lose_a_shard(light: Path) -> None:
    (light / "model.safetensors").rename(light / "model-00001-of-00002.safetensors")
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (light / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def pickle(light: Path) -> None:
    (light / "model.safetensors").rename(light / "pytorch_model.bin")


def want_code(light: Path) -> None:
    configure(light, model_type="evil", auto_map={"AutoModelForCausalLM": "evil.Evil"})
    (light / "evil.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()")


def shrink_vocabulary(light: Path) -> None:
    configure(light, vocab_size=250)


def be_text(light: Path) -> None:
    (light.parent.parent / "data.jsonl").write_text(json.dumps({"input_ids": "some text"}))


#: What is wrong, and what the line says; all of it is found before any model runs.
BEFORE: list[tuple[Callable[[Path], None], str]] = [
    (truncate, r"models/light/model.safetensors: is truncated or damaged: "),
    (cut_header, r"models/light/model.safetensors: is truncated or no safetensors file \(100 bytes\); "),
    (lose_a_shard, r"models/light: lacks 1 of 2 weight files, first model-00002-of-00002.safetensors; "),
    (pickle, r"models/light: holds its weights as pickle only, which can run code when loaded; "),
    (want_code, r"models/light/config.json: model type 'evil' needs code of its own; .*remote code is never run"),
    (shrink_vocabulary, r"data.jsonl:\d: has token id 2\d\d, but the model's vocabulary holds ids 0 to 249; "),
    (be_text, r"data.jsonl: is text, and the checkpoint has no tokenizer; "),
]


@pytest.mark.parametrize(("spoil", "line"), BEFORE, ids=lambda value: getattr(value, "__name__", ""))
def test_what_can_be_told_before_a_model_runs_touches_nothing(
    folder: Path, spoil: Callable[[Path], None], line: str
) -> None:
    light = folder / "models" / "light"
    spoil(light)
    assert_one_line(run_command("study", folder / "study.yaml"), line)
    assert not (folder / ".indexscope").exists()
    assert not (folder / "reports").exists()
    assert not (light / "ran").exists()


def nan_weight(light: Path) -> None:
    rewrite(light, lambda weights: weights["model.norm.weight"].fill_(float("nan")))


def lose_a_weight(light: Path) -> None:
    rewrite(light, lambda weights: weights.pop("model.layers.1.self_attn.indexer.k_norm.weight"))


def gain_a_weight(light: Path) -> None:
    rewrite(light, lambda weights: weights.update({"model.layers.1.mlp.up_proj.weight_scale_inv": torch.ones(1)}))


#: Found when the model is loaded or run.
LOADED: list[tuple[Callable[[Path], None], str]] = [
    (nan_weight, r"models/light: weight model.norm.weight has 32 of 32 elements that are NaN or infinite; "),
    (lose_a_weight, r"models/light: lacks weights .*: 1, first model.layers.1.self_attn.indexer.k_norm.weight; "),
    (gain_a_weight, r"models/light: has weights that its layers would not use: 1, first model.layers.1.mlp.up_proj"),
]


@pytest.mark.parametrize("kind", ["threads", "processes"])
@pytest.mark.parametrize(("spoil", "line"), LOADED, ids=lambda value: getattr(value, "__name__", ""))
def test_what_loading_finds_leaves_no_shard(folder: Path, spoil: Callable[[Path], None], line: str, kind: str) -> None:
    if kind == "processes" and spoil is not nan_weight:
        pytest.skip("one is enough")
    spoil(folder / "models" / "light")
    arguments = ("--set", "baseline=./models/light", "--set", "candidates=[]", "--set", f"runner.kind={kind}")
    assert_refused(run_command("study", folder / "study.yaml", *arguments), line)
    assert_nothing_committed(folder, *arguments)


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_a_model_that_overflows_in_float16_leaves_no_shard(folder: Path, kind: str) -> None:
    # Every weight is finite in float16; the logits, 32 products of 6e4 added up, are not.
    rewrite(folder / "models" / "base", lambda weights: weights["lm_head.weight"].fill_(6e4))
    arguments = ("--set", "extract.dtype=float16", "--set", "candidates=[]", "--set", f"runner.kind={kind}")
    run = run_command("extract", folder / "study.yaml", *arguments)
    assert_refused(run, r"sample \d \(data.jsonl:\d\): the logits are NaN or infinite; use dtype float32")
    assert_nothing_committed(folder, *arguments)


def test_halving_is_told_in_the_narration_and_kept_in_the_report(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from analysis.features import extract

    real = extract.next_token_quality

    def run_out(logits: torch.Tensor, *more: Any) -> Any:
        if logits.shape[1] > 20:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(logits, *more)

    monkeypatch.setattr(extract, "next_token_quality", run_out)
    run = run_command("study", folder / "study.yaml", "--set", "candidates=[]", "--set", "extract.chunk=auto")
    assert run.code == 0, run.err
    halved = [("48 tokens with chunk 256", 24), ("48 tokens with chunk 24", 16), ("40 tokens with chunk 256", 20)]
    notes = [f"out of memory at {what}; going on with chunk {smaller}" for what, smaller in halved]
    told = [line.removeprefix("extract base: note: ") for line in run.out if line.startswith("extract base: note: ")]
    assert told
    assert set(told) <= set(notes)
    assert len(told) == len(set(told))
    made = json.loads((Path(run.out[-1]) / "report.json").read_text())["provenance"]["extraction"]
    assert sorted(made["extract base notes"]) == sorted(told)
    assert set(made["extract base chunks"]) <= {16, 20}


def test_a_batch_that_never_fits_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from analysis.capture import CapturedModel

    real = CapturedModel.run

    def run_out(self: CapturedModel, input_ids: torch.Tensor, *more: Any, **named: Any) -> Any:
        if input_ids.shape[1] > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")
        return real(self, input_ids, *more, **named)

    monkeypatch.setattr(CapturedModel, "run", run_out)
    run = run_command("extract", folder / "study.yaml", "--set", "candidates=[]")
    assert_refused(
        run, r"sample \d \(data.jsonl:\d\): does not fit into memory: 1 x 4\d tokens, 16 queries at a time; "
    )
    assert_nothing_committed(folder, "--set", "candidates=[]")


def test_a_measured_length_that_does_not_fit_is_told(folder: Path) -> None:
    arguments = ("--set", "candidates=[]", "--set", "extract.profile_lengths=[16, 4096]")
    run = run_command("extract", folder / "study.yaml", *arguments)
    assert run.code == 0, run.err
    assert "measure base: note: no latency at 4096 tokens: the model's positions end at 128" in run.out


def assert_one_line(run: Run, line: str) -> None:
    assert (run.code, len(run.err)) == (2, 1), run.err
    assert run.err[0].startswith("error: ") and re.search(line, run.err[0]), run.err[0]
    assert "Traceback" not in "".join(run.err + run.out)


def assert_refused(run: Run, line: str) -> None:
    """Each reason has one line, and the last says what to do next."""
    *errors, last = run.err
    assert run.code == 2 and len(set(errors)) == len(errors) > 0, run.err
    for error in errors:
        assert error.startswith("error: ") and re.search(line, error), error
    assert last.startswith("kept: ") and last.endswith("; mend that and run the same command again")
    assert "Traceback" not in "".join(run.err + run.out)


def assert_nothing_committed(folder: Path, *arguments: str) -> None:
    assert not (folder / "reports").exists()
    assert not list((folder / ".indexscope").rglob("*.parquet"))
    plan = make_plan(load_study(folder / "study.yaml", arguments[1::2]))
    statuses = plan.store.unit_statuses(plan.models[0].features, plan.units)
    assert set(statuses.values()) == {"missing"}


def test_auto_is_what_addresses_the_features_and_never_the_number_chosen(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from analysis.features import attempt

    study = load_study(folder / "study.yaml", ["extract.chunk=auto"])
    roomy = make_plan(study).models[0].features
    monkeypatch.setattr(attempt, "available_bytes", lambda _: random.randrange(1 << 20))
    tight = make_plan(study).models[0].features
    assert roomy == tight
    settings = roomy.inputs["settings"]
    assert isinstance(settings, dict)
    assert settings["chunk"] == "auto"


def test_what_the_capture_leaves_out_is_told_once_per_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from analysis.capture import CapturedModel

    note = "layer 1 (linear attention) has no attention map and is skipped"
    monkeypatch.setattr(CapturedModel, "notes", property(lambda _: (note,)))
    run = run_command("extract", folder / "study.yaml")
    assert run.code == 0, run.err
    assert [line for line in run.out if note in line] == [f"measure {name}: note: {note}" for name in ("base", "light")]
    again = run_command("extract", folder / "study.yaml")
    assert not [line for line in again.out if note in line]
