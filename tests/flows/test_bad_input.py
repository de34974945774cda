"""Bad checkpoints and data through the command line: one line, exit code 2, and nothing that looks finished."""

from __future__ import annotations

import errno
import json
import random
import re
import shutil
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from indexscope.flows.study.load import load_study
from indexscope.flows.study.plan import make_plan
from indexscope.storage.store.store import Store, step_key
from tests.flows.conftest import Run, address, run_command

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
    (want_code, r"models/light/config.json: model type 'evil' needs code of its own; .*write a loader"),
    (shrink_vocabulary, r"data.jsonl:\d: has token id 2\d\d, but the model's vocabulary holds ids 0 to 249; "),
    (be_text, r"data.jsonl: is text, and the baseline has no tokenizer; "),
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


OWN_CONFIG = "use the config.json that belongs to these weights"
STORED = "save the model unquantised in bfloat16, or stored in a way that can be read here: "
COPY = "copy or download the checkpoint again"


def in_study(line: str) -> Callable[[Path], None]:
    """Put a line first in the study file, instead of what it has under that key."""

    def change(folder: Path) -> None:
        file = folder / "study.yaml"
        key = line.partition(":")[0]
        others = {name: value for name, value in yaml.safe_load(file.read_text()).items() if name != key}
        file.write_text(f"{line}\n{yaml.safe_dump(others)}")

    return change


def in_config(text: str = "", **changes: Any) -> Callable[[Path], None]:
    """Change keys of the candidate's config.json, or put text before its first key."""

    def change(folder: Path) -> None:
        configure(folder / "models" / "light", **changes)
        file = folder / "models" / "light" / "config.json"
        file.write_text(file.read_text().replace("{", "{" + text, 1))

    return change


def beside(name: str, content: bytes) -> Callable[[Path], None]:
    """Put a file beside the candidate's weights."""

    def change(folder: Path) -> None:
        (folder / "models" / "light" / name).write_bytes(content)

    return change


def config_is_a_folder(folder: Path) -> None:
    (folder / "models" / "light" / "config.json").unlink()
    (folder / "models" / "light" / "config.json").mkdir()


def index_is_damaged(folder: Path) -> None:
    light = folder / "models" / "light"
    (light / "model.safetensors").unlink()
    (light / "model.safetensors.index.json").write_text("{}")


def corrupt_parquet(folder: Path) -> None:
    bad = pa.array([b"fine", b"\xff\xfe"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 2, bad.buffers())
    pq.write_table(pa.table({"text": text}), folder / "bad.parquet")
    (folder / "study.yaml").write_text("baseline: models/base\ndataset: {source: bad.parquet}\n")


CONFIG, LIGHT = "{folder}/models/light/config.json", "{folder}/models/light"
#: What is wrong, and the line, where "{folder}" is the study's. All were tracebacks, or taken for something else.
FOREIGN: list[tuple[Callable[[Path], None], str]] = [
    (
        in_study("name: 2026-02-30"),
        "{folder}/study.yaml:1: is not YAML: '2026-02-30' cannot be read as a date; "
        "see `indexscope init` for a commented example",
    ),
    (in_study("name: 2026-02-28"), "{folder}/study.yaml: name: should be text, not 2026-02-28; put it in quotes"),
    (
        in_study("shard_size: !!int foo"),
        "{folder}/study.yaml:1: is not YAML: 'foo' cannot be read as an integer; "
        "see `indexscope init` for a commented example",
    ),
    (
        in_study("shard_size: " + "9" * 5000),
        f"{{folder}}/study.yaml:1: is not YAML: '{'9' * 19}…{'9' * 19}' cannot be read as an integer; "
        "see `indexscope init` for a commented example",
    ),
    (
        in_study("shard_size: true"),
        "{folder}/study.yaml: shard_size: should be a number, not true; "
        "Samples a shard: the unit of work, of retry and of caching",
    ),
    (
        in_study("candidates: 3"),
        "{folder}/study.yaml: candidates: should be a list, not 3; Models to compare with the baseline, "
        "or selections that an engine dumped (docs/selections.md); none is fine",
    ),
    (
        in_study("store: data.jsonl"),
        "store: {folder}/data.jsonl: cannot be written ({folder}/data.jsonl is not a folder); *",
    ),
    (
        in_study("store: data.jsonl/below"),
        "store: {folder}/data.jsonl/below: cannot be written ({folder}/data.jsonl is not a folder); *",
    ),
    (in_study("store: " + "x" * 5000), "*: cannot be read (File name too long); give a folder that you may read"),
    (
        in_study("plugins: /dev/zero"),
        "/dev/zero: cannot be read (it is no file); give a Python file that declares metrics",
    ),
    (config_is_a_folder, f"{CONFIG}: cannot be read (it is no file); {COPY}"),
    (
        in_config(rms_norm_eps=float("nan")),
        f"{CONFIG}: is not valid JSON (rms_norm_eps is NaN, which JSON does not have); save or download the checkpoint "
        "again",
    ),
    (
        in_config('"vocab_size": 1e999, "x": {"vocab_size": 3}, '),
        f"{CONFIG}: is not valid JSON (key 'vocab_size' occurs twice); save or download the checkpoint again",
    ),
    (
        in_config('"x": [{"y": 1e999}], '),
        f"{CONFIG}: is not valid JSON (x.0.y is Infinity, which JSON does not have); save or download the checkpoint "
        "again",
    ),
    (
        in_config(f'"x": {"9" * 5000}, '),
        f"{CONFIG}: is not valid JSON (a number has thousands of digits); save or download the checkpoint again",
    ),
    (
        in_config(f'"x": {"[" * 300}{"]" * 300}, '),
        f"{CONFIG}: is not valid JSON (it is nested too deeply); save or download the checkpoint again",
    ),
    (
        in_config(num_hidden_layers=5),
        f"{CONFIG}: contradicts itself (`num_hidden_layers` (5) must be equal to the number of `layer_types` (2)); "
        f"{OWN_CONFIG}",
    ),
    (
        in_config(num_hidden_layers="two"),
        f"{CONFIG}: num_hidden_layers: is 'two', not a whole number above 0; {OWN_CONFIG}",
    ),
    (in_config(index_topk="8"), f"{CONFIG}: index_topk: is '8', not a whole number above 0; {OWN_CONFIG}"),
    (in_config(index_topk=-5), f"{CONFIG}: index_topk: is -5, not a whole number above 0; {OWN_CONFIG}"),
    (in_config(index_topk=0), f"{CONFIG}: index_topk: is 0, not a whole number above 0; {OWN_CONFIG}"),
    (
        in_config(rope_parameters="x"),
        f"{CONFIG}: rope_parameters: expected dict, got str (value: 'x'); {OWN_CONFIG}",
    ),
    (
        in_config(quantization_config={"quant_method": "nope"}),
        f"{CONFIG}: quantization_config: quant_method 'nope' is unknown to transformers; {STORED}*",
    ),
    (in_config(quantization_config="x"), f"{CONFIG}: quantization_config: is 'x', not an object; {OWN_CONFIG}"),
    (beside("generation_config.json", b"[]"), f"{LIGHT}/generation_config.json: is not a JSON object; {COPY}"),
    (
        beside("generation_config.json", b"\xff\xfe\xfd"),
        f"{LIGHT}/generation_config.json: is not valid JSON (*); {COPY}",
    ),
    (
        index_is_damaged,
        f"{LIGHT}/model.safetensors.index.json: is not a valid weight index ('weight_map' is missing); {COPY}",
    ),
    (corrupt_parquet, "bad.parquet: is not a readable Parquet file (byte 0 is not UTF-8); write it again"),
]


@pytest.mark.parametrize(("spoil", "line"), FOREIGN, ids=[line[:70] for _, line in FOREIGN])
def test_what_others_raise_over_bad_input_is_one_whole_line(
    folder: Path, spoil: Callable[[Path], None], line: str
) -> None:
    spoil(folder)
    before = sorted(folder.rglob("*"))
    run = run_command("study", folder / "study.yaml", "--dry-run")
    assert (run.code, run.out, len(run.err)) == (2, [], 1), run.err
    pattern = "error: " + line.replace("{folder}", str(folder)).replace("[", "[[]")
    assert fnmatchcase(run.err[0], pattern), run.err[0]
    assert sorted(folder.rglob("*")) == before


def test_a_way_of_storing_weights_that_needs_what_is_not_here_is_told_by_the_loader_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.quantizers.quantizer_fbgemm_fp8 import FbgemmFp8HfQuantizer

    def lacking(*_: Any, **__: Any) -> None:
        raise ImportError("Loading an FP8 quantized model requires accelerate")

    monkeypatch.setattr(FbgemmFp8HfQuantizer, "validate_environment", lacking)
    in_config(quantization_config={"quant_method": "fbgemm_fp8"})(folder)
    run = run_command("study", folder / "study.yaml", "--dry-run")
    assert_one_line(run, r"quantization_config: cannot be read by this installation \(.* requires accelerate\); save")
    assert "fbgemm_fp8" not in run.err[0].partition(STORED)[2].split(", ")


@pytest.mark.parametrize("command", ["extract", "study"])
def test_a_store_where_no_folder_can_be_made_is_refused(folder: Path, command: str) -> None:
    run = run_command(command, folder / "study.yaml", "--set", "store=/proc/nope", "--set", "candidates=[]")
    assert run.code == 2
    assert re.search(r"/proc/nope.*: cannot be written \(No such file or directory\); choose a folder", run.err[-1])
    assert "Traceback" not in "".join(run.err + run.out)


LONG = "x" * 5000
#: Commands that are given a path, and what their one line says after the path.
PATHS: list[tuple[list[str], str]] = [
    *(
        (["ls", path], "is no folder; give the folder or URL of a store")
        for path in ("no", "file", "file/x", "loop", LONG)
    ),
    *(([command, "no"], "is no folder; give the folder or URL of a store") for command in ("verify", "gc", "history")),
    *(
        ([command, "loop"], "is no folder; give the folder or URL of a store")
        for command in ("verify", "gc", "history")
    ),
    *(
        ([command, "empty"], "holds nothing; give the folder or URL of a store")
        for command in ("verify", "gc", "history")
    ),
    (["export", "file", "o.csv"], "is no folder; give the folder or URL of a store"),
    (["import", "no", "new"], "is no folder; give the folder or URL of a store"),
    (["import", "store", "file"], "cannot be written (File exists); choose a folder that you may write to"),
    (["import", "store", "loop"], "cannot be written (File exists); choose a folder that you may write to"),
    (
        ["import", "store", "/proc/nope"],
        "cannot be written (No such file or directory); choose a folder that you may write to",
    ),
    (["import", "store", LONG], "cannot be written (File name too long); choose a folder that you may write to"),
    (["diff", "file"], "is no report and no store; give a report's folder, a store or a study file"),
    (["diff", "loop"], "cannot be read (Too many levels of symbolic links); give a folder that you may read"),
    (["diff", LONG], "cannot be read (File name too long); give a folder that you may read"),
    (["study", "empty", "--dry-run"], "cannot be read (Is a directory); give a YAML file in UTF-8"),
    (["study", "loop", "--dry-run"], "cannot be read (Too many levels of symbolic links); give a YAML file in UTF-8"),
    (
        ["study", "/dev/zero", "--dry-run"],
        "cannot be read (it is longer than 131,072 bytes); give a YAML file in UTF-8",
    ),
    (["report", LONG], "cannot be read (File name too long); give a YAML file in UTF-8"),
    (["init", "file/x"], "cannot be written (Not a directory); give another place"),
    (["init", "/dev/full", "--force"], "cannot be written (No space left on device); give another place"),
]


@pytest.mark.parametrize(("arguments", "line"), PATHS, ids=[" ".join(arguments)[:40] for arguments, _ in PATHS])
def test_a_path_that_cannot_be_used_is_one_line_in_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("x")
    Path("empty").mkdir()
    Path("loop").symlink_to("loop")
    Store("store").commit(
        step_key("features", {"checkpoint": "abc"}), "shard-00000", {"a": pl.DataFrame({"b": [1]})}, "x"
    )
    before = sorted(tmp_path.rglob("*"))
    run = run_command(*arguments)
    assert (run.code, run.out, len(run.err)) == (2, [], 1), run.err
    assert run.err[0].startswith("error: ") and run.err[0].endswith(f": {line}"), run.err[0]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("arguments", [["study", "--dry-run"], ["init", "--force"], ["serve"]])
def test_an_unreadable_file_is_one_line_and_no_usage(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    # Root may read everything, so the system's answers are given here: to the parser of arguments, and to open().
    file = folder / "study.yaml"
    command, *options = arguments

    def refusing(real: Callable[..., Any]) -> Callable[..., Any]:
        def opened(path: Any, *more: Any, **named: Any) -> Any:
            if path == file:
                raise PermissionError(errno.EACCES, "Permission denied")
            return real(path, *more, **named)

        return opened

    monkeypatch.setattr("os.access", lambda *_, **__: False)
    monkeypatch.setattr("builtins.open", refusing(open))
    monkeypatch.setattr(Path, "open", refusing(Path.open))
    run = run_command(command, file, *options)
    monkeypatch.undo()
    done = "written" if command == "init" else "read"
    assert_one_line(run, rf"^error: {file}: cannot be {done} \(Permission denied\); give ")


def test_an_empty_folder_is_an_empty_store(tmp_path: Path) -> None:
    run = run_command("ls", tmp_path)
    assert (run.code, run.out, run.err) == (0, [f"{tmp_path} holds nothing"], [])


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
    arguments += ("--set", "runner.workers=1")
    assert_refused(run_command("study", folder / "study.yaml", *arguments), line)
    assert_nothing_committed(folder, *arguments)


def test_a_model_that_overflows_in_float16_leaves_no_shard(folder: Path) -> None:
    # Every weight is finite in float16; the logits, 32 products of 6e4 added up, are not.
    rewrite(folder / "models" / "base", lambda weights: weights["lm_head.weight"].fill_(6e4))
    arguments = ("--set", "extract.dtype=float16", "--set", "candidates=[]")
    run = run_command("extract", folder / "study.yaml", *arguments)
    assert_refused(run, r"audit base: model: its logits are not finite; check its weights, or use dtype float32")
    assert_nothing_committed(folder, *arguments)


def test_halving_is_told_in_the_narration_and_kept_in_the_report(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from indexscope.analysis.features import extract

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


def test_a_batch_that_never_fits_is_one_line(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from indexscope.analysis.capture import CapturedModel

    real = CapturedModel.run

    def run_out(self: CapturedModel, input_ids: torch.Tensor, *more: Any, **named: Any) -> Any:
        if input_ids.shape[1] > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")
        return real(self, input_ids, *more, **named)

    # The audit and the profile have room; their own notes of it are told elsewhere.
    shutil.rmtree(done / ".indexscope" / "features")
    monkeypatch.setattr(CapturedModel, "run", run_out)
    run = run_command("extract", done / "study.yaml", "--set", "candidates=[]")
    assert_refused(
        run, r"sample \d \(data.jsonl:\d\): does not fit into memory: 1 x 4\d tokens, 16 queries at a time; "
    )
    assert not list((done / ".indexscope" / "features").rglob("*.parquet"))


def test_a_measured_length_that_does_not_fit_is_told(folder: Path) -> None:
    few = ("--set", "candidates=[]", "--set", "dataset.samples=1")
    arguments = (*few, "--set", "extract.profile_lengths=[16, 4096]")
    run = run_command("extract", folder / "study.yaml", *arguments)
    assert run.code == 0, run.err
    assert "profile base: note: no latency at 4096 tokens: the model's positions end at 128" in run.out


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
    for node in plan.graph:
        assert set(plan.store.unit_statuses(node.key, node.units).values()) == {"missing"}, node.title


def test_auto_is_what_addresses_the_features_and_never_the_number_chosen(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from indexscope.analysis.features import attempt

    study = load_study(folder / "study.yaml", ["extract.chunk=auto"])
    roomy = address(make_plan(study), "extract", "base")
    monkeypatch.setattr(attempt, "available_bytes", lambda _: random.randrange(1 << 20))
    tight = address(make_plan(study), "extract", "base")
    assert roomy == tight
    settings = roomy.inputs["settings"]
    assert isinstance(settings, dict)
    assert settings["chunk"] == "auto"


def test_what_the_capture_leaves_out_is_told_once_per_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from indexscope.analysis.capture import CapturedModel

    note = "layer 1 (linear attention) has no attention map and is skipped"
    monkeypatch.setattr(CapturedModel, "notes", property(lambda _: (note,)))
    command = ("extract", folder / "study.yaml", "--set", "dataset.samples=2", "--set", "shard_size=1")
    run = run_command(*command)
    assert run.code == 0, run.err
    assert [line for line in run.out if note in line] == [f"extract {name}: note: {note}" for name in ("base", "light")]
    again = run_command(*command)
    assert not [line for line in again.out if note in line]
