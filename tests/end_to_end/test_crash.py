"""The script that kills studies: on the built-in one, and on commands that lose, mix or write again what was there."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from benchmarks import crash
from tests.tiny import save_model

ROOT = Path(__file__).parents[2]

#: Commits 40 units, slowly; what the k-th run of a folder writes is as `FAULT` says.
WRITER = """
import sys, time
from pathlib import Path
from random import Random
import polars as pl
from indexscope.storage.store import Store, step_key
store, key, fault = Store(Path("store").resolve()), step_key("features", {"checkpoint": "abc"}), sys.argv[1]
again = bool(store.units(key))
for number in range(40):
    unit = f"shard-{number:05}"
    if again and fault == "again" and number == 0:
        store.discard(key, unit)
    value = number + (again and fault == "other")
    if not (again and fault == "missing" and number == 39):
        store.commit(key, unit, {"tokens": pl.DataFrame({"value": [value]})}, "x", {"seconds": time.time()})
    if again and fault == "extra":
        store.commit(key, "extra", {"tokens": pl.DataFrame({"value": [0]})}, "x")
    if fault == "torn" and not again:
        (Path("store") / key.path / "tokens" / f"{unit}.parquet").write_bytes(b"")
    time.sleep(0.03)
sys.exit(4 if again and fault == "fails" else 0)
"""


@pytest.fixture
def server(environment: dict[str, str], tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment with one Prefect server for all runs: a tiny study takes no longer than the start of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "prefect", "server", "start", "--no-ui", "--host", "127.0.0.1"]
    with (tmp_path / "server.log").open("wb") as log:
        running = subprocess.Popen(
            [*command, "--port", str(port)],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}/api"
    try:
        limit = time.monotonic() + 120
        while time.monotonic() < limit:
            with suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
                break
            time.sleep(0.2)
        yield {**environment, "PREFECT_API_URL": url}
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def test_a_killed_study_is_finished_to_the_same_bytes(tmp_path: Path, server: dict[str, str]) -> None:
    random = Random(0)
    rows = [[random.randrange(300) for _ in range(48)] for _ in range(8)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps({"input_ids": row}) + "\n" for row in rows))
    save_model(tmp_path / "model", heads=1, seed=0)
    (tmp_path / "study.yaml").write_text(
        "name: killed\nbaseline: model\n"
        "dataset: {source: data.jsonl, column: input_ids, max_length: 48, samples: null}\n"
        "extract: {chunk: 16, profile_lengths: [16], profile_repeats: 1}\nshard_size: 2\n"
        "probe: {samples: 4, queries: 8, rerun_samples: 1}\n"
    )
    saved = tmp_path / "crash.json"
    script = [sys.executable, ROOT / "benchmarks" / "crash.py", tmp_path / "study.yaml", "--points", "1", "--seed", "3"]
    ended = subprocess.run([*script, "--save", saved], env=server, capture_output=True, text=True, timeout=500)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    document = json.loads(saved.read_text())
    assert document["units"] > 4 + 10
    (point,) = document["points"]
    assert point["problems"] == []
    assert 0 < point["committed"] < document["units"]


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> dict[str, str]:
    """The files of a writer that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    there = {**environment, "PYTHONPATH": str(ROOT)}
    assert crash.undisturbed([sys.executable, "-c", WRITER, "none"], folder, there) > 1
    found = crash.fingerprints(folder / "store")
    assert len(found) == 1 + 40 * 2, "manifest, tables, markers"
    return found


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("none", None),
        ("again", "_commits/shard-00000.json was written again"),
        ("other", "tokens/shard-00039.parquet has other bytes"),
        ("missing", "tokens/shard-00039.parquet is missing"),
        ("extra", "tokens/extra.parquet should not be there"),
        ("fails", "the second run ended with 4"),
        ("torn", "after the kill: features/"),
    ],
)
def test_every_way_to_fail_is_seen(
    tmp_path: Path, environment: dict[str, str], wanted: dict[str, str], fault: str, problem: str | None
) -> None:
    command, there = [sys.executable, "-c", WRITER, fault], {**environment, "PYTHONPATH": str(ROOT)}
    point = crash.crash(command, tmp_path / "killed", there, 0.7, wanted, set())
    assert 0 < point.committed < 40
    if problem is None:
        assert point.problems == ()
    else:
        assert any(problem in told for told in point.problems), point.problems
        assert crash.summary([point], 40, set()).count("1 of 1 failed") == 1


def test_files_that_differ_without_any_kill_are_set_aside_unless_they_are_features() -> None:
    first = {"models/a/profile": "1", "features/b/tokens": "2"}
    assert crash.timed(first, first | {"models/a/profile": "9"}) == {"models/a/profile"}
    with pytest.raises(ValueError, match="different features"):
        crash.timed(first, first | {"features/b/tokens": "9"})
    with pytest.raises(ValueError, match="different files"):
        crash.timed(first, first | {"more": "1"})
    assert crash.differences(first, first | {"models/a/profile": "9"}, {"models/a/profile"}) == []
