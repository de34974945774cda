"""The tables of the close-up and of what runs again after it: those of every question that takes something."""

from __future__ import annotations

from indexscope.analysis.closeup.collect import collected

TABLES = {name: table for part in collected() for name, table in part.tables.items()}
RERUN_TABLES = {name: table for part in collected() if part.rerun for name, table in part.rerun.tables.items()}
