"""A changed byte anywhere in a store is found, named, and nothing else is."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest

from indexscope.storage.store.keys import StepKey
from indexscope.storage.store.store import Store, step_key
from indexscope.storage.studies.records import in_use, new_record
from indexscope.storage.upkeep.verify import Finding, VerifySummary, verify

FEATURES = step_key("features", {"checkpoint": "abc", "layers": [0, 1], "rate": 0.5})
ANALYSIS = step_key("analyses/distribution", {"features": FEATURES.digest})
UNITS = ["shard-00000", "shard-00001"]


def planted(folder: Path) -> Store:
    store = Store(folder)
    record = new_record("planted", "planted-1", {"baseline": FEATURES.path}, [FEATURES.path, ANALYSIS.path])
    with in_use(store, record, print):
        store.prepare(FEATURES, "baseline", UNITS)
        for number, unit in enumerate(UNITS):
            tokens = pl.DataFrame({"sample": [number, number], "nll": [1.5, 2.5]})
            store.commit(FEATURES, unit, {"tokens": tokens, "attention": tokens}, "baseline", {"seconds": 0.125})
        store.commit(ANALYSIS, "result", {"summary": pl.DataFrame({"mean": [2.0]})}, "distribution")
    return store


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pristine") / "store"
    planted(folder)
    return folder


def found(store: Store) -> tuple[VerifySummary, list[Finding]]:
    findings: list[Finding] = []
    return verify(store, findings.append), findings


def place(finding: Finding) -> str:
    return f"{finding.kind}/{finding.digest}/{finding.file}"


def test_a_store_as_committed_has_no_finding(pristine: Path) -> None:
    summary, findings = found(Store(pristine))
    assert findings == []
    committed = sum(path.stat().st_size for path in pristine.rglob("*.parquet"))
    assert (summary.units, summary.bytes, summary.leftovers) == (3, committed, 0)


@pytest.mark.parametrize("harm", ["first bit", "middle bit", "last bit", "half", "empty", "longer"])
def test_every_file_is_covered(pristine: Path, tmp_path: Path, harm: str) -> None:
    names = [path.relative_to(pristine) for path in sorted(pristine.rglob("*")) if path.is_file()]
    names = [name for name in names if name.name != ".lock"]
    # Two manifests, three markers, five tables and the record of the run.
    assert len(names) == 11
    shutil.copytree(pristine, tmp_path / "store")
    for name in names:
        path = tmp_path / "store" / name
        data = path.read_bytes()
        at = {"first bit": 0, "middle bit": len(data) // 2, "last bit": len(data) - 1}.get(harm)
        if at is None:
            path.write_bytes({"half": data[: len(data) // 2], "empty": b"", "longer": data + b"\n"}[harm])
        else:
            path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        _, findings = found(Store(tmp_path / "store"))
        assert [place(finding) for finding in findings] == [str(name)]
        path.write_bytes(data)
    assert found(Store(tmp_path / "store"))[1] == []


def test_any_single_bit_of_a_marker_or_manifest_counts(pristine: Path, tmp_path: Path) -> None:
    shutil.copytree(pristine, tmp_path / "store")
    store = Store(tmp_path / "store")
    for name in (f"{FEATURES.path}/manifest.json", f"{FEATURES.path}/_commits/{UNITS[0]}.json"):
        path = tmp_path / "store" / name
        data = path.read_bytes()
        for at in range(0, len(data), 7):
            path.write_bytes(data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :])
            assert [place(finding) for finding in found(store)[1]] == [name], at
        path.write_bytes(data)


@pytest.mark.parametrize(
    "content", [b"[" * 50_000, b'{"a":' * 400 + b"1" + b"}" * 400, b'{"a": NaN}', b"\xff", b"null"]
)
def test_a_manifest_a_marker_and_a_record_of_any_content_are_damage(
    pristine: Path, tmp_path: Path, content: bytes
) -> None:
    shutil.copytree(pristine, tmp_path / "store")
    for path in sorted((tmp_path / "store").rglob("*.json")):
        data = path.read_bytes()
        path.write_bytes(content)
        _, findings = found(Store(tmp_path / "store"))
        assert [place(finding) for finding in findings] == [str(path.relative_to(tmp_path / "store"))]
        path.write_bytes(data)


def test_a_record_of_a_study_under_the_name_of_another_is_damage(tmp_path: Path) -> None:
    store = planted(tmp_path / "store")
    (path,) = (tmp_path / "store" / "_studies").rglob("*.json")
    path.rename(path.with_name(f"{'0' * 20}.json"))
    (finding,) = found(store)[1]
    assert (finding.kind, finding.file, finding.problem) == (
        "_studies",
        f"{'0' * 20}.json",
        "is the record of another run",
    )


def test_a_missing_file_is_its_units_problem(tmp_path: Path) -> None:
    store = planted(tmp_path / "store")
    store.folder.remove(f"{FEATURES.path}/tokens/{UNITS[1]}.parquet")
    (finding,) = found(store)[1]
    assert finding.unit == UNITS[1]
    assert finding.problem == "is gone though it was committed"
    assert (finding.kind, finding.digest) == ("features", FEATURES.digest)


def test_a_step_moved_to_another_address_is_found(tmp_path: Path) -> None:
    store = planted(tmp_path / "store")
    elsewhere = StepKey("features", "0" * 20, {})
    shutil.move(tmp_path / "store" / FEATURES.path, tmp_path / "store" / elsewhere.path)
    findings = found(store)[1]
    assert {finding.digest for finding in findings} == {elsewhere.digest}
    assert {finding.file for finding in findings} == {"manifest.json", *(f"_commits/{unit}.json" for unit in UNITS)}


def test_what_a_commit_left_behind_is_counted_and_is_no_damage(tmp_path: Path) -> None:
    store = planted(tmp_path / "store")
    store.folder.remove(f"{FEATURES.path}/_commits/{UNITS[0]}.json")
    summary, findings = found(store)
    assert findings == []
    assert (summary.units, summary.leftovers) == (2, 2)


def test_a_newer_schema_is_named(tmp_path: Path) -> None:
    store = planted(tmp_path / "store")
    path = tmp_path / "store" / FEATURES.path / "manifest.json"
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 7'))
    (finding,) = found(store)[1]
    assert finding.file == "manifest.json"
    assert "store schema 7" in finding.problem
