"""Studies of checkpoints that are read layer by layer."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from indexscope import IndexscopeError
from indexscope.analysis.capture.streaming.model import StreamedModel
from indexscope.analysis.settings import ExtractSettings
from indexscope.flows.study.load import load_study
from indexscope.flows.study.plan import Plan, make_plan
from indexscope.storage.inputs.checkpoints import CheckpointFolder
from indexscope.storage.inputs.model_skeleton import load_skeleton
from indexscope.storage.inputs.own.loading import own_model
from indexscope.tasks.common.models import borrow, release
from indexscope.tasks.common.origin import Checkpoint
from indexscope.tasks.common.placing import Placement, device_map, placement, streaming_plan
from tests.flows.conftest import address, run_command

#: What runs a model and gives numbers that are no times.
NUMBERS = ("audit", "extract", "closeup", "reruns")


@pytest.fixture(autouse=True)
def nothing_held() -> None:
    release()


def contents(plan: Plan) -> dict[tuple[str, str, str], bytes]:
    found = {}
    for model in plan.models:
        for step in NUMBERS:
            folder = Path(plan.study.store) / address(plan, step, model.name).path
            for file in sorted(folder.rglob("*.parquet")):
                found[model.name, step, str(file.relative_to(folder))] = file.read_bytes()
    return found


@pytest.mark.parametrize("candidates", ["", "candidates:\n  - {name: changed, edit: {topk: 4, precision: fp8}}\n"])
def test_a_streamed_study_stores_the_bytes_of_one_in_memory_under_the_same_keys(folder: Path, candidates: str) -> None:
    study = folder / "study.yaml"
    study.write_text(study.read_text().replace("candidates:\n  - models/light\n", candidates))
    made = []
    for kind in ("whole", "stream"):
        overrides = [f"extract.placement={kind}", f"store={folder / kind}"]
        done = run_command("extract", study, *[part for one in overrides for part in ("--set", one)])
        assert done.code == 0, done.err
        made.append(contents(make_plan(load_study(str(study), overrides))))
    assert {step for _, step, _ in made[0]} == set(NUMBERS)
    assert made[0].keys() == made[1].keys()
    assert [name for name in made[0] if made[0][name] != made[1][name]] == []


def test_a_dry_run_says_what_streaming_reads_holds_and_takes(folder: Path) -> None:
    done = run_command("study", folder / "study.yaml", "--dry-run", "--set", "extract.placement=stream")
    (line,) = (line for line in done.out if line.startswith("base is"))
    assert "read layer by layer; a pass over a shard's samples reads" in line
    assert "of weights at most" in line and "of hidden states (in memory)" in line
    assert "about 1 min for the features: 3 passes at" in line
    assert not any("layer by layer" in line for line in run_command("study", folder / "study.yaml", "--dry-run").out)


def test_auto_streams_what_does_not_fit_and_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = CheckpointFolder(str(folder / "models" / "base"))
    assert placement(origin, ExtractSettings()) == Placement("whole")
    monkeypatch.setattr("indexscope.analysis.free_memory.available_bytes", lambda device: 100_000)
    found = placement(origin, ExtractSettings())
    assert found.kind == "stream"
    assert found.why == "read layer by layer: 0 MiB of weights in float32 do not fit into 0 MiB of free memory"
    plan = make_plan(load_study(str(folder / "study.yaml"), ["extract.placement=auto"]))
    assert plan.streams == ("base", "light")
    assert [model.checkpoint.placement for model in plan.models] == ["stream", "stream"]
    assert plan.spread().workers == 1, "each worker would read all weights"


def gpus(monkeypatch: pytest.MonkeyPatch, **free: int) -> None:
    """Have so many bytes free on each GPU, and in memory (`cpu`)."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: len(free) > 1)
    monkeypatch.setattr("torch.cuda.device_count", lambda: len(free) - 1)
    monkeypatch.setattr(
        "indexscope.analysis.free_memory.available_bytes",
        lambda device: free["cpu" if device.type == "cpu" else f"cuda{device.index or 0}"],
    )


def test_auto_takes_several_devices_before_it_streams_and_a_dry_run_says_what_is_where(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("accelerate")
    checkpoint = CheckpointFolder(str(folder / "models" / "base"))
    whole = sum(parameter.numel() * 4 for parameter in load_skeleton(Path(checkpoint.folder)).parameters())
    gpus(monkeypatch, cpu=whole, cuda0=int(1.2 * whole), cuda1=int(1.2 * whole))
    found = placement(checkpoint, ExtractSettings())
    assert found.kind == "devices"
    assert found.why.startswith("put on cuda:0 and cuda:1: ") and "do not fit into" in found.why
    plan = make_plan(load_study(str(folder / "study.yaml"), ["extract.placement=auto"]))
    assert plan.spread_out == ("base", "light") and not plan.streams
    assert [model.checkpoint.placement for model in plan.models] == ["devices", "devices"]
    assert plan.spread().workers == 1
    (note,) = (note for note in plan.notes if note.startswith("base is"))
    assert re.search(r"; cuda:0 holds layers? [\d to and,]+, \d+ MiB; cuda:1 holds layers? ", note)
    gpus(monkeypatch, cpu=2 * whole, cuda0=int(1.3 * whole))
    layers = device_map(Path(checkpoint.folder), ExtractSettings()).layers
    assert set(layers) == {"cuda:0", "memory"}, "of one GPU the rest lies in memory"
    assert placement(checkpoint, ExtractSettings(device="cpu")).kind == "whole", "which the GPU is not asked for"
    gpus(monkeypatch, cpu=whole // 4, cuda0=whole // 2)
    assert placement(checkpoint, ExtractSettings()).kind == "stream"


def test_what_several_devices_need_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, settings = CheckpointFolder(str(folder / "models" / "base")), ExtractSettings(placement="devices")
    with pytest.raises(
        IndexscopeError, match=r"puts layers on GPUs, and torch sees none here; use placement whole, or"
    ):
        placement(checkpoint, settings)
    with pytest.raises(IndexscopeError, match=r"and extract.device is cpu"):
        placement(checkpoint, settings.model_copy(update={"device": "cpu"}))
    pytest.importorskip("accelerate")
    gpus(monkeypatch, cpu=1000, cuda0=1000)
    with pytest.raises(IndexscopeError, match=r"no room for all layers .* on cuda:0, .* in memory .*stream"):
        placement(checkpoint, settings)
    gpus(monkeypatch, cpu=100_000, cuda0=1 << 30)
    assert placement(checkpoint, ExtractSettings()).kind == "devices", "a GPU alone that memory could not fill"
    monkeypatch.setattr("indexscope.storage.inputs.dispatched.find_spec", lambda name: None)
    with pytest.raises(IndexscopeError, match=r"needs accelerate, which is not installed; pip install 'indexscope"):
        placement(checkpoint, settings)
    found = placement(checkpoint, ExtractSettings())
    assert found.kind == "stream" and found.why.endswith("and devices needs accelerate, which is not installed")


def test_what_the_plan_decided_holds_whatever_memory_is_free_later(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(load_study(str(folder / "study.yaml"), ["extract.placement=auto"]))
    monkeypatch.setattr("indexscope.analysis.free_memory.available_bytes", lambda device: 100_000)
    assert not isinstance(borrow(plan.models[0].checkpoint, plan.study.extract), StreamedModel)
    undecided = replace(plan.models[0].checkpoint, placement=None)
    assert isinstance(borrow(undecided, plan.study.extract), StreamedModel), "as a worker on another machine decides"


def test_the_dense_reference_counts_for_as_many_samples_as_have_one(folder: Path) -> None:
    checkpoint, shards = folder / "models" / "base", [[1 << 20] * 4] * 25
    told = [
        streaming_plan(checkpoint, ExtractSettings(dense_reference=number), shards, selects)
        for number, selects in ((50, True), (True, True), (True, False))
    ]
    found = [re.search(r"and ([\d.]+) (MiB|GiB) of hidden", one) for one in told]
    states = [float(one[1]) * (1024 if one[2] == "GiB" else 1) for one in found if one is not None]
    # Of four samples and one more that is on its way, half of them twice, all twice, none twice.
    assert states[0] / states[2] == pytest.approx(7 / 5, rel=0.1)
    assert states[1] / states[2] == pytest.approx(9 / 5, rel=0.1)


def test_a_model_of_your_own_code_cannot_be_streamed(tmp_path: Path) -> None:
    (tmp_path / "loader.py").write_text("def load():\n    raise AssertionError\n")
    own = own_model(f"{tmp_path}/loader.py:load", tmp_path, None, {})
    assert placement(own, ExtractSettings()).kind == "whole"
    with pytest.raises(IndexscopeError, match="a model of your own code cannot be read layer by layer"):
        placement(own, ExtractSettings(placement="stream"))
    with pytest.raises(IndexscopeError, match="a model of your own code cannot be put on several devices"):
        placement(own, ExtractSettings(placement="devices"))


def test_a_checkpoint_that_cannot_be_streamed_is_one_line(folder: Path) -> None:
    from tests.analysis.capture.tiny_architectures import tiny

    tiny("zamba2").save_pretrained(folder / "models" / "zamba")
    origin = CheckpointFolder(str(folder / "models" / "zamba"))
    source = borrow(Checkpoint("zamba", origin, "f"), ExtractSettings(placement="stream"))
    with pytest.raises(IndexscopeError, match=r"zamba2: cannot be streamed: .*; use extract.placement whole"):
        source.notes  # noqa: B018  # which looks at the layers


def test_choosing_a_placement_imports_nothing_that_runs_a_model() -> None:
    code = (
        "import sys\n"
        "from indexscope.analysis.settings import ExtractSettings\n"
        "from indexscope.storage.inputs.checkpoints import CheckpointFolder, resolve\n"
        "from indexscope.tasks.common.placing import placement\n"
        "assert placement(CheckpointFolder(str(resolve('builtin:light'))), ExtractSettings()).kind\n"
        "heavy = {'indexscope.analysis.capture', 'transformers.modeling_utils'}\n"
        "print(*heavy & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
