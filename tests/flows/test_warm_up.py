"""The example of examples/warm_up: a fit that keeps its indexer on the way, and the study of all of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from indexscope.flows.study.load import load_study
from indexscope.storage.inputs.fitted import load_fitted
from tests.flows.conftest import Run, run_command
from tests.tiny import save_fit, save_model

EXAMPLE = Path(__file__).parents[2] / "examples" / "warm_up"


def with_settings(settings: dict[str, object]) -> list[str]:
    return [word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """A tiny model with the example's fit of it, on less data and in fewer steps."""
    folder = tmp_path_factory.mktemp("warm-up")
    save_model(folder / "model", heads=1, seed=0)
    save_fit(folder, "", sequences=24)
    less = {
        "model": str(folder / "model"),
        "dataset": {"source": str(folder / "data.jsonl"), "column": "input_ids", "max_length": 32, "samples": 8},
        "held_out.samples": 2,
        "indexers": [{"heads": 2, "dim": 16}],
        "topk": [8],
        "stages": {"dense": 4, "sparse": 2},
        "training.keep_every": 1,
        "out": str(folder / "fitted"),
    }
    return folder, run_command("fit", EXAMPLE / "fit.yaml", *with_settings(less))


def test_a_fit_keeps_an_indexer_every_so_many_steps_from_the_first_to_the_last(fitted: tuple[Path, Run]) -> None:
    folder, run = fitted
    assert run.code == 0, run.err
    kept = {path.name: load_fitted(path) for path in (folder / "fitted" / "steps" / "h2-d16").iterdir()}
    assert set(kept) == {f"step-{step}" for step in range(7)}
    assert len({one.fingerprint for one in kept.values()}) == 7, "each step taught it something"
    assert kept["step-6"].fingerprint == load_fitted(folder / "fitted" / "h2-d16").fingerprint


def test_the_example_follows_the_warm_up_step_by_step(fitted: tuple[Path, Run], tmp_path: Path) -> None:
    folder, _ = fitted
    less = {
        "baseline": str(folder / "model"),
        "series.models.path": str(folder / "model"),
        "series.models.indexer": str(folder / "fitted" / "steps" / "h2-d16" / "step-*"),
        "series.models.topk": 8,
        "dataset": {"source": str(folder / "data.jsonl"), "column": "input_ids", "max_length": 32, "samples": 4},
        "closeup": {"samples": 1, "queries": 4, "rerun_samples": 0},
        "extract.profile_repeats": 1,
        "store": str(tmp_path / "store"),
        "report": str(tmp_path / "reports"),
    }
    run = run_command("study", EXAMPLE / "study.yaml", *with_settings(less))
    assert run.code in (0, 1), run.err  # on so few samples the gate may not hold
    report = json.loads((Path(run.out[-1]) / "report.json").read_text())
    assert [model["name"] for model in report["models"]] == ["model", "warm-up 6"]
    steps = [
        row["step"] for row in report["series_points"] if (row["metric"], row["layer"]) == ("selection_recall", None)
    ]
    assert steps == [float(step) for step in range(7)]
    assert report["gates"][0]["name"] == "recall is kept"


def test_the_example_names_what_the_fit_writes() -> None:
    fit = (EXAMPLE / "fit.yaml").read_text()
    study = load_study(EXAMPLE / "study.yaml", members=False)
    (series,) = study.series
    assert series.models is not None and series.models.indexer == str(EXAMPLE / "fitted/steps/h2-d32/step-*")
    assert "keep_every: 15" in fit and "{ heads: 2, dim: 32 }" in fit
