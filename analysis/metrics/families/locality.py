"""Where the attention goes by distance and place."""

from __future__ import annotations

import numpy as np

from indexscope.analysis.metrics.metric import Array, Derived, Family, Metric, attention_metric
from indexscope.analysis.statistics import ratio

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
            "neither",
            "mean over heads and queries of sum over s with 0 <= t - s < w of p[h,t,s]",
            misleads="Short contexts lie within the window: up to w keys it is 1 whatever the head does. Compare by "
            "bucket.",
        ),
        Metric(
            "local_global_ratio",
            "ratio",
            "neither",
            "Attention within the window relative to attention beyond it.",
            "sum of local mass / sum of (1 - local mass) over heads and queries: a ratio of sums",
            Derived("attention", ("local_mass",), odds),
            range="≥ 0",
            misleads="Without bound as nearly all attention is local, so that a single very local layer rules the "
            "mean; null if nothing lies beyond the window.",
        ),
        attention_metric(
            "sink_mass",
            "neither",
            "mean over heads and queries of sum over s < 4 (extract.sink_keys) of p[h,t,s]",
            source="Xiao et al. 2023, Efficient Streaming Language Models with Attention Sinks",
            misleads="Early queries have little else to attend to than the first keys, so that uniform attention "
            "gives min(1, 4/n_t); which tokens act as sinks may not be the first ones (see vertical "
            "patterns).",
        ),
        attention_metric(
            "self_mass",
            "neither",
            "mean over heads and queries of p[h,t,t]",
            misleads="The first query has only itself, and short contexts raise it; uniform attention gives 1/n_t.",
        ),
        attention_metric(
            "previous_mass",
            "neither",
            "mean over heads and queries of p[h,t,t-1], 0 for t = 0",
            misleads="A mean over heads: one previous-token head among sixteen gives 0.06. Uniform attention gives "
            "1/n_t, so short contexts raise it.",
        ),
        attention_metric(
            "mean_distance",
            "neither",
            "mean over heads and queries of sum over s of p[h,t,s] (t - s)",
            range="0 to n_t - 1",
            misleads="A mixture of sink and local attention has a mean distance at which there is no attention at "
            "all; it grows with the context.",
        ),
        attention_metric(
            "induction_mass",
            "neither",
            "mean over heads and queries of sum over s <= t with x[s-1] = x[t] of p[h,t,s]",
            source="Olsson et al. 2022, In-context Learning and Induction Heads",
            misleads="Text that repeats itself has many such keys, so that uniform attention already reaches a large "
            "value; models compare only on the same data.",
        ),
    ),
)
