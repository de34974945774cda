"""Where the attention goes by distance and place."""

from __future__ import annotations

import numpy as np

from analysis.metrics.metric import Array, Derived, Family, Metric, attention_metric
from analysis.statistics import ratio

# Masses are sums of float32 weights.
ROUNDING = 1e-6


def odds(share: Array) -> Array:
    """Odds of a share, share / (1 - share); NaN where nothing but rounding lies outside the share."""
    outside = 1.0 - np.asarray(share)
    return ratio(share, np.where(outside > ROUNDING, outside, 0.0))


FAMILY = Family(
    order=70,
    title="Locality",
    about="Dense attention by the place of the key; w is extract.local_window, 32 unless set otherwise.",
    metrics=(
        attention_metric(
            "local_mass",
            "share",
            "neither",
            "Attention on the nearest keys, the query's own included.",
            "mean over heads and queries of sum over s with 0 <= t - s < w of p[h,t,s]",
        ),
        Metric(
            "local_global_ratio",
            "ratio",
            "neither",
            "Attention within the window relative to attention beyond it.",
            "sum of local mass / sum of (1 - local mass) over heads and queries: a ratio of sums",
            Derived("attention", ("local_mass",), odds),
        ),
        attention_metric(
            "sink_mass",
            "share",
            "neither",
            "Attention on the first keys of the sequence.",
            "mean over heads and queries of sum over s < 4 (extract.sink_keys) of p[h,t,s]",
            source="Xiao et al. 2023, Efficient Streaming Language Models with Attention Sinks",
        ),
        attention_metric(
            "self_mass",
            "share",
            "neither",
            "Attention on the query's own token.",
            "mean over heads and queries of p[h,t,t]",
        ),
        attention_metric(
            "previous_mass",
            "share",
            "neither",
            "Attention on the token just before the query.",
            "mean over heads and queries of p[h,t,t-1], 0 for t = 0",
        ),
        attention_metric(
            "mean_distance",
            "tokens",
            "neither",
            "How far back the attention reaches on average.",
            "mean over heads and queries of sum over s of p[h,t,s] (t - s)",
        ),
        attention_metric(
            "induction_mass",
            "share",
            "neither",
            "Attention on tokens that followed an earlier copy of the query's token.",
            "mean over heads and queries of sum over s <= t with x[s-1] = x[t] of p[h,t,s]",
            source="Olsson et al. 2022, In-context Learning and Induction Heads",
        ),
    ),
)
