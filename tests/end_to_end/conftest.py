"""The command line as a user runs it: a process of its own, with a Prefect home of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# The console script of the environment that the tests run in.
INDEXSCOPE = str(Path(sys.executable).with_name("indexscope"))
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**kept, "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")), "COLUMNS": "160"}


@pytest.fixture(scope="session")
def indexscope(environment: dict[str, str]) -> Command:
    def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        command = [INDEXSCOPE, *map(str, arguments)]
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=400)

    return run
