"""What a study file may say of a cluster, and what is refused before anything is begun."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from indexscope import IndexscopeError
from indexscope.flows.study import preflight
from indexscope.flows.study.config import Study
from indexscope.flows.study.load import load_study
from indexscope.flows.study.plan import make_plan
from tests.flows.conftest import run_command
from tests.flows.test_sweep import made


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("runner={address: auto}", "has address, which only a cluster has"),
        ("runner={kind: processes, gpus_per_worker: 1}", "has gpus_per_worker, which only a cluster has"),
        ("runner={kind: ray, address: 'http://head:10001', workers: 2}", "give auto, or ray://HOST:10001"),
        ("runner={kind: ray, address: auto}", "not how many workers of it to take"),
        ("runner={kind: ray, gpus_per_worker: -1}", "greater than or equal to 0"),
    ],
)
def test_settings_that_make_no_sense_are_one_line(folder: Path, setting: str, told: str) -> None:
    with pytest.raises(IndexscopeError, match=re.escape(told)) as refused:
        load_study(folder / "study.yaml", [setting])
    assert str(refused.value).count("\n") == 0


def test_a_cluster_needs_its_packages_and_a_store_that_others_see(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = run_command("extract", folder / "study.yaml", "--set", "runner={kind: ray}", "--set", "store=memory://here")
    assert ran.code == 2 and "which no worker of a cluster sees" in ran.err[-1]
    real = importlib.util.find_spec
    monkeypatch.setattr(preflight, "find_spec", lambda name: None if name == "prefect_ray" else real(name))
    ran = run_command("extract", folder / "study.yaml", "--set", "runner={kind: ray}")
    assert ran.code == 2
    assert ran.err == ["error: runner.kind: ray needs packages that are missing; pip install 'indexscope[ray]'"]


def test_models_run_on_the_devices_of_the_workers_whatever_the_driver_has(folder: Path) -> None:
    on_gpus = load_study(folder / "study.yaml", ["runner={kind: ray, gpus_per_worker: 1}"])
    plan = make_plan(on_gpus)
    assert plan.given.device == plan.given.extract.device == "cuda"
    assert plan.spread().cluster is not None
    on_cpus = make_plan(load_study(folder / "study.yaml", ["runner={kind: ray, workers: 3}"]))
    here = make_plan(load_study(folder / "study.yaml", ["extract.device=cpu"]))
    assert [node.key for node in on_cpus.graph if node.step.command != "report"] == [
        node.key for node in here.graph if node.step.command != "report"
    ]
    with pytest.raises(IndexscopeError, match=r"extract.device: is cuda:1, but the cluster gives workers of 0 GPUs"):
        make_plan(load_study(folder / "study.yaml", ["runner={kind: ray}", "extract.device=cuda:1"]))


@pytest.mark.parametrize("command", ["study", "extract", "optimise", "serve"])
def test_every_command_that_runs_a_study_asks_for_its_runner_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(preflight, "find_spec", lambda name: None if name == "ray" else real(name))
    ran = run_command(command, folder / "study.yaml", "--set", "runner={kind: ray}")
    assert (ran.code, ran.out) == (2, [])
    assert ran.err == ["error: runner.kind: ray needs packages that are missing; pip install 'indexscope[ray]'"]
    assert not (folder / ".indexscope").exists()


def test_a_fit_asks_for_the_runner_of_each_of_its_searches_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, asked = made(tmp_path), list[str]()

    def refuse(study: Study) -> None:
        asked.append(study.baseline.name)
        raise IndexscopeError("runner.kind", "cannot be had", "take another")

    monkeypatch.setattr(preflight, "_check_runner", refuse)
    ran = run_command("fit", file)
    assert (ran.code, ran.err) == (2, ["error: runner.kind: cannot be had; take another"])
    assert asked == ["h2-d16 k8"]
    assert not list(tmp_path.rglob("*.safetensors.tmp")) and not (tmp_path / "fitted" / "study.yaml").exists()
