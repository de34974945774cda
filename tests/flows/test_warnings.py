"""What makes a study's numbers weak or worthless is told on stderr at the end of the run, and by all that reads it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from indexscope.storage.studies.finished import open_finished
from interpretability import compare_indexer_analyses, load
from tests.flows.conftest import Run, run_command

LEAKS = "light leaks: it failed the causality audit; none of its numbers can be used"


@pytest.fixture(scope="module")
def leaking(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """A study whose candidate, the one with a single indexer head, fails the audit.

    Eight keys of at most ten: two queries of ten are in effect, in both models.
    """
    import indexscope.analysis.capture.audit as capture

    folder = Path(shutil.copytree(inputs, tmp_path_factory.mktemp("leaking") / "study"))
    real = capture.audit_causality

    def audited(model: Any, *given: object) -> pl.DataFrame:
        audit: pl.DataFrame = real(model, *given)  # type: ignore[arg-type]
        if getattr(model, "model", model).config.index_n_heads > 1:
            return audit
        return audit.with_columns(passed=pl.lit(False), max_logit_change=pl.lit(3.5))

    gates = 'gates=["selection_recall >= 0", "nll.difference <= 99"]'
    settings = ("dataset.max_length=10", "dataset.samples=6", gates)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(capture, "audit_causality", audited)
        run = run_command("study", folder / "study.yaml", *(part for each in settings for part in ("--set", each)))
    return folder, run


def test_a_failed_audit_is_the_first_thing_told_and_stands_before_all_other_warnings(
    leaking: tuple[Path, Run],
) -> None:
    _, run = leaking
    failed = "note: FAILED: later tokens moved an earlier logit by up to 3.5, or are attended to; "
    told = [place for place, line in enumerate(run.out) if failed in line]
    first = next(place for place, line in enumerate(run.out) if line.startswith("extract "))
    assert len(told) == 1 and told[0] < first, "before any model is extracted"
    lines = [line.replace("\u202f", " ") for line in run.err if line.startswith("warning: ")]
    assert len(lines) == 3
    assert lines[0].startswith(
        "warning: light failed the causality audit: later tokens moved an earlier logit by up to 3.5"
    )
    for line, model in zip(lines[1:], ("base", "light"), strict=True):
        assert line.startswith(f"warning: The indexer of {model} is in effect for 20 % of the queries")
        assert "dataset.max_length of 32 or more" in line
    # Nothing is judged, so it is not said either that the study is too small to judge.
    report = json.loads((Path(run.out[-1]) / "report.json").read_text())
    assert [warning["kind"] for warning in report["warnings"]] == ["audit", "little", "little"]


def test_no_gate_holds_and_nothing_is_concluded_in_what_the_study_stores(leaking: tuple[Path, Run]) -> None:
    folder, run = leaking
    assert run.code == 1 and [line for line in run.err if line.startswith("gate failed: ")] == [
        "gate failed: selection_recall >= 0",
        "gate failed: nll.difference <= 99",
    ]
    report = json.loads((Path(run.out[-1]) / "report.json").read_text())
    assert all(row["reason"].startswith("leaks: light failed the causality audit") for row in report["gates"])
    assert {row["name"]: row["leaks"] for row in report["models"]} == {"base": False, "light": True}
    junit = (Path(run.out[-1]) / "report.junit.xml").read_text()
    assert 'failures="2"' in junit and "leaks: light failed" in junit
    finished = open_finished(str(folder / ".indexscope"), None, "")
    compared = finished.store.read(finished.steps[""]["compare"], "comparisons", ["result"])
    lengths = finished.store.read(finished.steps[""]["compare"], "by_length", ["result"])
    assert set(compared["verdict"]) == set(lengths["verdict"]) == {"leaks"} and compared["better"].is_null().all()
    advice = {model: finished.tables(model)["recommendations.recommendations"].height for model in finished.models}
    assert advice["light"] == 0


def test_whatever_reads_the_study_says_so_too(leaking: tuple[Path, Run]) -> None:
    folder, _ = leaking
    store, file = folder / ".indexscope", folder / "all.parquet"
    shown = run_command("diff", store)
    assert shown.code == 0 and "base → light (leaks) (candidate)" in shown.out
    content = json.loads(run_command("history", store, "--json").out[0])
    (row,) = content["runs"]
    assert row["leaks"] == ["light"]
    assert {point["model"]: point["leaks"] for point in row["metrics"]} == {"base": False, "light": True}
    assert any("(leaks)" in line for line in run_command("history", store).out)
    exported = run_command("export", store, file, "--metric", "selection_recall")
    assert exported.code == 0 and f"warning: {LEAKS}" in exported.err
    found = pl.read_parquet(file).select("model", "leaks").unique().sort("model")
    assert found.rows() == [("base", False), ("light", True)]


def test_a_notebook_that_opens_the_study_says_so_too(leaking: tuple[Path, Run]) -> None:
    study = load(leaking[0] / ".indexscope")
    assert study.leaking == ("light",) and repr(study).endswith(": base, light (leaks)")
    base, light = (study.analysis(model) for model in study.models)
    assert (base.leaks, light.leaks, light.selection.leaks) == (False, True, True)
    assert light.notes[0] == "leaks: light failed the causality audit; none of its numbers can be used"
    assert repr(light).startswith("StoredAnalysis of light (leaks), n = ")
    compared = compare_indexer_analyses(base, light)
    assert compared.leaks == ("candidate",) and set(compared.metrics["verdict"]) == {"leaks"}
