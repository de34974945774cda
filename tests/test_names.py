"""The rooms have one name each: here both would work, where Indexscope is installed the short one is the user's."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from conftest import ROOMS

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_not_imported_by_its_short_name(room: str) -> None:
    with pytest.raises(ImportError, match=f"indexscope.{room}"):
        import_module(room)
    assert import_module(f"indexscope.{room}").__file__


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("line", ["import {}", "import {}.x as y", "from {} import x", "from {}.x import y"])
def test_the_linter_refuses_a_short_name(room: str, line: str) -> None:
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--select=TID251", "-"]
    told = subprocess.run(command, input=line.format(room), cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 1 and f"import indexscope.{room}" in told.stdout, told.stderr


def test_no_file_is_loaded_under_two_names() -> None:
    for room in ROOMS:
        import_module(f"indexscope.{room}")
    files: dict[Path, str] = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name != "__main__" and file and ROOT in Path(file).parents and ".venv" not in file:
            assert files.setdefault(Path(file).resolve(), name) == name
