"""A disk that is really full, a folder that is really read-only, a permission that is really lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from indexscope.errors import IndexscopeError
from indexscope.storage.store.store import Store, step_key
from indexscope.storage.studies.export import Measure, export
from indexscope.storage.upkeep.verify import Finding, verify

ROOT = Path(__file__).parents[3]
KEY = step_key("features", {"checkpoint": "abc"})
#: 64 KiB of numbers that do not compress.
FRAME = pl.DataFrame({"value": [hash((number, "x")) for number in range(8192)]})

#: A process for which permissions count, root's too: it commits a unit for every line that it reads.
COMMIT = """
import sys
import polars as pl
from indexscope.errors import IndexscopeError
from indexscope.storage.store.store import Store, step_key
store, key = Store(sys.argv[1]), step_key("features", {"checkpoint": "abc"})
for line in sys.stdin:
    try:
        store.commit(key, line.strip(), {"tokens": pl.DataFrame({"value": [1.0]})}, "x")
        print("committed", flush=True)
    except IndexscopeError as error:
        print(error, flush=True)
"""
WITHOUT_OVERRIDE = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of its own, of one mebibyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    if not shutil.which("mount") or mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", folder):
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def mount(*arguments: object) -> int:
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True).returncode


def assert_whole(store: Store, units: list[str]) -> None:
    """Exactly these units are there, and nothing of any other."""
    findings: list[Finding] = []
    summary = verify(store, findings.append)
    assert (findings, summary.units, summary.leftovers) == ([], len(units), 0)
    assert store.units(KEY) == units
    assert not list(Path(store.url).rglob("*.tmp"))


def test_a_full_disk_is_one_line_and_costs_the_unit_that_did_not_fit(small: Path) -> None:
    store = Store(small / "store")
    filler = small / "filler"
    filler.write_bytes(bytes(2**19))
    done: list[str] = []

    def commit_until_full() -> None:
        for number in range(20):
            store.commit(KEY, f"shard-{number:05}", {"a": FRAME, "b": FRAME}, "x")
            done.append(f"shard-{number:05}")

    with pytest.raises(IndexscopeError, match=r"No space left on device.*free some space") as caught:
        commit_until_full()
    assert "\n" not in str(caught.value)
    assert 1 <= len(done) < 8
    assert_whole(store, done)
    filler.unlink()
    store.commit(KEY, f"shard-{len(done):05}", {"a": FRAME, "b": FRAME}, "x")
    assert_whole(store, [*done, f"shard-{len(done):05}"])
    assert store.read(KEY, "b").height == FRAME.height * (len(done) + 1)


def test_a_disk_without_room_for_a_manifest_holds_nothing_that_looks_like_one(small: Path) -> None:
    store = Store(small / "store")
    with pytest.raises(OSError, match="No space left"):
        (small / "filler").write_bytes(bytes(2**21))
    with pytest.raises(IndexscopeError, match="No space left on device"):
        store.commit(KEY, "shard-00000", {"a": FRAME}, "x")
    assert [path for path in small.rglob("*") if path.is_file()] == [small / "filler"]
    (small / "filler").unlink()
    store.commit(KEY, "shard-00000", {"a": FRAME}, "x")
    assert_whole(store, ["shard-00000"])


def test_a_disk_that_turns_read_only_can_be_read_and_goes_on_later(small: Path) -> None:
    store = Store(small / "store")
    store.commit(KEY, "shard-00000", {"a": FRAME}, "x")
    assert mount("-o", "remount,ro", small) == 0
    for act in (
        lambda: store.commit(KEY, "shard-00001", {"a": FRAME}, "x"),
        lambda: store.discard(KEY, "shard-00000"),
    ):
        with pytest.raises(IndexscopeError, match="Read-only file system") as caught:
            act()
        assert "\n" not in str(caught.value)
    assert store.read(KEY, "a").equals(FRAME)
    assert_whole(store, ["shard-00000"])
    assert mount("-o", "remount,rw", small) == 0
    store.commit(KEY, "shard-00001", {"a": FRAME}, "x")
    assert_whole(store, ["shard-00000", "shard-00001"])


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_an_export_onto_a_full_disk_says_so_and_leaves_nothing(small: Path, tmp_path: Path, ending: str) -> None:
    rows = 200_000
    store, key = Store(tmp_path / "store"), step_key("features", {"checkpoint": "abc"})
    samples = pl.DataFrame({"sample": range(rows), "name": [f"{number}.txt" for number in range(rows)]})
    tokens = pl.DataFrame({"sample": range(rows), "nll": [hash(str(number)) / 7 for number in range(rows)]})
    store.commit(key, "shard-00000", {"samples": samples, "tokens": tokens}, "x")
    with pytest.raises(IndexscopeError) as caught:
        export(store, {"x": key.path}, small / f"out.{ending}", [Measure("tokens", "nll", "nats")])
    said = str(caught.value)
    assert said.startswith(f"{small}/out.{ending}: cannot be written (No space left on device")
    assert said.endswith("; give another place")
    assert not list(small.iterdir())


@pytest.mark.parametrize("place", ["tokens", "_commits", "."])
def test_a_permission_lost_midway_is_one_line_and_costs_the_unit(tmp_path: Path, place: str) -> None:
    prefix: list[str] = []
    if os.geteuid() == 0:
        prefix = WITHOUT_OVERRIDE
        if not shutil.which("setpriv") or subprocess.run([*prefix, "true"], capture_output=True).returncode:
            pytest.skip("as root, permissions count only without a capability that could not be given up")
    store = Store(tmp_path / "store")
    command = [*prefix, sys.executable, "-c", COMMIT, store.url]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:

        def commit(unit: str) -> str:
            assert writer.stdin is not None
            assert writer.stdout is not None
            writer.stdin.write(f"{unit}\n")
            writer.stdin.flush()
            return writer.stdout.readline().strip()

        assert commit("shard-00000") == "committed"
        folder = tmp_path / "store" / KEY.path / place
        if place == ".":
            (folder / "manifest.json").unlink()  # so that something has to be written right there
        folder.chmod(0o500)
        said = commit("shard-00001")
        assert "cannot be written (Permission denied)" in said
        assert said.endswith("choose a folder that you may write to")
        assert store.unit_status(KEY, "shard-00001") == "missing"
        folder.chmod(0o700)
        assert commit("shard-00001") == "committed"
        writer.communicate()
    assert_whole(store, ["shard-00000", "shard-00001"])
