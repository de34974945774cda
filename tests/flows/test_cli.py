"""The command line itself: quick, and with one line for every mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.flows.conftest import run_command

ROOT = Path(__file__).parents[2]


def test_help_and_init_load_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys; from indexscope.flows.cli.main import main\n"
        "sys.argv[1:] = ['init', sys.argv[1]]\n"
        "try: main()\n"
        "except SystemExit as ended: assert not ended.code\n"
        "heavy = {'torch', 'transformers', 'prefect', 'polars', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "study.yaml")], check=True)


def test_init_does_not_overwrite_unless_forced(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("mine")
    refused = run_command("init", file)
    assert (refused.code, len(refused.err)) == (2, 1)
    assert file.read_text() == "mine"
    assert run_command("init", file, "--force").code == 0
    assert file.read_text() != "mine"


@pytest.mark.parametrize("command", ["study", "extract", "analyze", "compare", "report"])
def test_missing_study_file_is_one_line(tmp_path: Path, command: str) -> None:
    run = run_command(command, tmp_path / "no.yaml")
    assert run.code == 2
    assert run.err == [f"error: {tmp_path}/no.yaml: there is no such file; write one with `indexscope init`"]


def test_checkpoint_that_is_none_is_one_line(folder: Path) -> None:
    (folder / "models" / "light" / "config.json").unlink()
    run = run_command("study", folder / "study.yaml")
    assert (run.code, len(run.err), run.out) == (2, 1, [])
    assert not (folder / ".indexscope").exists()


def test_unknown_option_is_bad_input() -> None:
    assert run_command("study", "--wrong").code == 2


def test_wrong_schedule_is_one_line(folder: Path) -> None:
    run = run_command("serve", folder / "study.yaml", "--cron", "every night")
    assert (run.code, len(run.err)) == (2, 1)
    assert "is no schedule" in run.err[0]


def test_schedule_stays_on_when_serving_stops(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect import Flow

    seen: dict[str, object] = {}
    monkeypatch.setattr(Flow, "serve", lambda self, **options: seen.update(options, flow=self.name))
    run = run_command("serve", folder / "study.yaml", "--cron", "0 3 * * *", "--set", "shard_size=2")
    assert run.code == 0
    assert (seen["flow"], seen["cron"], seen["pause_on_shutdown"]) == ("indexscope-study", "0 3 * * *", False)
    assert seen["parameters"] == {"file": str(folder / "study.yaml"), "overrides": ["shard_size=2"]}


def test_a_deployment_loads_the_flow_by_its_module_and_not_a_second_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.deployments.runner import RunnerDeployment
    from prefect.flows import Flow, load_flow_from_entrypoint

    from indexscope.flows.study.flows import study_flow

    made: list[RunnerDeployment] = []

    def serve(self: Flow, pause_on_shutdown: bool, **options: Any) -> None:
        made.append(self.to_deployment(**options))

    monkeypatch.setattr(Flow, "serve", serve)
    assert run_command("serve", folder / "study.yaml", "--cron", "0 3 * * *").code == 0
    (pooled,) = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    for entrypoint in (made[0].entrypoint, pooled["entrypoint"]):
        assert entrypoint == "indexscope.flows.study.flows.study_flow"
        assert load_flow_from_entrypoint(entrypoint) is study_flow


def test_interrupt_is_one_line_and_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("indexscope.flows.cli.studies.run_flow", interrupt)
    run = run_command("study")
    assert (run.code, run.err) == (
        130,
        ["interrupted: what is finished is kept; to resume, run the same command again"],
    )
