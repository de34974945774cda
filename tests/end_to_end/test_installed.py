"""The built wheel, in an environment of its own, in a folder whose packages are called like the rooms."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import ROOMS

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "pyproject.toml"
#: What a wheel is made of; the tests must leave no build folder in the checkout, and take nothing from an old one.
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "indexscope", "interpretability", *ROOMS)
UNBUILT = shutil.ignore_patterns("__pycache__", ".work")
BUILD = "import sys; from setuptools import build_meta as b; to = sys.argv[1]; b.build_sdist(to); b.build_wheel(to)"


@dataclass(frozen=True)
class Installed:
    """An environment that has the wheel, the wheel and the sdist themselves, and a folder of hostile packages."""

    home: Path
    wheel: Path
    sdist: Path
    folder: Path

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in the hostile folder."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        environment |= {"PYTHONPATH": ".", "PREFECT_HOME": str(self.home / "prefect"), "COLUMNS": "160"}
        command = [str(self.home / "bin" / program), *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300)


def pip(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Install something into an environment with the pip of this one."""
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--retries=1"]
    command = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install", *quiet, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def build(home: Path, sources: Path, target: Path) -> Path:
    """Build sdist and wheel of a folder, and return the wheel."""
    target.mkdir()
    subprocess.run([home / "bin" / "python", "-c", BUILD, target], cwd=sources, capture_output=True, check=True)
    (wheel,) = target.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    work = tmp_path_factory.mktemp("installed")
    home, copy, folder = work / "environment", work / "copy", work / "folder"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    tools = pip(home, *tomllib.loads(PROJECT.read_text(encoding="utf-8"))["build-system"]["requires"])
    if tools.returncode:
        reason = f"no build tools without a package index: {tools.stderr.strip().splitlines()[-1]}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    copy.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=UNBUILT)
        else:
            shutil.copy(ROOT / name, copy / name)
    wheel = build(home, copy, work / "built")
    (sdist,) = wheel.parent.glob("*.tar.gz")
    done = pip(home, "--no-deps", "--no-index", str(wheel))
    assert done.returncode == 0, done.stderr
    (packages,) = home.glob("lib/python*/site-packages")
    # The dependencies are those of this environment. An editable install in it works by a .pth file, and those count
    # only in an environment's own site-packages, so that the wheel is what is imported.
    borrowed = [entry for entry in sys.path if Path(entry).name == "site-packages"]
    (packages / "borrowed.pth").write_text("\n".join(borrowed), encoding="utf-8")
    for room in ROOMS:
        (folder / room).mkdir(parents=True)
        (folder / room / "__init__.py").write_text('raise SystemExit("hostile")\n', encoding="utf-8")
    yield Installed(home, wheel, sdist, folder)
    shutil.rmtree(work)


def contents(wheel: Path) -> dict[str, int]:
    """The files of a wheel and their checksums; RECORD is the list of them."""
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info.CRC for info in archive.infolist() if not info.filename.endswith("/RECORD")}


def test_a_users_own_packages_called_like_the_rooms_are_not_run(installed: Installed) -> None:
    assert installed.run("python", "-c", "import analysis").stderr == "hostile\n"
    told = installed.run("indexscope", "version")
    assert (told.returncode, told.stderr) == (0, "")
    where = "import interpretability as i; from interpretability import AttentionVisualizer; print(i.__file__)"
    notebook = installed.run("python", "-c", where)
    assert notebook.returncode == 0, notebook.stderr
    assert Path(notebook.stdout.strip()).is_relative_to(installed.home)
    plan = installed.run("indexscope", "study", "--dry-run")
    assert plan.returncode == 0, plan.stderr
    assert "extract" in plan.stdout and "report" in plan.stdout


def test_only_two_names_are_installed_and_every_file_of_the_rooms_is_there(installed: Installed) -> None:
    names = set(contents(installed.wheel))
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"indexscope", "interpretability"}
    sources = {
        f"indexscope/{path.relative_to(ROOT)}"
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and not {"__pycache__", ".work"} & set(path.parts)
    }
    assert not sources - names
    assert {"indexscope/storage/builtin/light/model.safetensors", "indexscope/flows/study/demo.yaml"} <= names
    assert "indexscope/analysis/report/templates/report.html.j2" in names


def test_the_sdist_builds_the_same_wheel(installed: Installed, tmp_path: Path) -> None:
    with tarfile.open(installed.sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert contents(build(installed.home, unpacked, tmp_path / "built")) == contents(installed.wheel)
