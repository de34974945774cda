"""What makes a study's numbers weak or worthless is told on stderr at the end of the run."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from tests.flows.conftest import run_command


def test_a_study_too_short_for_its_indexer_says_so_on_stderr(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight keys of at most ten: two queries of ten are in effect, in both models; and the audit fails."""
    import indexscope.analysis.capture.audit as capture

    real = capture.audit_causality

    def leaks(*given: object) -> pl.DataFrame:
        audit: pl.DataFrame = real(*given)  # type: ignore[arg-type]
        return audit.with_columns(passed=pl.lit(False), max_logit_change=pl.lit(3.5))

    monkeypatch.setattr(capture, "audit_causality", leaks)
    run = run_command("study", folder / "study.yaml", "--set", "dataset.max_length=10", "--set", "dataset.samples=6")
    assert run.code == 0
    failed = "note: FAILED: later tokens moved an earlier logit by up to 3.5, or are attended to; "
    told = [place for place, line in enumerate(run.out) if failed in line]
    first = next(place for place, line in enumerate(run.out) if line.startswith("extract "))
    assert len(told) == 2 and max(told) < first, "of both models, before either is extracted"
    lines = [line.replace("\u202f", " ") for line in run.err if line.startswith("warning: ")]
    assert len(lines) == 5
    for line, model in zip(lines[:2], ("base", "light"), strict=True):
        assert line.startswith(
            f"warning: {model} failed the causality audit: later tokens moved an earlier logit by up to 3.5"
        )
    for line, model in zip(lines[2:4], ("base", "light"), strict=True):
        assert line.startswith(f"warning: The indexer of {model} is in effect for 20 % of the queries")
        assert "dataset.max_length of 32 or more" in line
    assert lines[4].startswith("warning: The study is too small to settle light")
    report = json.loads((Path(run.out[-1]) / "report.json").read_text())
    assert [warning["kind"] for warning in report["warnings"]] == ["audit", "audit", "little", "little", "small"]
