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
from indexscope.storage.store.store import Store, step_key
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


#: The command line with figures left blank, which take longer than the rest of a tiny study.
BLANK = """
import indexscope.analysis.report.pictures as pictures
from indexscope.flows.start import main
pictures.to_svg = lambda _, identifier, *__, **___: f'<svg id="{identifier}"></svg>'
main()
"""
#: What holds how long something took, or follows from it.
TIMED = ("profiles/", "analyses/efficiency/", "analyses/recommendations/", "comparisons/", "reports/")


def test_a_killed_study_is_finished_to_the_same_bytes(tmp_path: Path, server: dict[str, str]) -> None:
    random = Random(0)
    rows = [[random.randrange(300) for _ in range(48)] for _ in range(8)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps({"input_ids": row}) + "\n" for row in rows))
    save_model(tmp_path / "model", heads=1, seed=0)
    (tmp_path / "study.yaml").write_text(
        "name: killed\nbaseline: model\n"
        "dataset: {source: data.jsonl, column: input_ids, max_length: 48, samples: null}\n"
        "extract: {chunk: 16, profile_lengths: [16], profile_repeats: 1}\nshard_size: 2\n"
        "closeup: {samples: 4, queries: 8, rerun_samples: 1}\n"
    )

    def command(folder: Path) -> list[str]:
        places = ("--set", f"store={folder}/store", "--set", f"report={folder}/reports")
        return [sys.executable, "-c", BLANK, "study", str(tmp_path / "study.yaml"), *places]

    whole, there = tmp_path / "whole", {**server, "PYTHONPATH": str(ROOT)}
    whole.mkdir()
    crash.undisturbed(command(whole), whole, there)
    found, units = crash.fingerprints(whole / "store"), len(crash.markers(whole / "store"))
    assert units > 4 + 10
    ignored = {name for name in found if name.startswith(TIMED)}
    assert len(ignored) < len(found) / 2
    # At a count of units: how long the undisturbed run took, on a machine that had compiled nothing, tells no instant.
    point = crash.crash(command(tmp_path / "cut"), tmp_path / "cut", there, 0.0, found, ignored, units=units // 4)
    assert point.problems == ()
    assert 0 < point.committed < units


def test_the_script_runs_undisturbed_twice_then_kills_and_tells_it_all(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {**environment, "PYTHONPATH": str(ROOT)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(crash, "_command", lambda *_: [sys.executable, "-c", WRITER, "none"])
    saved = tmp_path / "crash.json"
    monkeypatch.setattr(sys, "argv", ["crash.py", "--points", "1", "--seed", "3", "--save", str(saved)])
    with pytest.raises(SystemExit) as ended:
        crash.main()
    assert not ended.value.code, capsys.readouterr().out
    document = json.loads(saved.read_text())
    (point,) = document["points"]
    assert (document["units"], point["problems"]) == (40, [])
    assert 0 < point["committed"] < 40
    assert "0 of 1 failed" in capsys.readouterr().out


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
        ("again", "_commits/shard-00000.json was written again"),
        ("other", "tokens/shard-00039.parquet has other bytes"),
        ("missing", "tokens/shard-00039.parquet is missing"),
        ("extra", "tokens/extra.parquet should not be there"),
        ("fails", "the second run ended with 4"),
        ("torn", "after the kill: features/"),
    ],
)
def test_every_way_to_fail_is_seen(
    tmp_path: Path, environment: dict[str, str], wanted: dict[str, str], fault: str, problem: str
) -> None:
    command, there = [sys.executable, "-c", WRITER, fault], {**environment, "PYTHONPATH": str(ROOT)}
    point = crash.crash(command, tmp_path / "killed", there, 0.0, wanted, set(), units=10)
    assert 0 < point.committed < 40
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
