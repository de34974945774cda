"""Passes over checkpoints that are read layer by layer, killed and gone on with."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from indexscope.analysis.capture import audit
from indexscope.analysis.capture.streaming import commits
from indexscope.flows.engine.contents import Contents
from indexscope.flows.study.load import load_study
from indexscope.flows.study.plan import Plan, make_plan
from indexscope.storage.inputs.streamed.weights import StreamedWeights
from indexscope.storage.store.passes import FORMAT, pass_file
from indexscope.storage.store.store import Store
from indexscope.tasks.common import placing
from indexscope.tasks.common.declared import Job
from indexscope.tasks.common.models import release
from indexscope.tasks.common.step import make_unit
from tests.analysis.capture.tiny_architectures import tiny
from tests.analysis.capture.tiny_families import FAMILIES
from tests.flows.conftest import run_command

STUDY = """\
name: killed
baseline: {path: model, name: base}
dataset: {source: data.jsonl, column: input_ids, max_length: 40, samples: null}
extract: {chunk: 16, placement: stream, dense_reference: true, profile_lengths: [16], profile_repeats: 1}
closeup: {samples: 2, queries: 8, rerun_samples: 0}
shard_size: 2
"""
#: Each sample runs again, and one judges what is lost without indexer heads.
AGAIN = STUDY.replace("rerun_samples: 0", "rerun_samples: 2, removal_samples: 1")
#: Commits after every layer, and kills itself once a layer of a pass of the job is through.
KILLED = """\
import os, signal, sys
import torch
from indexscope.analysis.capture import audit
from indexscope.analysis.capture.streaming import commits
from indexscope.tasks.common import placing
from tests.flows.test_resumed import job_named, planned
from indexscope.tasks.common.step import make_unit

commits.LEAST = commits.TIMES = 0.0
passes = 0

def told(layer, layers, runs):
    global passes
    passes += layer == 1
    if (layer, passes) == (int(sys.argv[3]), int(sys.argv[5])):
        os.kill(os.getpid(), signal.SIGKILL)

placing.tell_layer = told
if sys.argv[6] == "by layer":
    audit.RELATIVE_TOLERANCE = {torch.float32: -1.0}
make_unit.fn(job_named(planned(sys.argv[1], sys.argv[2]), sys.argv[4]))
"""
UNIT = "shard-00000"


@pytest.fixture(autouse=True)
def nothing_held() -> None:
    release()


def planned(folder: Path | str, store: Path | str) -> Plan:
    return make_plan(load_study(f"{folder}/study.yaml", [f"store={store}"]))


def job_of(plan: Plan) -> Job:
    """The features of a shard, and its close-up along with them."""
    return job_named(plan, "extract")


def job_named(plan: Plan, step: str) -> Job:
    """The first unit of a step; of the features with their close-up."""
    engine, spread = plan.engine, plan.spread()
    jobs = []
    for name in ("extract", "closeup") if step == "extract" else (step,):
        node = plan.graph.of(name, "base")
        assert node is not None
        jobs.append(engine._jobs(node, spread, "new", Contents(plan.store)).of(node.units[0]))
    return jobs[0] if len(jobs) == 1 else replace(jobs[0], along=jobs[1])


def study_of(folder: Path, name: str, study: str = STUDY) -> Path:
    made = FAMILIES[name]() if name in FAMILIES else tiny(name)
    made.save_pretrained(folder / "model")
    draw, ids = random.Random(0), made.config.get_text_config().vocab_size
    rows = [{"input_ids": [draw.randrange(1, min(ids, 60)) for _ in range(length)]} for length in (40, 33)]
    (folder / "data.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / "study.yaml").write_text(study)
    return folder


def killed(folder: Path, layer: int, step: str = "extract", of_pass: int = 1, how: str = "") -> Job:
    """A step's first unit, left by a process that was killed after so many layers; its commit is of one less."""
    told = [str(folder), str(folder / "store"), str(layer), step, str(of_pass), how]
    done = subprocess.run([sys.executable, "-c", KILLED, *told], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    job = job_named(planned(folder, folder / "store"), step)
    assert file_of(job).is_file()
    return job


class Ended(BaseException):
    """Ends a pass in this process."""


def ended(folder: Path, layer: int) -> Job:
    """As `killed`, in this process."""

    def told(done: int, *_: int) -> None:
        if done == layer:
            raise Ended

    job = job_of(planned(folder, folder / "store"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commits, "LEAST", 0.0)
        patch.setattr(commits, "TIMES", 0.0)
        patch.setattr(placing, "tell_layer", told)
        with pytest.raises(Ended):
            make_unit.fn(job)
    release()
    assert file_of(job).is_file()
    return job


def file_of(job: Job) -> Path:
    return Path(job.target.store) / job.target.key.path / pass_file(job.target.unit)


def tables(store: Path) -> dict[str, bytes]:
    return {str(file.relative_to(store)): file.read_bytes() for file in sorted(store.rglob("*.parquet"))}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often each layer's weights were read."""
    counts: Counter[int] = Counter()
    own = StreamedWeights.load

    def load(self: StreamedWeights, part: nn.Module, deep: bool = True) -> None:
        counts.update(index for index, layer in enumerate(self.layers) if layer is part)
        own(self, part, deep)

    monkeypatch.setattr(StreamedWeights, "load", load)
    return counts


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the log and the notes say of passes."""
    lines: list[str] = []
    monkeypatch.setattr("indexscope.tasks.common.passes.tell", lines.append)
    monkeypatch.setattr("indexscope.tasks.common.running.tell", lines.append)
    return lines


@pytest.mark.parametrize("name", ["glm_moe_dsa", "qwen3_next", "deepseek_v32"])
def test_a_killed_pass_ends_with_the_same_bytes_and_reads_no_layer_before_its_last_commit_again(
    tmp_path: Path, read: Counter[int], said: list[str], name: str
) -> None:
    folder = study_of(tmp_path, name)
    make_unit.fn(job_of(planned(folder, folder / "whole")))
    layers, _ = len(read), read.clear()
    job = killed(folder, layers)
    make_unit.fn(job)
    assert [line for line in said if UNIT in line] == [f"{UNIT} goes on from layer {layers} of {layers}"]
    assert read == {layers - 1: 1}
    assert tables(folder / "store") == tables(folder / "whole")
    assert {name.split("/")[0] for name in tables(folder / "store")} == {"features", "closeups"}
    assert not file_of(job).parent.exists()
    notes = [Store(folder / name).record(job.target.key, UNIT).extra["notes"] for name in ("store", "whole")]  # type: ignore[union-attr]
    assert notes[0] == notes[1]


@pytest.mark.parametrize(("step", "of_pass"), [("reruns", 1), ("audit", 1), ("audit", 2)])
def test_killed_reruns_and_both_passes_of_a_killed_audit_end_with_the_same_bytes(
    tmp_path: Path, read: Counter[int], said: list[str], step: str, of_pass: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "RELATIVE_TOLERANCE", {torch.float32: -1.0})  # which has it go on layer by layer
    folder = study_of(tmp_path, "glm_moe_dsa", AGAIN)
    for store in ("whole", "store"):
        if step == "reruns":
            make_unit.fn(job_of(planned(folder, folder / store)))
    read.clear()
    make_unit.fn(job_named(planned(folder, folder / "whole"), step))
    layers, passes = len(read), 2 if step == "audit" else 1
    assert set(read.values()) == {passes}
    said.clear()
    job = killed(folder, 3, step, of_pass, "by layer")
    where = f"goes on from layer 3 of {layers}{' in its pass 2' if of_pass == 2 else ''}"
    plan = run_command("study", folder / "study.yaml", "--dry-run", "--set", f"store={folder / 'store'}")
    assert any(f"{step} base: " in line and where in line for line in plan.out), plan.out
    read.clear()
    make_unit.fn(job)
    assert [line for line in said if "goes on" in line] == [f"{job.target.label} {where}"]
    resumed, after = dict.fromkeys(range(2, layers), 1), Counter(range(layers)) if passes > of_pass else Counter[int]()
    assert read == Counter(resumed) + after
    assert tables(folder / "store") == tables(folder / "whole")
    assert not file_of(job).parent.exists()


def test_a_dry_run_says_where_a_killed_pass_goes_on_and_upkeep_knows_what_it_left(tmp_path: Path) -> None:
    folder = study_of(tmp_path, "deepseek_v32")
    job = ended(folder, 2)
    plan = run_command("study", folder / "study.yaml", "--dry-run", "--set", f"store={folder / 'store'}")
    assert f"extract base: {UNIT} goes on from layer 2 of 3" in plan.out
    verified = run_command("verify", folder / "store")
    assert verified.code == 0, verified.err
    assert any("1 file" in line for line in verified.out)
    file_of(job).write_bytes(b"something else")
    plan = run_command("study", folder / "study.yaml", "--dry-run", "--set", f"store={folder / 'store'}")
    assert not any("goes on" in line for line in plan.out)


@pytest.mark.parametrize("harm", ["cut", "changed", "version", "versions"])
def test_a_damaged_or_foreign_commit_is_left_in_one_line(
    tmp_path: Path, read: Counter[int], said: list[str], harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = study_of(tmp_path, "deepseek_v32")
    job, why = ended(folder, 3), "cannot be read"
    file = file_of(job)
    data = file.read_bytes()
    match harm:
        case "cut":
            file.write_bytes(data[:-100])
        case "changed":
            file.write_bytes(bytes([*data[:5000], data[5000] ^ 1, *data[5001:]]))
        case "version":
            file.write_bytes(data.replace(b'"format": %d' % FORMAT, b'"format": 0'))
        case "versions":
            monkeypatch.setattr("indexscope.tasks.common.passes.versions", lambda: {"torch": "0.1"})
            why = "is of another version"
    read.clear()
    make_unit.fn(job)
    assert len(said) == 1 and said[0].startswith(f"the pass over {UNIT} begins anew") and why in said[0]
    assert read == {0: 1, 1: 1, 2: 1}
    assert not file.exists()
    if harm != "changed":
        return
    release()
    make_unit.fn(job_of(planned(folder, folder / "whole")))
    assert tables(folder / "store") == tables(folder / "whole")
