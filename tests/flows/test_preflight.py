"""What a run needs is checked before it works: each that cannot be used is one line, and no model is loaded."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    save_profiles,
    temporary_settings,
)
from prefect.settings.profiles import Profile, ProfilesCollection

from indexscope import IndexscopeError
from indexscope.flows.study.load import load_study
from indexscope.flows.study.preflight import check_prefect, has_much_to_make
from indexscope.storage.store.writable import refuse_unwritable
from tests.flows.conftest import run_command

COMMANDS = ("study", "extract", "analyze", "compare", "report")


@pytest.fixture
def no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make reading the study's inputs an error, which comes before any model."""

    def refuse(*_: object) -> None:
        raise AssertionError("the inputs were read")

    monkeypatch.setattr("indexscope.flows.study.plan.make_plan", refuse)


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder in which nothing can be made, whoever asks."""
    locked = tmp_path / "locked"
    locked.mkdir()
    make = tempfile.TemporaryFile

    def refuse(*arguments: object, **options: object) -> object:
        if Path(str(options.get("dir"))).is_relative_to(locked):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(locked))
        return make(*arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    return locked


@pytest.mark.parametrize("command", [("study",), ("report",), ("study", "--dry-run"), ("serve",)])
@pytest.mark.parametrize("place", ["a file", "below a file", "read-only"])
def test_a_report_that_could_not_be_written_is_refused_first(
    folder: Path, command: tuple[str, ...], place: str, read_only: Path, no_plan: None
) -> None:
    (folder / "taken").write_text("mine")
    target = {"a file": folder / "taken", "below a file": folder / "taken" / "deep" / "er", "read-only": read_only}[
        place
    ]
    run = run_command(command[0], folder / "study.yaml", *command[1:], "--set", f"report={target}")
    assert (run.code, len(run.err), run.out) == (2, 1, [])
    assert run.err[0].startswith(f"error: report: {target}/tiny: cannot be written (")
    assert run.err[0].endswith("choose a folder that you may write to")
    assert (folder / "taken").read_text() == "mine"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_store_that_could_not_be_written_is_refused_first(
    folder: Path, command: str, read_only: Path, no_plan: None
) -> None:
    run = run_command(command, folder / "study.yaml", "--set", f"store={read_only / 'new'}")
    assert (run.code, len(run.err), run.out) == (2, 1, [])
    assert run.err[0].startswith(f"error: store: {read_only}/new: cannot be written (Read-only file system)")


def test_a_read_only_store_serves_what_it_has_and_refuses_what_it_lacks_before_any_model(
    done: Path, monkeypatch: pytest.MonkeyPatch, no_model: None
) -> None:
    make, store = tempfile.TemporaryFile, done / ".indexscope"

    def refuse(*arguments: object, **options: object) -> object:
        if str(options.get("dir")) == str(store):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return make(*arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert run_command("compare", done / "study.yaml").code == 0
    run = run_command("study", done / "study.yaml", "--set", "extract.local_window=3")
    assert (run.code, len(run.err), run.out) == (2, 1, [])
    assert "Read-only file system" in run.err[0]


def test_looking_leaves_nothing_behind(tmp_path: Path) -> None:
    refuse_unwritable(tmp_path / "a" / "b", "report")
    refuse_unwritable("memory://bucket/reports", "report")
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_cannot_be_written_is_refused(read_only: Path) -> None:
    with (
        temporary_settings(updates={PREFECT_HOME: read_only / "home"}, restore_defaults={PREFECT_API_URL}),
        pytest.raises(IndexscopeError, match=r"PREFECT_HOME: .*Read-only file system.*; set PREFECT_HOME to a folder"),
    ):
        check_prefect()


def test_neither_a_server_nor_leave_to_start_one_is_refused() -> None:
    updates = {PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False}
    with (
        temporary_settings(updates=updates, restore_defaults={PREFECT_API_URL}),
        pytest.raises(IndexscopeError, match="PREFECT_API_URL: is not set"),
    ):
        check_prefect()


class _Answer(BaseHTTPRequestHandler):
    """Answers by path: /<status> with that status, /page with a page, /locked to nobody but that it is well."""

    def do_GET(self) -> None:
        kind = self.path.split("/")[1]
        page = kind == "page" or not self.path.endswith("/health")
        self.send_response(
            200 if kind == "page" or (kind == "locked" and not page) else int(kind.replace("locked", "401"))
        )
        self.end_headers()
        self.wfile.write(b"<html>hello</html>" if page else b"true")

    def log_message(self, *_: object) -> None:
        """Keep silent."""


@pytest.fixture(scope="module")
def foreign() -> Iterator[str]:
    """Address of a server that is none of Prefect's."""
    server = HTTPServer(("127.0.0.1", 0), _Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("banana", "is no address"),
        ("http://127.0.0.1:9/api", "cannot be reached"),
        ("{}/404", "is not the API of a Prefect server that works \\(it answers 404\\)"),
        ("{}/503", "is not the API of a Prefect server that works \\(it answers 503\\)"),
        ("{}/page", "is not the API of a Prefect server;"),
        ("{}/401", "does not let you in \\(it answers 401\\); check PREFECT_API_KEY"),
        ("{}/locked", "does not let you in \\(it answers 401\\); check PREFECT_API_KEY"),
    ],
)
def test_a_server_that_is_no_prefect_api_is_refused_by_name(foreign: str, address: str, reason: str) -> None:
    with (
        temporary_settings(updates={PREFECT_API_URL: address.format(foreign)}),
        pytest.raises(IndexscopeError, match=f"PREFECT_API_URL={address.format(foreign)}: {reason}"),
    ):
        check_prefect()


def test_a_server_that_answers_as_prefect_does_is_taken() -> None:
    check_prefect()


def test_a_profile_counts_as_the_environment_does_and_prefect_adds_no_word(tmp_path: Path, folder: Path) -> None:
    profiles = ProfilesCollection(
        [Profile(name="wrong", settings={PREFECT_API_URL: "http://127.0.0.1:9/api"})], "wrong"
    )
    with temporary_settings(updates={PREFECT_HOME: tmp_path}):
        save_profiles(profiles)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    command = [
        sys.executable,
        "-c",
        "from indexscope.flows.start import main; main()",
        "study",
        str(folder / "study.yaml"),
    ]
    ended = subprocess.run(command, env={**kept, "PREFECT_HOME": str(tmp_path)}, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: PREFECT_API_URL=http://127.0.0.1:9/api: cannot be reached")


def test_settings_of_prefect_that_cannot_be_read_are_one_line(folder: Path, tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    wrong = {**kept, "PREFECT_HOME": str(tmp_path), "PREFECT_LOGGING_LEVEL": "loud"}
    command = [
        sys.executable,
        "-c",
        "from indexscope.flows.start import main; main()",
        "study",
        str(folder / "study.yaml"),
    ]
    ended = subprocess.run(command, env=wrong, capture_output=True, text=True)
    (line,) = ended.stderr.splitlines()
    assert (ended.returncode, line.partition(" (")[0]) == (2, "error: Prefect's settings: cannot be read")


@pytest.mark.parametrize(
    ("command", "changed", "much"),
    [
        ("study", [], True),
        ("extract", ["extract.device=cpu"], True),
        ("study", ["dataset.samples=4", "dataset.max_length=64"], False),
        ("study", ["runner.kind=threads"], False),
        ("study", ["runner.workers=1"], False),
        ("study", ["extract.device=cuda"], False),
        ("study", ["store=s3://bucket/store"], False),
        ("report", [], False),
    ],
)
def test_worker_processes_are_begun_ahead_only_where_settings_promise_work(
    tmp_path: Path, command: str, changed: list[str], much: bool
) -> None:
    study = load_study(None, [f"store={tmp_path / 'store'}", *changed])
    assert has_much_to_make(study, command) is much
    (tmp_path / "store" / "features").mkdir(parents=True)
    assert not has_much_to_make(study, command), "what is there may be all"
