"""Import a user's modules from what was read of them, one tree at a time in a process.

Served from the bytes that the key of every result was made of, they are what ran, whatever became of the files since;
two experiments whose files bear the same names do not meet.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import ExecutionLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from threading import RLock
from types import ModuleType

from indexscope.storage.inputs.own.code import Module, OwnCode

_lock = RLock()
_current: _Tree | None = None


def main_module(code: OwnCode) -> ModuleType:
    """The loader's module, imported anew unless this very code is in use.

    What it imports from its tree stays importable until another code is asked for, since a forward may import too.
    """
    global _current
    with _lock:
        if _current is None or _current.code != code:
            if _current is not None:
                _current.leave()
            _current = _Tree(code)
            _current.enter()
        try:
            return import_module(code.main.name)
        except BaseException:
            _current.leave()
            _current = None
            raise


class _Tree(MetaPathFinder):
    """Finds the modules of one code."""

    def __init__(self, code: OwnCode) -> None:
        self.code = code
        self.modules = {module.name: module for module in code.modules}
        self.folders = {
            name.rsplit(".", up)[0]: str(Path(module.path).parents[up - 1 + module.is_package])
            for name, module in self.modules.items()
            for up in range(name.count("."), 0, -1)
        }
        self.aside: dict[str, ModuleType] = {}
        self.specs: list[ModuleSpec] = []

    def enter(self) -> None:
        """Take the names; modules of others that bear them are put aside."""
        names = {*self.modules, *self.folders}
        self.aside = {name: sys.modules.pop(name) for name in names & sys.modules.keys()}
        sys.meta_path.insert(0, self)

    def leave(self) -> None:
        """Give the names back."""
        sys.meta_path.remove(self)
        for name in (*self.modules, *self.folders):
            spec = getattr(sys.modules.get(name), "__spec__", None)
            if any(spec is own for own in self.specs):
                del sys.modules[name]
            if name in self.aside:
                sys.modules.setdefault(name, self.aside[name])

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """How a name is imported; None for what does not lie in the tree."""
        spec = self._spec(name)
        self.specs += [] if spec is None else [spec]
        return spec

    def _spec(self, name: str) -> ModuleSpec | None:
        module = self.modules.get(name)
        if module is not None:
            spec = spec_from_loader(name, _Content(module), origin=module.path, is_package=module.is_package)
            assert spec is not None
            spec.has_location = True
            if module.is_package:
                spec.submodule_search_locations = [str(Path(module.path).parent)]
            return spec
        if name in self.folders:
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [self.folders[name]]
            return spec
        unseen = self.code.find(name)
        if unseen is not None:
            reason = f"{unseen} is imported without an import statement, so that a change of it would go unnoticed"
            raise ImportError(f"{reason}; write `import {name}`")
        return None


class _Content(ExecutionLoader):
    """Loads a module from its bytes."""

    def __init__(self, module: Module) -> None:
        self.module = module

    def get_filename(self, fullname: str) -> str:
        return self.module.path

    def get_source(self, fullname: str) -> str:
        from importlib.util import decode_source

        return decode_source(self.module.content)

    def get_code(self, fullname: str) -> object:  # type: ignore[override]
        return compile(self.module.content, self.module.path, "exec", dont_inherit=True)

    def is_package(self, fullname: str) -> bool:
        return self.module.is_package
