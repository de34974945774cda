"""What a study file may say of a cluster, and what is refused before anything is begun."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from indexscope import IndexscopeError
from indexscope.flows.study import preflight
from indexscope.flows.study.load import load_study
from indexscope.flows.study.plan import make_plan
from tests.flows.conftest import run_command


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
