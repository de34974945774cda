"""Studies of checkpoints that are read layer by layer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from indexscope import IndexscopeError
from indexscope.analysis.settings import ExtractSettings
from indexscope.flows.study.load import load_study
from indexscope.flows.study.plan import Plan, make_plan
from indexscope.storage.inputs.checkpoints import CheckpointFolder
from indexscope.tasks.common.models import Checkpoint, release
from indexscope.tasks.common.placing import Placement, placement
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


def test_a_streamed_study_stores_the_bytes_of_one_in_memory_under_the_same_keys(folder: Path) -> None:
    study = folder / "study.yaml"
    study.write_text(study.read_text().replace("candidates:\n  - models/light\n", ""))
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
    assert "about 1 min for the features: 4 passes at" in line
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
    assert plan.spread().workers == 1, "each worker would read all weights"


def test_an_edit_of_a_streamed_model_is_refused_before_anything_runs(folder: Path) -> None:
    study = folder / "study.yaml"
    study.write_text(study.read_text().replace("  - models/light\n", "  - {edit: {topk: 4}}\n"))
    done = run_command("study", study, "--set", "extract.placement=stream")
    assert done.code == 2
    assert "extract.placement: stream: a model is read layer by layer only as it is" in done.err[-1]
    assert not (folder / "indexscope-store").exists()


def test_a_checkpoint_that_cannot_be_streamed_is_one_line(folder: Path) -> None:
    from tests.analysis.capture.tiny_architectures import tiny

    tiny("zamba2").save_pretrained(folder / "models" / "zamba")
    from indexscope.tasks.common.models import borrow

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
