"""The tables that a report is kept as."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.comparison.gates import GATES
from indexscope.analysis.comparison.tables import COMPARISONS
from indexscope.columns import of, table_of

FILES = table_of("file", "name", of(pl.String, name="Name of the file.", content="Its text."), ordered=False)
FIGURES = table_of(
    "figure over all models",
    "identifier",
    of(
        pl.String,
        identifier="Its id in the page.",
        title="What it is called.",
        caption="How to read it.",
        svg="The picture.",
    ),
    ordered=False,
)
REPORTED = {"summary": COMPARISONS, "files": FILES, "figures": FIGURES, "gates": GATES}
