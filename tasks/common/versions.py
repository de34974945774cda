"""The versions that a result was made with."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from indexscope import __version__

PACKAGES = ("torch", "transformers", "prefect", "polars", "numpy", "scikit-learn", "datasketches")


def versions() -> dict[str, str]:
    """Version by name: indexscope, Python and the packages whose code shapes the numbers."""
    return dict(_versions())


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    found = [("indexscope", __version__), ("python", platform.python_version())]
    for package in PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            found.append((package, "not installed"))
    return tuple(found)
