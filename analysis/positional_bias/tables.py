"""The table of selections by position, relative to chance."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.metrics.tables import BOTH
from indexscope.columns import SAMPLES, interval, of, of_attention, table_of

LABEL = of(pl.String, label="The bin in words.")
LIFT = table_of(
    "layer, axis, bin",
    "layer axis bin",
    LABEL,
    of(pl.Float64, "ratio", lift="Selections relative to chance."),
    interval("ratio"),
    of_attention(
        of(pl.Float64, "ratio", attention_lift="Dense attention relative to chance."),
        interval("ratio", "attention_ci_low", "attention_ci_high"),
    ),
    of(pl.Float64, "keys", selections="Selected keys in the bin.", expected="The same by chance."),
    SAMPLES,
    ordered=False,
)
RESULTS = {**BOTH, "lift": LIFT}
