"""A step runs exactly when the store lacks it, whole, or when it is asked for; and it says why."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from indexscope.storage.store.json_types import SEAL, sealed_json
from indexscope.storage.store.keys import SCHEMA_VERSION
from indexscope.storage.store.store import Store
from indexscope.storage.upkeep.verify import Finding, verify
from tests.flows.conftest import run_command


def flipped(step: Path, unit: str) -> None:
    file = step / "attention" / f"{unit}.parquet"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 8
    file.write_bytes(data)


def torn(step: Path, unit: str) -> None:
    file = step / "attention" / f"{unit}.parquet"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def unmarked(step: Path, unit: str) -> None:
    (step / "_commits" / f"{unit}.json").unlink()


def torn_marker(step: Path, unit: str) -> None:
    file = step / "_commits" / f"{unit}.json"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


HARMS = ((flipped, torn), (unmarked, torn_marker))


def reasons(out: list[str]) -> dict[str, str]:
    """What each step told last, by step."""
    return dict(line.split(": ", 1) for line in out if ": " in line)


def computed(out: list[str]) -> set[str]:
    return {name for name, what in reasons(out).items() if "computed" in what}


def tables(done: Path, kind: str) -> dict[str, bytes]:
    root = done / ".indexscope" / kind
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.parquet"))}


def findings(done: Path) -> list[Finding]:
    found: list[Finding] = []
    verify(Store(done / ".indexscope"), found.append)
    return found


def test_a_refreshed_step_with_the_same_bytes_reruns_nothing_else(done: Path) -> None:
    before = tables(done, "analyses")
    run = run_command("study", done / "study.yaml", "--refresh", "clustering")
    assert run.code == 0, run.err
    assert computed(run.out) == {"clustering base", "clustering light"}
    assert "the same bytes as before" in reasons(run.out)["clustering base"]
    assert any("asked for by --refresh clustering" in line for line in run.out)
    assert tables(done, "analyses") == before


def test_an_unknown_step_is_one_line(done: Path) -> None:
    run = run_command("study", done / "study.yaml", "--refresh", "clusterin")
    assert (run.code, len(run.err)) == (2, 1)
    assert "did you mean 'clustering'?" in run.err[0]


def test_damage_reruns_its_units_alone_and_ends_with_the_same_bytes(done: Path) -> None:
    """The first shards of each model, in all ways; `tests/flows/engine` shows each way alone."""
    before = tables(done, "features")
    for step, harms in zip(sorted((done / ".indexscope" / "features").iterdir()), HARMS, strict=True):
        for place, harm in enumerate(harms):
            harm(step, f"shard-{place:05d}")
    run = run_command("study", done / "study.yaml")
    assert run.code == 0, run.err
    assert computed(run.out) == {"extract base", "extract light"}
    for name in computed(run.out):
        assert "3 shards, 2 computed in" in reasons(run.out)[name] and "1 cached" in reasons(run.out)[name]
    assert tables(done, "features") == before
    assert findings(done) == []


def test_a_torn_manifest_is_written_again(done: Path) -> None:
    whole: dict[Path, bytes] = {}
    for kind in ("features", "comparisons"):
        manifest = next((done / ".indexscope" / kind).glob("*/manifest.json"))
        whole[manifest] = manifest.read_bytes()
        manifest.write_bytes(whole[manifest][: len(whole[manifest]) // 2])
    assert len(findings(done)) == 2
    run = run_command("study", done / "study.yaml")
    assert run.code == 0, run.err
    assert computed(run.out) == set()
    assert {manifest: manifest.read_bytes() for manifest in whole} == whole
    assert findings(done) == []


def test_results_of_an_older_store_schema_are_computed_anew_and_this_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ("study", folder / "study.yaml", "--set", "candidates=[]", "--set", "dataset.samples=3")
    with monkeypatch.context() as patch:
        patch.setattr("indexscope.storage.store.keys.SCHEMA_VERSION", SCHEMA_VERSION - 1)
        assert run_command(*few).code == 0
    store = folder / ".indexscope"
    for file in store.rglob("manifest.json"):
        manifest = json.loads(file.read_text())
        manifest.pop(SEAL)
        file.write_bytes(sealed_json({**manifest, "schema_version": SCHEMA_VERSION - 1}))
    before = {file: file.read_bytes() for file in store.rglob("*.parquet")}
    run = run_command(*few)
    assert run.code == 0, run.err
    told = f"store schema changed {SCHEMA_VERSION - 1} → {SCHEMA_VERSION}"
    for step in ("extract base", "profile base", "clustering base", "compare", "report"):
        assert any(line.startswith(step) and told in line for line in run.out), (step, run.out)
    assert not any("cached" in line for line in run.out)
    assert {file: file.read_bytes() for file in before} == before, "what the older one wrote stays for it"
    assert findings(folder) == []


def test_a_full_disk_and_a_read_only_one_are_one_line_and_cost_only_what_was_not_committed(folder: Path) -> None:
    disk = folder / "disk"
    disk.mkdir()

    def mount(*arguments: object) -> int:
        return subprocess.run(["mount", *map(str, arguments)], capture_output=True).returncode

    if not shutil.which("mount") or mount("-t", "tmpfs", "-o", "size=200k", "tmpfs", disk):
        pytest.skip("mounting a tmpfs needs root")
    try:
        command = ("study", folder / "study.yaml", "--set", f"store={disk / 'store'}", "--set", "candidates=[]")
        run = run_command(*command)
        assert run.code == 2
        assert len(run.err) > 1
        assert run.err[-1].startswith("kept: ") and all(line.startswith("error: ") for line in run.err[:-1])
        assert "No space left on device" in run.err[0]
        assert "free some space" in run.err[0]
        kept = {file: file.stat().st_mtime_ns for file in disk.rglob("_commits/*.json")}
        assert 1 <= len(kept) < 6
        assert mount("-o", "remount,size=32m", disk) == 0
        resumed = run_command(*command)
        assert resumed.code == 0, resumed.err
        assert {file: file.stat().st_mtime_ns for file in kept} == kept
        assert mount("-o", "remount,ro", disk) == 0
        again = run_command(*command)
        assert again.code == 0, again.err
        assert computed(again.out) == set()
        refused = run_command(*command, "--set", "analyses.clustering.clusters=3")
        assert refused.code == 2
        assert "Read-only file system" in refused.err[0]
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
