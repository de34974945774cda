"""What Prefect's interface is given of a study, read back through its client: names are text there as well."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import Artifact

from indexscope.analysis.report.comment import OPENED
from indexscope.flows.engine import progress
from indexscope.flows.engine.progress import progress_artifact
from indexscope.flows.study.artifacts import FIGURES, LARGEST, trimmed
from indexscope.flows.study.load import load_study
from indexscope.flows.study.publish import publish
from indexscope.storage.store.store import StepKey, Store

HOSTILE = "<img src=x onerror=alert(1)> *b* [x](http://evil.example) |"


def made(key: str) -> list[Artifact]:
    with get_client(sync_client=True) as client:
        wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
        return client.read_artifacts(artifact_filter=wanted)


def test_summary_figures_comparison_and_link_are_the_reports_own(done: Path) -> None:
    store = Store(done / ".indexscope")
    (digest,) = store.digests("reports")
    study = load_study(str(done / "study.yaml"), [f"name='{HOSTILE}'"])
    folder = done / "reports" / "(mine)"

    @flow(name="publish", flow_run_name="publish")
    def work() -> None:
        publish(store, StepKey("reports", digest, {}), str(folder), study)

    work()
    found = {part: made(f"{study.slug}-{part}")[0] for part in ("summary", "figures", "comparison", "report")}
    summary = str(found["summary"].data)
    assert not (folder / OPENED).exists()
    published = (folder / "report.md").read_text()
    assert [line for line in summary.splitlines() if line[:2] in ("# ", "| ")] == [
        line for line in published.splitlines() if line[:2] in ("# ", "| ")
    ]
    assert "<" not in summary and "## light: every metric\n\n" in summary and "| nll | nats |" in summary

    pictures = re.findall(r"!\[[a-z-]+\]\(data:image/svg\+xml;base64,([^)]+)\)", str(found["figures"].data))
    drawn = [base64.b64decode(picture).decode() for picture in pictures]
    assert len(drawn) == 2 and all(svg.startswith("<svg") and "background:#fff" in svg for svg in drawn)
    html = (folder / "report.html").read_text()
    shown = [identifier for identifier in FIGURES if f'id="{identifier}-title"' in html]
    for svg, identifier in zip(drawn, shown, strict=True):
        (title,) = re.findall("<title.*?</title>", svg)
        assert f'id="{identifier}-title"' in title and title in html

    for artifact in found.values():
        text = str(artifact.description)
        assert "<img" not in text and "[x](" not in text and "&lt;img" in text
    assert "<img" not in str(found["figures"].data)
    link = str(found["report"].data)
    assert link == f"[report.html]({folder.as_uri()}/report.html)" and "(" not in folder.as_uri()
    assert '"metric": "nll"' in str(found["comparison"].data)


def test_a_long_summary_is_cut_after_a_line_and_says_so() -> None:
    line = "| ä | 1 |\n"
    text = trimmed(line * 200_000, LARGEST)
    assert LARGEST - 100 < len(text.encode()) <= LARGEST
    assert text.startswith(line) and text.endswith("\n\n*Shortened: all of it is in report.md.*\n")
    assert set(text.splitlines()[:-2]) == {line.strip()}
    assert trimmed(line, LARGEST) == line


def test_progress_is_shown_of_steps_that_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)

    @flow(name="progress", flow_run_name="progress")
    def work() -> None:
        advance = progress_artifact("extract <b>", 4)
        for _ in range(3):
            advance()
        progress_artifact("report", 1)()

    progress_artifact("outside of a run", 2)()
    work()
    with get_client(sync_client=True) as client:
        found = [one for one in client.read_artifacts() if "&lt;b&gt;:" in str(one.description)]
    assert [(one.type, one.data, one.description) for one in found] == [("progress", 75.0, "extract &lt;b&gt;: 3 of 4")]
