"""The source of a loader: its file, and every module of the same folder tree that an import statement of it reaches."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from indexscope.errors import IndexscopeError
from indexscope.foreign import read_file, words

#: Never the user's, whatever lies in the tree.
OURS = ("indexscope", "interpretability")
_INIT = "__init__.py"


@dataclass(frozen=True)
class Module:
    """One file of Python.

    Attributes:
        name: As it is imported.
        path: Where it lies.
        content: Its bytes.
    """

    name: str
    path: str
    content: bytes = field(repr=False)

    @property
    def is_package(self) -> bool:
        """Whether it stands for its folder."""
        return Path(self.path).name == _INIT

    @property
    def package(self) -> str:
        """What its relative imports start from."""
        return self.name if self.is_package else self.name.rpartition(".")[0]


@dataclass(frozen=True)
class OwnCode:
    """The code that makes a model.

    Attributes:
        modules: The loader's file first, then what it imports from its tree, by name.
        roots: Folders in which an import of the tree is looked for, in this order.
    """

    modules: tuple[Module, ...]
    roots: tuple[str, ...]

    @property
    def main(self) -> Module:
        """The loader's file."""
        return self.modules[0]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of names and contents; where the files lie is no part of it."""
        whole = sha256()
        for module in self.modules:
            whole.update(f"{module.name}\0{module.is_package}\0{len(module.content)}\0".encode() + module.content)
        return whole.hexdigest()

    def find(self, name: str) -> Path | None:
        """The file of the tree that a dotted name means; None where the tree has none."""
        return find(name, self.roots)


def read_code(file: Path, top: Path) -> OwnCode:
    """Read a loader's file and all that it imports from its tree, also within functions, without running any of it.

    The tree is the file's folder; below ``top`` it is all of ``top``, so that imports from the folder of a study file
    are found as they are by a script that is run there.

    Args:
        file: The loader's file.
        top: Folder of the study file.

    Raises:
        IndexscopeError: A file cannot be read or is not Python.
    """
    file = file.resolve()
    package: list[str] = []
    root = file.parent
    while (root / _INIT).is_file() and root.name.isidentifier():
        package.insert(0, root.name)
        root = root.parent
    above = [folder for folder in root.parents if folder.is_relative_to(top.resolve())]
    roots = tuple(dict.fromkeys(map(str, (root, file.parent, *above))))
    stem = file.stem if file.stem.isidentifier() and not _is_known(file.stem) else f"_loader_{file.stem}"
    main = _read(".".join([*package, stem]), file)
    found: dict[str, Module] = {main.name: main}
    waiting = [main]
    for number in range(len(package)):
        name = ".".join(package[: number + 1])
        found[name] = _read(name, root.joinpath(*package[: number + 1]) / _INIT)
        waiting.append(found[name])
    while waiting:
        for name in _imported(waiting.pop()):
            path = find(name, roots)
            if name not in found and path is not None and path != file:
                found[name] = _read(name, path)
                waiting.append(found[name])
    rest = sorted((module for module in found.values() if module is not main), key=lambda module: module.name)
    return OwnCode((main, *rest), roots)


def find(name: str, roots: Sequence[str]) -> Path | None:
    """The file that a dotted name means in the first of some folders that has it."""
    parts = name.split(".")
    if _is_known(parts[0]) or not all(part.isidentifier() for part in parts):
        return None
    for root in roots:
        base = Path(root).joinpath(*parts)
        for path in (base / _INIT, base.with_name(f"{base.name}.py")):
            if path.is_file():
                return path.resolve()
    return None


def _is_known(name: str) -> bool:
    return name in sys.stdlib_module_names or name in OURS


def _read(name: str, path: Path) -> Module:
    return Module(name, str(path), read_file(path, "give a Python file that can be read"))


def _imported(module: Module) -> Iterator[str]:
    """Every dotted name that may be a module by the import statements of a file, packages around it first."""
    try:
        tree = ast.parse(module.content, module.path)
    except SyntaxError as error:
        where = f"{module.path}:{error.lineno}" if error.lineno else module.path
        raise IndexscopeError(where, f"is not Python: {error.msg}", "mend the file") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise IndexscopeError(module.path, f"is not Python ({words(error)})", "mend the file") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _prefixes(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.package.split(".") if module.package else []
                if node.level - 1 >= len(package):
                    continue  # Python refuses it where it runs
                base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [base])])
            yield from _prefixes(base)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _prefixes(name: str) -> Iterator[str]:
    parts = name.split(".")
    yield from (".".join(parts[: number + 1]) for number in range(len(parts)))
