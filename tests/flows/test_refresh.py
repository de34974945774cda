"""A step runs exactly when the store lacks it, whole, or when it is asked for; and it says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.store import Store
from storage.verify import Finding, verify
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
