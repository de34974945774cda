"""A tiny study: two random DeepSeek-V3.2 checkpoints and a JSONL of token ids, run under one Prefect test server."""

from __future__ import annotations

import os
import tempfile

os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="indexscope-prefect-")  # before prefect is imported

from indexscope.flows import prefect_setup  # isort: skip - before anything of prefect

import importlib
import io
import json
import pkgutil
import random
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from html import escape
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.testing.utilities import prefect_test_harness

import indexscope.analysis
from indexscope.flows.cli.main import main
from indexscope.flows.study.plan import Plan
from indexscope.storage.store.store import StepKey
from indexscope.tasks.common.registry import made_by
from tests.s3 import bucket, endpoint  # noqa: F401 - fixtures
from tests.tiny import save_model

#: Analyses of a study without metrics of its own, on data without answers.
ANALYSES = [name for name in made_by("analyze") if name not in ("plugins", "evidence")]
STUDY = """\
name: tiny
baseline: models/base
candidates:
  - models/light
dataset:
  source: data.jsonl
  column: input_ids
  max_length: 48
  samples: null
extract:
  chunk: 16
  profile_lengths: [16, 32]
  profile_repeats: 2
closeup: {samples: 4, queries: 8, rerun_samples: 2}
shard_size: 3
"""


@dataclass(frozen=True)
class Run:
    """What a command printed and how it ended."""

    code: int
    out: list[str]
    err: list[str]


@pytest.fixture(scope="session", autouse=True)
def prefect_server() -> Iterator[None]:
    """One temporary server and database for all tests of this folder."""
    assert prefect_setup.DEFAULTS
    # Prefect's heartbeats sleep in whole seconds, and a flow that has ended waits for them.
    still = temporary_settings(updates={PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
    with prefect_test_harness(server_startup_timeout=120), still:
        yield


def address(plan: Plan, step: str, model: str = "") -> StepKey:
    """Where a result of a plan lies."""
    node = plan.graph.of(step, model)
    assert node is not None
    return node.key


def run_command(*arguments: object) -> Run:
    """The command line, run in this process."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["indexscope", *map(str, arguments)])
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
    code = ended.value.code
    assert isinstance(code, int)
    return Run(code, out.getvalue().splitlines(), err.getvalue().splitlines())


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with study.yaml, data.jsonl and models."""
    folder = tmp_path_factory.mktemp("inputs")
    save_model(folder / "models" / "base", heads=2, seed=0)
    save_model(folder / "models" / "light", heads=1, seed=0)
    generator = random.Random(0)
    rows = [[generator.randrange(300) for _ in range(generator.choice([40, 48]))] for _ in range(8)]
    (folder / "data.jsonl").write_text("".join(json.dumps({"input_ids": row}) + "\n" for row in rows))
    (folder / "study.yaml").write_text(STUDY)
    return folder


@pytest.fixture
def folder(inputs: Path, tmp_path: Path) -> Path:
    """A study of one's own that has not run."""
    return Path(shutil.copytree(inputs, tmp_path / "study"))


@pytest.fixture(scope="session")
def first_run(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """A study that has run, and what was told; copy its folder before changing it.

    Its inputs stay where they are, so that a copy finds its report in the store: a report's address holds their paths.
    """
    copy = Path(shutil.copytree(inputs, tmp_path_factory.mktemp("finished") / "study"))
    study = re.sub(r"(?<= )(?=models/|data\.jsonl)", f"{inputs}/", STUDY)
    (copy / "study.yaml").write_text(study)
    with blank_figures():
        return copy, run_command("study", copy / "study.yaml")


@pytest.fixture
def done(first_run: tuple[Path, Run], tmp_path: Path) -> Path:
    """A study of one's own that has run."""
    return Path(shutil.copytree(first_run[0], tmp_path / "done"))


@contextmanager
def blank_figures() -> Iterator[None]:
    """Leave figures blank: drawing takes longer than the rest of a tiny study."""
    blank = Figure()
    for found in pkgutil.walk_packages(indexscope.analysis.__path__, "indexscope.analysis."):
        importlib.import_module(found.name)

    def described(_: Figure, identifier: str, title: str, description: str = "", themed: bool = False) -> str:
        named = f'<title id="{identifier}-title">{escape(title)}</title><desc>{escape(description)}</desc>'
        return f'<svg viewBox="0 0 1 1" aria-labelledby="{identifier}-title">{named}</svg>'

    with pytest.MonkeyPatch.context() as patch:
        for module in [module for name, module in sys.modules.items() if name.startswith("indexscope.analysis.")]:
            for name, value in list(vars(module).items()):
                if getattr(value, "__annotations__", {}).get("return") in ("Figure", "Figure | None"):
                    patch.setattr(module, name, lambda *_, **__: blank)
        patch.setattr("indexscope.analysis.report.pictures.to_svg", described)
        yield


@pytest.fixture(scope="module", autouse=True)
def undrawn() -> Iterator[None]:
    """Blank figures in the tests of this folder, and of no other."""
    with blank_figures():
        yield


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make loading a model an error."""
    from indexscope.tasks.common import models

    def refuse(*_: object) -> None:
        raise AssertionError("a model was loaded")

    models.release()
    monkeypatch.setattr(models, "_load", refuse)
