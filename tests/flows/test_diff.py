"""The command diff on a study that has run: what it pairs, how it is told, and what ends in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from indexscope.storage.store.store import Store
from indexscope.storage.studies.records import read_records
from tests.flows.conftest import Run, run_command


@pytest.fixture(scope="module")
def finished(first_run: tuple[Path, Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study; no test of this module changes it."""
    return Path(shutil.copytree(first_run[0], tmp_path_factory.mktemp("diff") / "study"))


def as_json(*arguments: object) -> dict[str, Any]:
    run = run_command("diff", *arguments, "--json")
    assert (run.code, run.err, len(run.out)) == (0, [], 1)
    content: dict[str, Any] = json.loads(run.out[0])
    return content


def rows_of(content: dict[str, Any]) -> dict[tuple[str, int | None], dict[str, Any]]:
    return {(row["metric"], row["layer"]): row for row in content["differences"]}


def test_models_of_two_stores_are_paired_as_the_study_itself_pairs_them(finished: Path, done: Path) -> None:
    content = as_json(finished / ".indexscope", done / ".indexscope", "--model", "base=light")
    assert content["paired"] is True
    assert "paired by sample: 8 samples, 2,000 bootstrap resamples" in content["notes"][2]
    rows = rows_of(content)
    report = json.loads((finished / "reports" / "tiny" / "report.json").read_text())
    compared = [row for row in report["comparisons"] if row["difference"] is not None and row["ci_low"] is not None]
    assert len(compared) > 100
    for row in compared:
        found = rows[row["metric"], row["layer"]]
        assert found["interval"] in ("paired", "repeats")
        for mine, theirs in (("difference", "difference"), ("ci_low", "ci_low"), ("ci_high", "ci_high"), ("n", "n")):
            assert found[mine] == pytest.approx(row[theirs], rel=1e-9, abs=1e-12)
        assert found["better"] == row["better"], row["metric"]


def test_a_report_cannot_be_paired_and_says_so(finished: Path) -> None:
    store, folder = finished / ".indexscope", finished / "reports" / "tiny"
    content = as_json(folder, store)
    assert content["paired"] is False
    assert content["notes"][2].startswith("not paired: A is a report, which holds no values by sample; name its store")
    kinds = {row["interval"] for row in content["differences"]}
    assert kinds == {"independent", None}
    # From a report, the comparison of its own two models is the study's own.
    alone = rows_of(as_json(folder))
    assert alone["nll", None]["interval"] == "paired"
    assert alone["nll", None] == rows_of(as_json(store))["nll", None]


def test_a_study_file_stands_for_its_store_and_without_one_for_its_report(done: Path) -> None:
    study = done / "study.yaml"
    assert as_json(study, done / ".indexscope")["paired"] is True
    shutil.rmtree(done / ".indexscope")
    content = as_json(study, done / "reports" / "tiny")
    assert "A has no finished run in its store, only a report" in content["notes"][2]
    assert {row["difference"] for row in content["differences"] if row["difference"] is not None} == {0.0}


def test_a_store_without_the_analyses_cannot_be_paired(done: Path, finished: Path) -> None:
    shutil.rmtree(done / ".indexscope" / "analyses" / "context_length")
    content = as_json(done / ".indexscope", finished / ".indexscope")
    assert content["paired"] is False
    assert "A no longer has analyses/context_length/" in content["notes"][2]


def test_a_store_with_several_studies_asks_which(done: Path) -> None:
    store = Store(done / ".indexscope")
    (record,) = read_records(store)
    twin = replace(record, study="twin", identity="twin-1")
    store.folder.write(twin.file, twin.encode())
    run = run_command("diff", store.url, store.url)
    assert (run.code, len(run.err), run.out) == (2, 1, [])
    assert "holds several studies; choose one with --study: tiny, twin" in run.err[0]
    assert as_json(store.url, store.url, "--study", "tiny", "--study", "twin")["paired"] is True
    assert as_json(done / "reports" / "tiny", store.url, "--study", "twin")["paired"] is False


def test_the_table_is_aligned_and_whole_in_a_pipe(finished: Path) -> None:
    run = run_command("diff", finished / ".indexscope", "--all", "--layers")
    assert (run.code, run.err) == (0, [])
    assert not any("\x1b" in line or line.endswith(" ") for line in run.out)
    head = next(line for line in run.out if line.startswith("metric"))
    assert head.split()[:5] == ["metric", "layer", "unit", "A", "B"] and "95\u202f% CI" in head
    start = head.index("reading")
    cells = [line[start:] for line in run.out if line.startswith("  ")]
    assert len(cells) > 200
    words = ("inconclusive", "unchanged", "equivalent", "no interval", "↑ ", "↓ ", "not comparable")
    assert all(cell.startswith(words) for cell in cells)
    assert {"↑ worse", "↓ better", "↑ higher", "inconclusive", "unchanged"} <= set(cells)


def test_colours_and_fewer_columns_are_for_terminals_only(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    from indexscope.flows.cli.commands.diff import diff_reports

    def printed(columns: int) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(sys, "stdout", Terminal())
        with pytest.raises(Exception) as ended:  # noqa: PT011 - typer's Exit is no exception of a public name
            diff_reports(str(finished / ".indexscope"), metric=["cost", "tie_share"])
        assert getattr(ended.value, "exit_code", None) == 0
        return str(sys.stdout.getvalue())  # type: ignore[attr-defined]

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    wide = printed(200)
    assert "\x1b[32m↓ better" in wide and "\x1b[31m↑ worse" in wide and "95\u202f% CI" in wide
    narrow = printed(70)  # latencies of few digits leave room for an interval in 80
    assert "95\u202f% CI" not in narrow and "a wider terminal, a pipe or --json shows n, unit, interval too" in narrow
    monkeypatch.setenv("NO_COLOR", "1")
    plain = printed(200)
    assert "\x1b[3" not in plain.replace("\x1b[3m", "") and "↓ better" in plain


def test_markdown_is_a_table_of_github(finished: Path) -> None:
    run = run_command("diff", finished / ".indexscope", "--markdown", "--metric", "recall", "--layer", "1")
    assert run.code == 0, run.err
    assert "| metric | layer | unit | A | B | B − A | 95\u202f% CI | n | reading |" in run.out
    rows = [
        line for line in run.out if line.startswith("| selection\\_recall") or line.startswith("| selection_recall")
    ]
    assert len(rows) == 1 and rows[0].split(" | ")[1] == "1"


def test_a_rule_that_holds_fails_and_is_named_with_its_value(finished: Path) -> None:
    folder = finished / "reports" / "tiny"
    rules = ["--fail-on", "indexer_parameters < 0", "--fail-on", "recall < -0.5"]
    run = run_command("diff", folder, "--metric", "nll", *rules)
    assert run.code == 1
    failed = [line for line in run.out if line.startswith("failed:")]
    assert failed == ["failed: indexer_parameters < 0: base → light: −576"]
    run = run_command("diff", folder, "--metric", "nll", *rules[2:])
    assert run.code == 0 and run.out[-1] == "passed: none of 1 rules holds"


def test_a_rule_per_layer_names_the_layers_in_which_it_holds(finished: Path) -> None:
    folder = finished / "reports" / "tiny"
    rows = {row["layer"]: row["difference"] for row in as_json(folder, "--metric", "tie_share")["differences"]}
    low, high = sorted((0, 1), key=lambda layer: rows[layer])
    rule = f"tie_share > {(rows[low] + rows[high]) / 2:.6f} per layer"
    run = run_command("diff", folder, "--metric", "nll", "--fail-on", rule)
    assert run.code == 1
    (failed,) = [line for line in run.out if line.startswith("failed:")]
    assert failed.startswith(f"failed: {rule}: base → light, layer {high}: +")


def test_a_reader_that_leaves_early_changes_neither_message_nor_code(finished: Path) -> None:
    program = (
        "import sys; from indexscope.flows.cli.main import main\n"
        "sys.argv[1:] = ['diff', sys.argv[1], '--all', '--layers', '--fail-on', 'indexer_parameters < 0']\n"
        "main()\n"
    )
    command = [sys.executable, "-c", program, str(finished / "reports" / "tiny")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1  # the rule's


WRONG = {
    "nothing there": (["/no/such/place"], "is no report and no store; give a report's folder, a store or a study file"),
    "no report": ([Path(__file__).parent], "holds no report.json and no finished study"),
    "torn": (["{torn}"], "has an unreadable report.json"),
    "something else": (["{other}"], "has a report.json without 'study'"),
    "newer": (["{newer}"], "was written with report schema 99"),
    "nothing in common": (["{alien}"], "have no metric in common"),
    "metric": (
        ["{good}", "--metric", "nl"],
        "is no metric and no family of metrics here; did you mean nll?",
    ),
    "layer": (["{good}", "--layer", "7"], "--layer 7: is a layer that neither side has a value for"),
    "model": (["{good}", "--model", "lite"], "neither side has a model 'lite'; did you mean 'light'?"),
    "rule": (["{good}", "--fail-on", "nlll < 1"], "there is no metric nlll; did you mean nll?"),
    "study": (["{good}", "--study", "x"], "--study x: neither side is a store"),
    "forms": (["{good}", "--json", "--markdown"], "exclude each other"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_ends_in_one_line(case: str, finished: Path, tmp_path: Path) -> None:
    arguments, reason = WRONG[case]
    good = finished / "reports" / "tiny" / "report.json"
    content = json.loads(good.read_text())
    alien = content | {"metrics": [{**row, "name": f"x_{row['name']}"} for row in content["metrics"]]}
    files = {
        "torn": good.read_text()[:2000],
        "other": '{"a": 1}',
        "newer": json.dumps(content | {"schema_version": 99}),
        "alien": json.dumps(alien),
        "good": good.read_text(),
    }
    for name, text in files.items():
        (tmp_path / f"{name}.json").write_text(text)
    places = {name: tmp_path / f"{name}.json" for name in files}
    run = run_command("diff", good, *(str(argument).format(**places) for argument in arguments))
    assert (run.code, len(run.err), run.out) == (2, 1, []), run
    assert reason in run.err[0]
