"""The tables that a report is kept as."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.compared import COMPARISONS
from indexscope.analysis.gates import GATES
from indexscope.columns import of, table_of

FILES = table_of("file", "name", of(pl.String, name="Name of the file.", content="Its text."), ordered=False)
REPORTED = {"summary": COMPARISONS, "files": FILES, "gates": GATES}
