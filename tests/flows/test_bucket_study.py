"""A whole study whose store and report lie in a bucket."""

from __future__ import annotations

import json
from pathlib import Path

from indexscope.storage.store.store import Store
from indexscope.storage.upkeep.verify import Finding, verify
from tests.flows.conftest import run_command


def test_a_study_in_a_bucket_has_the_bytes_of_one_on_a_disk(done: Path, folder: Path, bucket: str) -> None:
    settings = ("--set", f"store={bucket}", "--set", f"report={bucket}/reports", "--set", "candidates=[]")
    run = run_command("study", folder / "study.yaml", *settings)
    assert run.code == 0, run.err
    store, local = Store(bucket), Store(done / ".indexscope")
    names = [name for name in store.folder.sizes() if name.startswith("features/") and name.endswith(".parquet")]
    assert len(names) > 10
    assert all(store.folder.read(name) == local.folder.read(name) for name in names)
    again = run_command("study", folder / "study.yaml", *settings)
    (row,) = json.loads(run_command("history", bucket, "--json").out[0])["runs"]
    assert len(row["dates"]) == 2 and row["report"] != "collected"
    assert [(one["model"], one["metric"]) for one in row["metrics"]] == [
        ("base", metric) for metric in ("nll", "selection_recall", "indexer_flops")
    ]
    assert not [line for line in again.out if "computed" in line]
    for side in (bucket, f"{bucket}/reports/tiny"):
        compared = run_command("diff", done / ".indexscope", side, "--model", "base", "--json")
        assert compared.code == 0, compared.err
        rows = json.loads(compared.out[0])["differences"]
        assert {row["difference"] for row in rows if row["metric"] == "selection_recall"} == {0.0}
    found: list[Finding] = []
    verify(store, found.append)
    assert found == []
    written = b"".join(store.folder.read(name) for name in store.folder.sizes())
    told = "".join([*run.out, *run.err, *again.out, *again.err])
    assert b"planted-" not in written
    assert "planted-" not in told
    assert [name for name in store.folder.sizes("reports") if name.endswith("report.html")]


def test_a_secret_in_a_study_is_one_line_that_hides_it(folder: Path) -> None:
    for key in ("store", "report", "dataset.source"):
        run = run_command("study", folder / "study.yaml", "--set", f"{key}=ftp://me:planted@host/x")
        assert (run.code, len(run.err), run.out) == (2, 1, []), run
        assert "holds a secret" in run.err[0]
        assert "planted" not in run.err[0]
    assert not (folder / ".indexscope").exists()
