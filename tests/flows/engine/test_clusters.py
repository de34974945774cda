"""Units on a Ray cluster of three nodes: what is loaded once, what is refused, and what is lost with whom."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from indexscope import IndexscopeError
from indexscope.flows.engine import side_by_side
from indexscope.flows.engine.graph import expand
from indexscope.flows.engine.make import Engine
from indexscope.flows.engine.settings import Cluster as Wanted
from indexscope.flows.engine.settings import Spread
from indexscope.flows.engine.units import ModelsFailed, pool
from indexscope.storage.inputs.samples import Sample
from indexscope.storage.store.store import Store
from indexscope.tasks.common.declared import Job, Made
from tests.flows.conftest import blank_figures, run_command
from tests.flows.engine.fakes import BASE, GIVEN, nothing, step
from tests.s3 import Faults, credentials

ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'indexscope[ray]')")
pytest.importorskip("prefect_ray", reason="prefect-ray is not installed (pip install 'indexscope[ray]')")
from ray.cluster_utils import Cluster  # noqa: E402

from indexscope.flows.engine import clusters  # noqa: E402

#: Seconds that anything may take on a busy machine; what hangs takes longer.
LONG = 120
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def nodes(endpoint: tuple[str, Faults]) -> Iterator[Cluster]:
    """Three nodes of one core on this machine, and one connection, so that worker processes serve all tests.

    Credentials of a bucket are in the environment of the nodes, as docs/clusters.md has it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        for name, value in credentials(endpoint[0]).items():
            patch.setenv(name, value)
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            for _ in range(2):
                made.add_node(num_cpus=1)
            made.wait_for_nodes()
            patch.setenv("RAY_ADDRESS", made.address)
            ray.init(address=made.address, namespace="indexscope", log_to_driver=False, logging_level="CRITICAL")
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


def on_ray(store: str | Path = "", workers: int = 3, **more: Any) -> Spread:
    return Spread(kind="ray", workers=workers, cluster=Wanted(address="auto", store=str(store), **more))


Compute = Callable[[Job, Store], Made]


def engine(monkeypatch: pytest.MonkeyPatch, store: Path, compute: Compute, spread: Spread, shards: int) -> Engine:
    """An engine of one step, of which each shard is a unit."""
    one = step("extract", "extract", compute=compute, runs_model=True, sharded=True)
    for module in ("indexscope.tasks.common.step", "indexscope.flows.engine.reasons"):
        monkeypatch.setattr(f"{module}.STEPS", {"extract": one})
    cut = {f"shard-{number:05}": [Sample(number, str(number), (1, 2))] for number in range(shards)}
    return Engine(expand([one], [BASE], GIVEN, "study", cut), Store(str(store)), lambda: spread, cut)


def noted(folder: Path, seconds: float = 0.0) -> Compute:
    """Notes who begins which unit and in which process, then takes its time."""

    def compute(job: Job, store: Store) -> Made:
        node = ray.get_runtime_context().get_node_id()
        (folder / f"{job.target.unit} {node} {os.getpid()} {time.monotonic_ns()}").touch()
        time.sleep(seconds)
        return nothing(job, store)

    return compute


def notes(folder: Path) -> list[tuple[str, str, str]]:
    """Unit, node and process of each beginning."""
    found = [name.split() for name in sorted(os.listdir(folder))]
    return [(unit, node, process) for unit, node, process, _ in found]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir()
    return tmp_path / "log"


def make(one: Engine) -> None:
    one.make(one.graph.some(("extract",)))


def committed(one: Engine) -> int:
    return sum(
        status == "committed" for node in one.graph for status in one.store.unit_statuses(node.key, node.units).values()
    )


def free_again(cores: float) -> bool:
    """Whether the cluster has its cores back soon."""
    limit = time.monotonic() + LONG
    while time.monotonic() < limit:
        if ray.available_resources().get("CPU") == cores:
            return True
        time.sleep(0.2)
    return False


def test_every_worker_keeps_its_process_however_long_it_waits(
    nodes: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Path
) -> None:
    def compute(job: Job, store: Store) -> Made:
        made = noted(log)(job, store)
        if job.target.unit == "shard-00002":
            time.sleep(4)  # Ray ends idle processes after one second
        return made

    one = engine(monkeypatch, tmp_path / "store", compute, on_ray(tmp_path / "store"), 12)
    make(one)
    assert committed(one) == 12
    seen = notes(log)
    assert Counter(unit for unit, _, _ in seen) == dict.fromkeys(one.shards, 1)
    assert len({process for _, _, process in seen}) == len({node for _, node, _ in seen}) == 3


LOADER = """
import os
from pathlib import Path
from transformers import AutoModelForCausalLM

def load():
    with open(Path(__file__).parent / "loads", "a") as log:
        print(os.getpid(), file=log)
    return AutoModelForCausalLM.from_pretrained(Path(__file__).parent / "models" / "base")
"""


def test_a_study_has_the_bytes_that_threads_give_and_each_worker_loads_a_model_once(
    nodes: Cluster, folder: Path
) -> None:
    study = (folder / "study.yaml").read_text()
    (folder / "load.py").write_text(LOADER)
    own = "baseline: {name: base, loader: load.py:load}\n"
    study = study.replace("baseline: models/base\ncandidates:\n  - models/light\n", own)
    (folder / "study.yaml").write_text(study.replace("shard_size: 3", "shard_size: 1"))
    ran = run_command("extract", folder / "study.yaml", "--set", "runner.kind=threads", "--set", "store=threads")
    assert ran.code == 0, ran.err
    (folder / "loads").unlink()
    on_two = ("runner={kind: ray, address: auto, workers: 2}", "store=ray")
    ran = run_command("extract", folder / "study.yaml", *(word for one in on_two for word in ("--set", one)))
    assert ran.code == 0, ran.err
    loads = Counter((folder / "loads").read_text().split())
    asked = loads.pop(str(os.getpid()), 0)  # what it is, once, if the process does not know
    assert asked <= 1 and 1 <= len(loads) <= 2 and set(loads.values()) == {1}

    def tables(store: str) -> dict[str, bytes]:
        found = [path for path in (folder / store).rglob("*.parquet") if "profiles" not in path.parts]
        return {str(path.relative_to(folder / store)): path.read_bytes() for path in found}

    assert len(tables("ray")) > 8 and tables("ray") == tables("threads")


#: Steps whose numbers are times or are made from them, and the page, which shows where everything is.
TIMED = ("profiles/", "analyses/efficiency/", "analyses/recommendations/", "reports/")


def test_a_study_on_a_cluster_with_its_store_in_a_bucket_has_the_tables_of_threads_on_a_disk(
    nodes: Cluster, folder: Path, bucket: str
) -> None:
    few = ("candidates=[]", "closeup.samples=2", "closeup.rerun_samples=1", "extract.profile_repeats=1")
    places = {"runner.kind=threads": str(folder / "here"), "runner={kind: ray, address: auto, workers: 2}": bucket}
    found: list[dict[str, bytes]] = []
    for runner, store in places.items():
        settings = (runner, f"store={store}", f"report={store}/pages", *few)
        with blank_figures():
            ran = run_command("study", folder / "study.yaml", *(word for one in settings for word in ("--set", one)))
        assert ran.code == 0, ran.err
        inside = Store(store).folder
        names = [name for name in inside.sizes() if name.endswith(".parquet") and not name.startswith(TIMED)]
        found.append({name: inside.read(name) for name in names})
    on_disk, in_bucket = found
    assert len(on_disk) > 30 and {name.partition("/")[0] for name in on_disk} >= {"features", "closeups", "analyses"}
    assert in_bucket == on_disk
    assert not list(folder.rglob("*.tmp")) and b"planted-" not in b"".join(in_bucket.values())


def test_errors_come_home_as_the_lines_that_threads_tell(
    nodes: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def compute(job: Job, store: Store) -> Made:
        if job.target.unit == "shard-00000":
            raise IndexscopeError("sample 7", "has no tokens", "leave it out")
        if job.target.unit == "shard-00001":
            raise ValueError("a defect")
        return nothing(job, store)

    def lines(spread: Spread, store: Path) -> list[str]:
        with pytest.raises(ModelsFailed) as failed:
            make(engine(monkeypatch, store, compute, spread, 3))
        return [failure.line for failure in failed.value.failures["base"].failures]

    told = lines(on_ray(tmp_path / "ray", 2), tmp_path / "ray")
    assert told == lines(Spread(kind="threads", workers=2), tmp_path / "threads")
    assert told == [
        "extract base shard-00000: sample 7: has no tokens; leave it out",
        "extract base shard-00001 failed: ValueError: a defect",
    ]


def test_a_unit_that_lost_its_worker_runs_on_another_and_one_that_kills_all_is_told(
    nodes: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Path
) -> None:
    def compute(job: Job, store: Store) -> Made:
        made = noted(log)(job, store)
        before = sum(unit == job.target.unit for unit, _, _ in notes(log))
        if job.target.unit == "shard-00005" or (job.target.unit == "shard-00001" and before == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        return made

    monkeypatch.setattr(side_by_side, "ELSEWHERE", 1)
    one = engine(monkeypatch, tmp_path / "store", compute, on_ray(tmp_path / "store", 2), 6)
    with pytest.raises(ModelsFailed) as failed:
        make(one)
    (lost,) = failed.value.failures["base"].failures
    assert lost.title == "extract base shard-00005" and lost.lost_worker and "its worker is gone" in lost.reason
    assert "\n" not in lost.line
    assert committed(one) == 5
    begun = Counter(unit for unit, _, _ in notes(log))
    # One that waits behind another in a place, where no other is left for it, may lose its worker before it begins.
    assert begun.pop("shard-00005") in (1, 2)
    assert begun == {**dict.fromkeys(list(one.shards)[:5], 1), "shard-00001": 2}


def test_another_version_on_a_worker_is_refused_by_name(nodes: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    real = clusters.tell_versions

    def other() -> tuple[str, dict[str, str]]:
        machine, found = real()()
        return machine, {**found, "torch": "0.1"}

    runner = pool(on_ray(workers=1))
    monkeypatch.setattr(clusters, "tell_versions", lambda: other)
    with pytest.raises(IndexscopeError, match=rf"ray cluster: {socket.gethostname()}: has torch 0.1, and .* has 2"):
        runner.__enter__()
    assert free_again(3)


def test_a_store_that_workers_do_not_see_is_refused(
    nodes: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = clusters.look

    def elsewhere(setting: Any, store: str, token: str, server: str) -> IndexscopeError | None:
        return real(setting, f"{store}-of-another-machine", token, server)

    monkeypatch.setattr(clusters, "look", elsewhere)
    with pytest.raises(IndexscopeError, match=f"is not the same folder on {socket.gethostname()}"):
        pool(on_ray(tmp_path, workers=1)).__enter__()
    assert list(tmp_path.iterdir()) == [], "the token is taken away"


def test_what_no_node_has_is_refused(nodes: Cluster) -> None:
    with pytest.raises(IndexscopeError, match=r"has no room for a worker of 1 CPUs and 1 GPUs \(it has 3 CPUs and 0 G"):
        pool(on_ray(gpus=1, patience=1)).__enter__()


DRIVER = """
import time
from indexscope.flows import prefect_setup
from indexscope.flows.engine.settings import Cluster, Spread
from indexscope.flows.engine.units import pool, started
with started(pool(Spread(kind="ray", workers=1, cluster=Cluster(address="auto")))):
    print("ready", flush=True)
    time.sleep(300)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_driver_that_ends_frees_the_cluster(nodes: Cluster, number: signal.Signals) -> None:
    command = [sys.executable, "-c", DRIVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT) as driver:
        assert driver.stdout is not None
        try:
            assert driver.stdout.readline() == "ready\n"
            driver.send_signal(number)
            driver.wait(LONG)
        finally:
            driver.kill()
    assert free_again(3)


def test_a_node_that_dies_costs_only_what_it_was_working_on(
    nodes: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Path
) -> None:
    one = engine(monkeypatch, tmp_path / "store", noted(log, 1.0), on_ray(tmp_path / "store", patience=5), 15)
    last = next(iter(nodes.worker_nodes))

    def kill_a_node_at_work() -> None:
        limit = time.monotonic() + LONG
        while time.monotonic() < limit and not any(name == last.node_id for _, name, _ in notes(log)[3:]):
            time.sleep(0.05)
        with suppress(Exception):
            nodes.remove_node(last, allow_graceful=False)

    killer = threading.Thread(target=kill_a_node_at_work)
    killer.start()
    try:
        make(one)
    finally:
        killer.join()
    assert committed(one) == 15
    begun = Counter(unit for unit, _, _ in notes(log))
    again = [unit for unit, times in begun.items() if times > 1]
    assert len(again) <= 1 and sum(begun.values()) == 15 + len(again)
    assert any(name == last.node_id for _, name, _ in notes(log))
