"""What holds for all tests: one name for each room, and no time lost to the collector or to the order of the files.

The rooms are called here as where they are installed: `indexscope.analysis`, never `analysis`.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

# Machines differ by a factor of four, and a busy one is slower still: how long an example takes proves nothing.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

#: What imports an extra that may be missing.
collect_ignore = [] if find_spec("prefect_ray") else ["indexscope/flows/engine/clusters.py"]
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


def pytest_collection_finish() -> None:
    """Spare every later collection the modules of torch, Prefect and all tests, a fifth of a second each time."""
    gc.collect()
    gc.freeze()


#: Files that take longest, which start first so that none is left over when the others are done.
LONGEST = (
    *("tests/end_to_end", "tests/flows/test_bucket_study.py", "tests/report/test_browser.py"),
    *("tests/flows", "tests/report", "tests/interpretability", "tests/analysis/capture"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""

    def place(item: pytest.Item) -> int:
        return next((n for n, path in enumerate(LONGEST) if item.nodeid.startswith(path)), len(LONGEST))

    items.sort(key=place)


def pytest_unconfigure() -> None:
    """Leave the end of the process as it is without `pytest_collection_finish`."""
    gc.unfreeze()
