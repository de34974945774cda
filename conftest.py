"""The rooms have one name each, here as where they are installed: `indexscope.analysis`, never `analysis`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

ROOMS = ("analysis", "flows", "storage", "tasks")


class OneName(MetaPathFinder):
    """Refuses the names under which a checkout would load the same files a second time, with classes of their own."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Leave every other module to the other finders."""
        if fullname in ROOMS:
            raise ImportError(f"{fullname} is called indexscope.{fullname}; its doctests run as indexscope/{fullname}")
        return None


sys.meta_path.insert(0, OneName())
