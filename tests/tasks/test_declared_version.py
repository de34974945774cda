"""Versions are read from the text of modules, and are those that the modules have."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from importlib import import_module
from pathlib import Path
import indexscope
from indexscope.tasks.common.declared_version import version_of
from indexscope.tasks.common.registry import STEPS

root = Path(indexscope.__file__).parent
steps = {name: step.version() for name, step in STEPS.items()}
heavy = {'torch', 'transformers', 'sklearn', 'numba', 'matplotlib'} & set(sys.modules)
assert not heavy, heavy
asked = {
    (".".join(("indexscope", *file.relative_to(root).with_suffix("").parts)), line.split(" = ")[0])
    for file in sorted((root / "analysis").resolve().rglob("*.py"), key=str)
    for file in [root / "analysis" / file.relative_to((root / "analysis").resolve())]
    for line in file.read_text().splitlines()
    if line.split(" = ")[0].endswith("VERSION") and " = " in line and not line.startswith((" ", "#"))
}
assert len(asked) > 15
read = {one: version_of(*one)() for one in asked if one[0] not in sys.modules}
assert len(read) > 15
for (module, name), version in read.items():
    assert version == getattr(import_module(module), name), module
assert {name: step.version() for name, step in STEPS.items()} == steps
"""


def test_versions_are_those_of_the_modules_and_asking_for_them_imports_nothing_heavy() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_a_module_without_a_version_has_the_first() -> None:
    from indexscope.tasks.common.declared_version import version_of

    assert version_of("indexscope.analysis.clustering.choice")() == 1
