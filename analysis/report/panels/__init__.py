"""One file a panel: what a report shows of one analysis of a model; each declares ``PANEL``."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from indexscope.analysis.report.panels.panel import Panel, Passage, TextTable, Token

__all__ = ["PANELS", "Panel", "Passage", "TextTable", "Token"]


def _panels() -> tuple[Panel, ...]:
    names = [module.name for module in iter_modules(__path__) if module.name != "panel"]
    found = [import_module(f"{__name__}.{name}").PANEL for name in names]
    return tuple(sorted(found, key=lambda panel: panel.order))


PANELS = _panels()
