"""How much attention few keys hold."""

from __future__ import annotations

from indexscope.analysis.metrics.metric import Family, Metric, attention_metric


def _top(k: int) -> Metric:
    return attention_metric(
        f"top_{k}_mass",
        "neither",
        f"mean over heads and queries of the sum of the {k} largest p[h,t,.] (of all n_t where n_t < {k})",
        misleads=f"Queries with at most {k} keys count as 1, so that short contexts raise it; attention sinks alone "
        "can hold most of it.",
    )


FAMILY = Family(
    order=60,
    title="Concentration",
    about="What the most attended keys of each head hold: the ceiling of what any selection per head could reach.",
    metrics=(
        attention_metric(
            "max_weight",
            "neither",
            "mean over heads and queries of max over s of p[h,t,s]",
            range="1/n_t to 1",
            misleads="The first queries have few keys and large weights; a sink that takes nearly everything makes a "
            "head look decided that does nothing.",
        ),
        _top(5),
        _top(10),
        _top(20),
        _top(64),
        attention_metric(
            "top_k_mass",
            "neither",
            "mean over heads and queries of the sum of the k largest p[h,t,.]; k = index_topk, or extract.top_k for a "
            "model without an indexer",
            misleads="Chosen for each head by itself, as no joint selection can: an upper bound of recall that is not "
            "reachable. For models without an indexer k is a setting.",
        ),
        attention_metric(
            "keys_for_95",
            "neither",
            "mean over heads and queries of (smallest m whose m largest p[h,t,.] sum to >= 0.95) / n_t",
            range="above 0, at most 1",
            misleads="Relative to n_t: a head that needs 20 keys needs all of a short context and a hundredth of a "
            "long one. The last few per cent of mass decide it.",
        ),
    ),
)
