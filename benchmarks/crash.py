"""Kill a study at random instants, finish it, and compare every byte with a study that nobody disturbed.

    python benchmarks/crash.py [STUDY.yaml] [--points 50] [--seed 0] [--set KEY=VALUE …] [--save FILE.json]

Without a file it is the built-in study with few short samples. It first runs undisturbed, twice, in two folders: files
that differ between the two hold timings (latencies, and what is computed from them) and are told; all others must come
out the same to the bit. Then, for each point: a run in a fresh folder, SIGKILL to the whole process group, Prefect's
server included, at an instant drawn uniformly between the first file in the store and the end of an undisturbed run;
`indexscope verify`'s check of what is left; the same command again, to its end. A point fails if

- what the kill left has anything committed that is not whole,
- the second run does not end with 0, or with other files than the undisturbed runs, or with other bytes,
- a unit that was committed before the kill was written again.

So what a crash costs is the units that were in flight. The exit code is 1 if any point failed. POSIX only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from indexscope.storage.store.json_types import JSON, plain_json
from indexscope.storage.store.store import Store
from indexscope.storage.studies.history import HISTORY
from indexscope.storage.studies.records import STUDIES
from indexscope.storage.upkeep.verify import Finding, verify

INDEXSCOPE = Path(sys.executable).with_name("indexscope")
SMALL = (
    "dataset.samples=72",
    "dataset.max_length=192",
    "shard_size=3",
    "extract.profile_lengths=[16,32]",
    "extract.profile_repeats=1",
    "closeup.samples=6",
    "closeup.queries=8",
    "closeup.rerun_samples=1",
    "analyses.clustering.clusters=3",
)
PATIENCE = 600.0


@dataclass(frozen=True)
class Point:
    """What one kill led to.

    Attributes:
        instant: Seconds after the first file in the store.
        committed: Units that the kill left committed.
        leftovers: Files that it left and no marker names.
        problems: What is wrong, if anything is.
    """

    instant: float
    committed: int
    leftovers: int
    problems: tuple[str, ...]


def fingerprints(store: Path) -> dict[str, str]:
    """A hash of each file of a store; of a marker, without how and when its unit was made.

    Locks, temporary files, and the records of studies and of their history (which say when) are no results.
    """
    found = {}
    for file in sorted(store.rglob("*")):
        name = file.relative_to(store).as_posix()
        if file.is_dir() or file.name.startswith(".") or name.startswith((f"{STUDIES}/", f"{HISTORY}/")):
            continue
        data = file.read_bytes()
        if "/_commits/" in name:
            marker = json.loads(data)
            data = json.dumps(marker["files"], sort_keys=True).encode()
        found[name] = hashlib.sha256(data).hexdigest()
    return found


def timed(first: Mapping[str, str], second: Mapping[str, str]) -> set[str]:
    """Files of two undisturbed runs that differ.

    Raises:
        ValueError: Features are among them, or the runs did not make the same files.
    """
    if first.keys() != second.keys():
        raise ValueError(f"two undisturbed runs made different files: {sorted(first.keys() ^ second.keys())[:4]}")
    found = {name for name in first if first[name] != second[name]}
    if any(name.startswith("features/") for name in found):
        raise ValueError("two undisturbed runs made different features: nothing could be compared")
    return found


def differences(wanted: Mapping[str, str], got: Mapping[str, str], ignored: set[str]) -> list[str]:
    """What is wrong with the files of a store, a line each."""
    problems = [f"{name} is missing" for name in wanted.keys() - got.keys()]
    problems += [f"{name} should not be there" for name in got.keys() - wanted.keys()]
    changed = {name for name in wanted.keys() & got.keys() if wanted[name] != got[name]}
    return sorted(problems + [f"{name} has other bytes" for name in changed - ignored])


def markers(store: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of each commit marker."""
    return {
        file.relative_to(store).as_posix(): (file.read_bytes(), file.stat().st_mtime_ns)
        for file in store.rglob("_commits/*.json")
    }


def killed(command: Sequence[str], folder: Path, environment: Mapping[str, str], instant: float, units: int) -> None:
    """Run a command and kill it and all that it started, some seconds after the first file and units are stored."""
    with (folder / "killed.log").open("wb") as log:
        running = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            started(folder / "store", running, units)
            time.sleep(instant)
        finally:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()


def started(store: Path, running: subprocess.Popen[bytes], units: int = 0) -> float:
    """When the first file of a step, and so many committed units, showed in the store."""
    limit = time.monotonic() + PATIENCE
    while not any(store.glob("[a-z]*/*")) or (units and sum(1 for _ in store.rglob("_commits/*.json")) < units):
        if running.poll() is not None or time.monotonic() > limit:
            raise SystemExit(f"the study ended with {running.poll()} before it wrote {units} units; see {store.parent}")
        time.sleep(0.005)
    return time.monotonic()


def undisturbed(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> float:
    """Run a study to its end; how many seconds it took from the first file in the store on."""
    with (folder / "undisturbed.log").open("wb") as log:
        running = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        start = started(folder / "store", running)
        if running.wait(PATIENCE):
            raise SystemExit(f"the undisturbed study ended with {running.returncode}; see {log.name}")
    return time.monotonic() - start


def crash(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    instant: float,
    wanted: Mapping[str, str],
    ignored: set[str],
    units: int = 0,
) -> Point:
    """Kill a study, at an instant or once so many units are committed, look at what is left, finish it, and compare."""
    folder.mkdir()
    store = folder / "store"
    killed(command, folder, environment, instant, units)
    found: list[Finding] = []
    left = verify(Store(store), found.append)
    problems = [f"after the kill: {finding.kind}/{finding.digest} {finding.problem}" for finding in found]
    before = markers(store)
    again = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    if again.returncode:
        problems.append(f"the second run ended with {again.returncode}: {again.stderr.strip()[-300:]}")
    after = markers(store)
    problems += [f"{name} was written again" for name in before if after.get(name) != before[name]]
    problems += differences(wanted, fingerprints(store), ignored)
    found.clear()
    verify(Store(store), found.append)
    problems += [f"in the end: {finding.kind}/{finding.digest} {finding.problem}" for finding in found]
    return Point(round(instant, 3), len(before), left.leftovers, tuple(problems))


def summary(points: Sequence[Point], units: int, ignored: set[str]) -> str:
    """The figures in words."""
    partial = [point for point in points if 0 < point.committed < units]
    failed = [point for point in points if point.problems]
    recomputed = statistics.mean(units - point.committed for point in points)
    return "\n".join(
        [
            f"{len(points)} kills of a study of {units} units, at {points[0].instant} to {points[-1].instant} s: "
            f"{len(partial)} left some units committed and some not, "
            f"{sum(bool(point.leftovers) for point in points)} left files of a commit under way",
            f"the second run made {recomputed:.1f} units on average, none of them committed before",
            f"files with timings, not compared: {', '.join(sorted({_kind(name) for name in ignored})) or 'none'}",
            f"{len(failed)} of {len(points)} failed",
            *(f"  at {point.instant} s: {problem}" for point in failed for problem in point.problems[:5]),
        ]
    )


def _kind(name: str) -> str:
    """`analyses/efficiency/<digest>/projection/result.parquet` without the digest."""
    parts = name.split("/")
    return "/".join(part for part in parts if not (len(part) == 20 and set(part) <= set("0123456789abcdef")))


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", type=Path)
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    settings = [*(SMALL if options.study is None else ()), *options.set, "store=store", "report=reports"]
    with tempfile.TemporaryDirectory(prefix="indexscope-crash-") as scratch:
        root = Path(scratch)
        home = os.environ.get("PREFECT_HOME", str(root / "prefect"))
        environment = {**os.environ, "PREFECT_HOME": home}
        references, seconds = [], 0.0
        for name in ("first", "second"):
            (root / name).mkdir()
            seconds = undisturbed(_command(options.study, settings, root / name), root / name, environment)
            references.append(fingerprints(root / name / "store"))
        try:
            ignored = timed(*references)
        except ValueError as error:
            sys.exit(f"error: {error}")
        wanted, units = references[0], len(markers(root / "first" / "store"))
        print(f"undisturbed: {units} units, {len(wanted)} files, {seconds:.1f} s from the first file on", flush=True)
        drawn = random.Random(options.seed)
        points = []
        for number, instant in enumerate(sorted(drawn.uniform(0, seconds) for _ in range(options.points))):
            folder = root / f"point-{number}"
            point = crash(_command(options.study, settings, folder), folder, environment, instant, wanted, ignored)
            points.append(point)
            outcome = "; ".join(point.problems[:3]) or "same bytes"
            print(f"{number + 1:3} at {instant:6.2f} s: {point.committed:3} committed, {outcome}", flush=True)
    print(summary(points, units, ignored))
    if options.save:
        document: JSON = {"units": units, "seconds": seconds, "points": plain_json([asdict(point) for point in points])}
        options.save.write_text(json.dumps(document, indent=1) + "\n")
    sys.exit(any(point.problems for point in points))


def _command(study: Path | None, settings: Sequence[str], folder: Path) -> list[str]:
    """The command line; absolute addresses, as relative ones start at the study file."""
    chosen = [
        text.replace("=", f"={folder}/", 1) if text.startswith(("store=", "report=")) else text for text in settings
    ]
    overrides = [part for text in chosen for part in ("--set", text)]
    return [str(INDEXSCOPE), "study", *([str(study.resolve())] if study is not None else []), *overrides]


if __name__ == "__main__":
    main()
