"""A step runs exactly when the store lacks it, whole, or when it is asked for; and it says why."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from indexscope.storage.json_types import SEAL, sealed_json
from indexscope.storage.keys import SCHEMA_VERSION
from indexscope.storage.store import Store
from indexscope.storage.verify import Finding, verify
from tests.flows.conftest import run_command


def reasons(out: list[str]) -> dict[str, str]:
    """What each step told last, by step."""
    return dict(line.split(": ", 1) for line in out if ": " in line)


def computed(out: list[str]) -> set[str]:
    return {name for name, what in reasons(out).items() if "computed" in what}


def settled(done: Path) -> Path:
    """A finished study whose report knows the folder that it now lies in."""
    assert run_command("study", done / "study.yaml").code == 0
    return done


def tables(done: Path, kind: str) -> dict[str, bytes]:
    root = done / ".indexscope" / kind
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.parquet"))}


def findings(done: Path) -> list[Finding]:
    found: list[Finding] = []
    verify(Store(done / ".indexscope"), found.append)
    return found


def test_a_refreshed_step_with_the_same_bytes_reruns_nothing_else(done: Path) -> None:
    settled(done)
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


def test_a_changed_setting_is_named_with_both_values(done: Path) -> None:
    settled(done)
    run = run_command("study", done / "study.yaml", "--set", "analyses.clustering.clusters=3")
    assert run.code == 0, run.err
    assert {name for name in computed(run.out) if "clustering" in name} == {"clustering base", "clustering light"}
    assert any("clustering" in line and "clusters changed" in line and "→ 3" in line for line in run.out), run.out


@pytest.mark.parametrize("harm", ["bit", "half", "marker", "torn marker"])
def test_damage_reruns_its_unit_alone_and_ends_with_the_same_bytes(done: Path, harm: str) -> None:
    settled(done)
    before = tables(done, "features")
    step = sorted((done / ".indexscope" / "features").iterdir())[0]
    victim = step / ("attention/shard-00001.parquet" if harm in ("bit", "half") else "_commits/shard-00001.json")
    data = victim.read_bytes()
    middle = len(data) // 2
    if harm == "marker":
        victim.unlink()
    else:
        victim.write_bytes(data[:middle] + (bytes([data[middle] ^ 8]) + data[middle + 1 :] if harm == "bit" else b""))
    run = run_command("study", done / "study.yaml")
    assert run.code == 0, run.err
    (extracted,) = [name for name in computed(run.out) if name.startswith("extract")]
    assert "3 shards, 1 computed in" in reasons(run.out)[extracted]
    assert "2 cached" in reasons(run.out)[extracted]
    assert computed(run.out) == {extracted}
    assert tables(done, "features") == before
    assert findings(done) == []


def test_a_torn_manifest_is_written_again(done: Path) -> None:
    settled(done)
    for kind in ("features", "comparisons"):
        manifest = next((done / ".indexscope" / kind).glob("*/manifest.json"))
        data = manifest.read_bytes()
        manifest.write_bytes(data[: len(data) // 2])
        assert len(findings(done)) == 1
        run = run_command("study", done / "study.yaml")
        assert run.code == 0, run.err
        assert computed(run.out) == set()
        assert manifest.read_bytes() == data
    assert findings(done) == []


def test_results_of_an_older_store_schema_are_computed_anew_and_this_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("indexscope.storage.keys.SCHEMA_VERSION", SCHEMA_VERSION - 1)
        assert run_command("study", folder / "study.yaml", "--set", "candidates=[]").code == 0
    store = folder / ".indexscope"
    for file in store.rglob("manifest.json"):
        manifest = json.loads(file.read_text())
        manifest.pop(SEAL)
        file.write_bytes(sealed_json({**manifest, "schema_version": SCHEMA_VERSION - 1}))
    before = {file: file.read_bytes() for file in store.rglob("*.parquet")}
    run = run_command("study", folder / "study.yaml", "--set", "candidates=[]")
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
