"""The tables of the close-up: those of every question that takes something from it."""

from __future__ import annotations

from indexscope.analysis.closeup.collect import collected

TABLES = {name: table for part in collected() for name, table in part.tables.items()}
