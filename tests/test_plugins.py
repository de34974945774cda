"""Claims about files of metrics: what they declare is known to the study that names them, and mistakes are one line."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from indexscope import IndexscopeError
from indexscope.analysis.comparison.gates import parse_rule
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.plugins import load, read
from indexscope.tasks.common.plugins import with_plugins

HEAD = "from indexscope.plugins import feature, metric\n"
FEATURE = HEAD + '@feature(unit="share", meaning="Mine.")\ndef mine(rows):\n    return rows.n\n'
METRIC = HEAD + '@metric(table="attention", unit="share", meaning="Mine.")\ndef mine(frame):\n    return frame\n'


def written(folder: Path, code: str, name: str = "own.py") -> Path:
    (folder / name).write_text(code)
    return folder / name


def test_a_file_declares_what_it_decorates_in_its_order(tmp_path: Path) -> None:
    helper = "def helper(rows):\n    return rows\n"
    file = written(tmp_path, METRIC + helper + FEATURE.replace("mine", "also"))
    found = load(read(str(file)))
    assert [(one.name, one.is_feature, one.origin) for one in found] == [
        ("mine", False, "attention"), ("also", True, "plugin_attention"),
    ]  # fmt: skip
    assert {(one.file, one.unit, one.better) for one in found} == {("own.py", "share", "neither")}


def test_a_file_runs_once_until_it_changes(tmp_path: Path) -> None:
    file = written(tmp_path, FEATURE)
    first = load(read(str(file)))
    assert load(read(str(file))) is first
    written(tmp_path, FEATURE.replace("share", "keys"))
    assert [one.unit for one in load(read(str(file)))] == ["keys"]


def test_studies_in_threads_of_one_process_do_not_mix(tmp_path: Path) -> None:
    meet = Barrier(2, timeout=30)

    def unit(name: str) -> str:
        code = FEATURE.replace("share", name)
        with with_plugins([read(str(written(tmp_path, code, f"{name}.py")))]):
            meet.wait()
            return REGISTRY["mine"].unit

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(unit, ["keys", "tokens"])) == ["keys", "tokens"]
    assert "mine" not in REGISTRY


def test_gates_know_a_metric_inside_the_block_only(tmp_path: Path) -> None:
    with with_plugins([read(str(written(tmp_path, FEATURE)))]):
        assert parse_rule("mine <= 1").metric == "mine"
    with pytest.raises(IndexscopeError, match="there is no metric mine"):
        parse_rule("mine <= 1")


#: What is wrong with a file: its content, where the line must point, and what it must say.
WRONG = {
    "syntax": (HEAD + "def f(:\n", ":2", "is not Python"),
    "encoding": (b"\xff\xfe\x00", "own.py", ""),
    "raises": (HEAD + "1 / 0\n", ":2", "ZeroDivisionError"),
    "exits": ("raise SystemExit(0)\n", ":1", "SystemExit"),
    "imports what is not there": ("import nothing_of_that_name\n", ":1", "ModuleNotFoundError"),
    "nothing": (HEAD, "own.py", "declares no feature and no metric"),
    "twice": (FEATURE + METRIC.removeprefix(HEAD), "own.py: mine", "is declared twice"),
    "built-in name": (FEATURE.replace("mine", "self_mass"), "own.py: self_mass", "built-in metric"),
    "short name": (FEATURE.replace("mine", "recall"), "own.py: recall", "short for"),
    "name of a key": (FEATURE.replace("mine", "sample"), ":2", "cannot be called 'sample'"),
    "name of a count": (FEATURE.replace("mine", "its_queries"), ":2", "cannot be called 'its_queries'"),
    "capitals": (FEATURE.replace("def mine", "def Mine"), ":2", "cannot be called 'Mine'"),
    "no unit": (FEATURE.replace('"share"', '""'), ":2", "unit must be a line of text"),
    "unit of two lines": (FEATURE.replace('"share"', '"a\\nb"'), ":2", "unit must be a line of text"),
    "no such direction": (FEATURE.replace("meaning", 'better="up", meaning'), ":2", "better must be one of higher"),
    "no such per": (FEATURE.replace("meaning", 'per="key", meaning'), ":2", "per must be one of head, query"),
    "no such table": (METRIC.replace('"attention"', '"facts"'), ":2", "table must be one of"),
    "table that is not read": (METRIC.replace('"attention"', '"selections"'), ":2", "table must be one of"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_file_is_one_line_that_names_it(tmp_path: Path, case: str) -> None:
    code, place, words = WRONG[case]
    file = tmp_path / "own.py"
    file.write_bytes(code if isinstance(code, bytes) else code.encode())
    with pytest.raises(IndexscopeError) as caught, with_plugins([read(str(file))]):
        pass
    error = caught.value
    assert "own.py" in error.where and place in error.where and words in error.reason
    assert error.remedy and "\n" not in str(error)


def test_a_name_in_two_files_is_refused(tmp_path: Path) -> None:
    files = [read(str(written(tmp_path, FEATURE + f"# {name}\n", f"{name}.py"))) for name in ("one", "two")]
    with pytest.raises(IndexscopeError, match=r"two\.py: mine: one\.py declares mine too"), with_plugins(files):
        pass


@pytest.mark.parametrize("name", ["missing.py", "."])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(IndexscopeError, match=r"there is no such file|cannot be read"):
        read(str(tmp_path / name))
