"""A command that is stopped from outside ends at once, in one line, with its own exit code, and leaves no process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    get_current_settings,
    temporary_settings,
)

from indexscope import IndexscopeError
from indexscope.flows import local_server
from indexscope.flows.engine.forks import FORKS

ROOT = Path(__file__).parents[2]
KEPT = "what is finished is kept; to resume, run the same command again"
LINES = {
    signal.SIGINT: (130, f"interrupted: {KEPT}"),
    signal.SIGTERM: (143, f"terminated: {KEPT}"),
    signal.SIGHUP: (143, f"terminal lost: {KEPT}"),
}
#: Far above what ending takes, since machines are busy; what would not end waits much longer.
SOON, LONG = 20, 300
#: The command line, with a body in place of the flow.
PROGRAM = f"""
import hashlib, os, sys, threading, time, types
import indexscope.flows.cli.studies
from indexscope.flows.start import main

def ready():
    print("ready", flush=True)

def work(*_):
{{}}

LONG = {LONG}
indexscope.flows.cli.studies.run_flow = work
sys.argv = ["indexscope", "study"]
main()
"""
WAITS = "ready(); time.sleep(LONG)"
COMPUTES = "ready(); hashlib.pbkdf2_hmac('sha256', b'', b'', 2_000_000_000)"
SWALLOWS = """
while True:
    try:
        ready()
        time.sleep(LONG)
    except BaseException:
        pass
"""
THREADS = "threading.Thread(target=time.sleep, args=[LONG]).start(); ready(); time.sleep(LONG)"
COMPLAINS = """
try:
    ready()
    time.sleep(LONG)
finally:
    raise ValueError("the way out failed")
"""
TIDIES = """
import indexscope.flows.interrupt
indexscope.flows.interrupt.GRACE = LONG
try:
    ready()
    time.sleep(LONG)
finally:
    open("tidying", "w").close()
    time.sleep(1)
    open("tidy", "w").close()
"""
HAS_POLARS = """
import indexscope.flows.interrupt, polars
indexscope.flows.interrupt.GRACE = LONG
ready()
threading.Event().wait(LONG)
"""
GOES_ON = """
ready()
open(0).read()
print("a line", flush=True)
print("a word", file=sys.stderr, flush=True)
open("finished", "w").close()
return types.SimpleNamespace(code=0, messages=(), folder=None)
"""
PROCESSES = """
from indexscope.flows.engine.settings import Spread
from indexscope.flows.engine.units import pool, started
with started(pool(Spread(kind="processes", workers=1))) as runner:
    pids = [runner._executor.submit(asked).result() for asked in (os.getpid, os.getppid)]
    busy = runner._executor.submit(time.sleep, LONG)
    print(*pids, os.getpid(), flush=True)
    busy.result()
"""
SERVER = """
from indexscope.flows.local_server import LocalServer
print(LocalServer(("sleeper",), 1, {})._process.pid, flush=True)
time.sleep(LONG)
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Children hear every signal, even where this process was started under nohup or in the background."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the program with a body, in a session of its own and a folder of its own."""
    running: list[subprocess.Popen[str]] = []
    (tmp_path / "sleeper.py").write_text(f"import time; time.sleep({LONG})")

    def begin(body: str, **options: object) -> subprocess.Popen[str]:
        program = PROGRAM.format("".join(f"    {line}\n" for line in body.strip().splitlines()))
        pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}",
            "PREFECT_API_URL": PREFECT_API_URL.value(),
        }
        command = [sys.executable, "-c", program]
        both = {**pipes, **options}
        process = subprocess.Popen(  # type: ignore[call-overload]
            command, cwd=tmp_path, env=environment, text=True, start_new_session=True, **both
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def is_gone(pid: int) -> bool:
    """Whether a process ends soon."""
    limit = time.monotonic() + SOON
    while is_alive(pid) and time.monotonic() < limit:
        time.sleep(0.05)
    return not is_alive(pid)


CASES = [
    *((WAITS, number) for number in LINES),
    (COMPUTES, signal.SIGTERM),
    (SWALLOWS, signal.SIGINT),
    (THREADS, signal.SIGINT),
    (HAS_POLARS, signal.SIGINT),
    (COMPLAINS, signal.SIGTERM),
]


@pytest.mark.parametrize(("body", "number"), CASES)
def test_a_signal_ends_whatever_the_command_is_doing_in_one_line(
    start: Start, body: str, number: signal.Signals
) -> None:
    process = start(body)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=SOON)
    code, line = LINES[number]
    assert (process.returncode, out, err) == (code, "", f"{line}\n")


def test_a_signal_ends_the_command_while_it_is_being_imported(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text(f"import time; print('ready', flush=True); time.sleep({LONG})")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", "from indexscope.flows.start import main; main()", "version"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=SOON)
    assert (process.returncode, err) == (130, f"{LINES[signal.SIGINT][1]}\n")


@pytest.mark.parametrize("second", LINES)
def test_a_second_signal_does_not_disturb_the_tidying_up(start: Start, tmp_path: Path, second: signal.Signals) -> None:
    process = start(TIDIES)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    while process.poll() is None and not (tmp_path / "tidying").exists():
        time.sleep(0.01)
    process.send_signal(second)
    _, err = process.communicate(timeout=SOON)
    assert (process.returncode, err) == (143, f"{LINES[signal.SIGTERM][1]}\n")
    assert (tmp_path / "tidy").exists()


def test_a_hangup_that_was_ignored_from_the_start_stays_so(start: Start, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what nohup does; a child inherits it
    try:
        process = start(GOES_ON)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate(timeout=4 * SOON)
    assert (process.returncode, out, err) == (0, "a line\n", "a word\n")
    assert (tmp_path / "finished").exists()


def test_output_outlasts_a_terminal_that_is_lost(start: Start, tmp_path: Path) -> None:
    terminal, end = os.openpty()
    process = start(GOES_ON, stdout=end, stderr=end)
    os.close(end)
    assert os.read(terminal, 100).startswith(b"ready")
    os.close(terminal)  # from here on writing fails
    process.communicate(timeout=4 * SOON)
    assert process.returncode == 0
    assert (tmp_path / "finished").exists()


def test_a_hangup_of_a_terminal_that_is_gone_ends_as_a_termination_does(start: Start) -> None:
    terminal, end = os.openpty()
    process = start(WAITS, stdout=end, stderr=end)
    os.close(end)
    assert os.read(terminal, 100).startswith(b"ready")
    os.close(terminal)
    process.send_signal(signal.SIGHUP)
    assert process.wait(SOON) == 143


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_process_outlives_its_study(start: Start, number: signal.Signals) -> None:
    process = start(PROCESSES)
    worker, parent, study = map(int, process.stdout.readline().split())
    processes = {worker, parent} - {study}  # a fork has the server as its parent
    assert all(map(is_alive, processes))
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    process.wait(SOON)
    assert all(map(is_gone, processes))
    code, line = LINES.get(number, (-signal.SIGKILL, ""))
    assert (process.returncode, process.stderr.read().strip()) == (code, line)


@pytest.mark.skipif(not FORKS, reason="worker processes are not forks here")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_workers_are_forks_of_ends_with_a_study_even_while_it_imports(
    start: Start, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "torch.py").write_text("import os, time; print(os.getpid(), flush=True); time.sleep(1)")
    process = start("from indexscope.flows.engine.forks import prepare\nprepare()\ntime.sleep(LONG)")
    server = int(process.stdout.readline())
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    process.wait(SOON)
    assert is_gone(server)


def test_no_server_outlives_a_study_that_is_killed(start: Start) -> None:
    process = start(SERVER)
    server = int(process.stdout.readline())
    assert is_alive(server)
    process.kill()
    assert is_gone(server)


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[local_server.LocalServer]:
    """The temporary servers that were started, which only sleep; Prefect's settings name none."""
    (tmp_path / "sleeper.py").write_text(f"import time; time.sleep({LONG})")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(local_server, "APPLICATION", ("sleeper",))
    started: list[local_server.LocalServer] = []
    make = local_server.LocalServer
    monkeypatch.setattr(local_server, "LocalServer", lambda *given: started.append(make(*given)) or started[-1])
    return started


def test_bad_input_does_not_wait_for_the_server_that_is_starting(begun: list[local_server.LocalServer]) -> None:
    with (
        temporary_settings(restore_defaults={PREFECT_API_URL}),
        pytest.raises(IndexscopeError),
        local_server.temporary_server(),
    ):
        raise IndexscopeError("dataset", "is none", "give another")
    assert [server._process.poll() for server in begun] == [-signal.SIGKILL]


def test_a_server_that_the_settings_make_needless_is_stopped_before_the_run(
    begun: list[local_server.LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_server, "_may_be_named", lambda: False)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), local_server.temporary_server() as server:
        assert len(begun) == 1
        server.ready()
        assert begun[0]._process.poll() == -signal.SIGKILL


#: Whether a server is started before Prefect is imported, in a process that has not.
GUESS = """
import sys
from indexscope.flows.local_server import _may_be_named
print(_may_be_named())
assert "prefect" not in sys.modules
"""


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (".env", "PREFECT_API_URL=http://127.0.0.1:9/api"),
        ("prefect.toml", "[api]\nurl = 'http://127.0.0.1:9/api'"),
        ("pyproject.toml", "[tool.prefect.api]\nurl = 'http://127.0.0.1:9/api'"),
        ("home/profiles.toml", "[profiles.mine]\nPREFECT_API_URL = 'http://127.0.0.1:9/api'"),
        ("PREFECT_API_URL", "http://127.0.0.1:9/api"),
        ("nothing", ""),
        ("pyproject.toml", "[project]\ndependencies = ['prefect']"),
    ],
)
def test_no_server_is_started_ahead_of_settings_that_may_name_one(tmp_path: Path, place: str, text: str) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / place).write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"PREFECT_HOME": str(tmp_path / "home")} | ({place: text} if place.isupper() else {})
    run = subprocess.run([sys.executable, "-c", GUESS], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.stdout.strip() == str("127.0.0.1" in text), run.stderr


def test_runs_on_a_temporary_server_send_no_heartbeats_for_which_they_would_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Started:
        url = "http://127.0.0.1:9/api"

        def __init__(self, *_: object) -> None: ...

        def wait(self, _: float) -> None: ...

    def beats() -> int | None:
        return get_current_settings().flows.heartbeat_frequency

    monkeypatch.setattr(local_server, "LocalServer", Started)
    monkeypatch.setattr("prefect.context.refresh_global_settings_context", lambda: None)
    monkeypatch.setenv("PREFECT_API_URL", "")  # the block sets it for the process
    theirs = temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 30}, restore_defaults={PREFECT_API_URL})
    with theirs, local_server.temporary_server() as server:
        assert beats()
        server.ready()
        assert beats() is None
