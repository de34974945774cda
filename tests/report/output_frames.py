"""Frames of what models predict to make reports from: seeded, with the statistics and groups of a real comparison."""

from __future__ import annotations

import numpy as np
import polars as pl

from indexscope.analysis.closeup.classes import CLASSES
from indexscope.analysis.output_divergence.tables import BY, CLASS, DIVERGENCE, POSITION, UNITS

GROUPED = (
    *("perplexity_ratio", "output_kl", "output_kl_median", "output_kl_p99"),
    *("probability_change_rms", "same_top_token"),
)
TYPICAL = {"ratio": 1.01, "correlation": 0.99, "nats": 0.02, "share": 0.03}


def output_frames(model: str, place: int, samples: int, buckets: int = 10) -> dict[str, pl.DataFrame]:
    """Frames of one model; the first of a study, with place 0, is compared with its own dense attention alone."""
    random = np.random.default_rng(place)

    def row(statistic: str) -> tuple[str, str, float, float | None, float | None, int]:
        value = 0.94 if statistic == "same_top_token" else TYPICAL[UNITS[statistic]]
        value *= 1 + random.uniform(-0.03, 0.03)
        half = None if statistic == "output_kl_max" else value * random.uniform(0.01, 0.04)
        bounds = (None, None) if half is None else (value - half, value + half)
        return statistic, UNITS[statistic], value, *bounds, samples

    against = {"dense": ("perplexity_ratio",), **({"baseline": tuple(UNITS)} if place else {})}
    whole = [(model, to, *row(statistic), None) for to, listed in against.items() for statistic in listed]
    bins = [(POSITION, bucket, f"{2**bucket - 1} to {2 ** (bucket + 1) - 2}") for bucket in range(buckets)]
    bins += [(CLASS, code, name) for code, name in enumerate(CLASSES)]
    by = [
        (model, to, *group, *row(statistic))
        for to in against
        for group in bins
        for statistic in (GROUPED if to == "baseline" else GROUPED[:1])
        if to == "baseline" or group[0] == POSITION
    ]
    return {
        "output_divergence": pl.DataFrame(whole, schema=DIVERGENCE.schema, orient="row"),
        "output_divergence_by": pl.DataFrame(by, schema=BY.schema, orient="row"),
    }
