"""How a finished report is told on stdout, and opened in a browser."""

from __future__ import annotations

import io
import json
import sys
import webbrowser
from pathlib import Path

import pytest

from indexscope import IndexscopeError
from indexscope.analysis.report.json_schema import schema
from indexscope.flows.cli import studies
from indexscope.flows.cli.browser import need_browser, open_page
from indexscope.flows.cli.told import show_told
from indexscope.flows.study.outcome import Outcome
from tests.flows.conftest import run_command

TOLD = "Better.\n  loss  −0.1 × 10⁻⁵  (−1 to 1)  ↑ better\n  error  0  ↑ worse\n  recall  ≈ equivalent\n  x  ↓ lower\n"


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def told(monkeypatch: pytest.MonkeyPatch, kind: type[io.TextIOWrapper], encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", kind(raw, encoding=encoding))
        show_told(TOLD)
        sys.stdout.flush()
        return raw.getvalue().decode(encoding)


def test_a_pipe_gets_the_lines_without_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, io.TextIOWrapper) == TOLD


def test_a_terminal_gets_colour_unless_it_wants_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[32m↑ better\x1b[0m" in told(monkeypatch, Terminal)
    assert "\x1b[31m↑ worse\x1b[0m" in told(monkeypatch, Terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    assert told(monkeypatch, Terminal) == TOLD


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_where_signs_are_lacking_words_and_readable_numbers_stand(
    monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    lines = told(monkeypatch, io.TextIOWrapper, encoding).splitlines()
    assert lines[1] == "  loss  -0.1 x 10^-5  (-1 to 1)  better"
    assert [line.split()[-1] for line in lines] == ["Better.", "better", "worse", "equivalent", "lower"]
    assert not any(character in text for character in "?^↑" for text in lines[2:])


def test_the_folder_stays_the_last_line_and_is_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    opened: list[str] = []
    monkeypatch.setattr(studies, "run_flow", lambda *_: Outcome(1, ("gate failed: x",), str(folder), TOLD))
    monkeypatch.setattr(webbrowser, "get", lambda: None)
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    run = run_command("report", "--open")
    assert (run.code, run.err) == (1, ["gate failed: x"])
    assert run.out == [*TOLD.splitlines(), str(folder)]
    assert opened == [f"{tmp_path.as_uri()}/with%20space/report.html"]
    assert run_command("report").out == run.out and len(opened) == 1


def test_without_a_browser_one_line_is_told_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr(studies, "run_flow", lambda *_: pytest.fail("work that is wasted"))
    monkeypatch.setattr(webbrowser, "get", none)
    run = run_command("report", "--open")
    assert (run.code, run.out, len(run.err)) == (2, [], 1)
    assert run.err[0].startswith("error: --open: no browser can be started here")
    with pytest.raises(IndexscopeError):
        need_browser()


def test_a_page_that_cannot_be_opened_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda _: False)
    for folder in ("s3://bucket/report", str(tmp_path)):
        with pytest.raises(IndexscopeError, match="--open"):
            open_page(folder)


def test_the_schema_is_printed_and_nothing_else_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "run_flow", lambda *_: pytest.fail("a run"))
    run = run_command("report", "--schema")
    assert (run.code, run.err) == (0, [])
    assert json.loads("\n".join(run.out)) == schema()
