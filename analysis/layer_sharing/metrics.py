"""How alike the selections of neighbouring layers are."""

from __future__ import annotations

from indexscope.analysis.metrics.metric import Computed, Family, Metric

_SHARING = Computed("layer_sharing", "layer_sharing")
_SOURCE = "Bai et al. 2026, IndexCache (arXiv 2603.12201)"

FAMILY = Family(
    order=170,
    title="Layer sharing",
    about=(
        "Sampled queries only, each weighted by the queries that it stands for, and of those the ones in effect. A "
        "layer is set beside the nearest layer before it that selects. Layers without an indexer of their own share a "
        "selection already and do not count. All layers see the hidden states of the unchanged model: reuse is "
        "measured without its consequences for later layers."
    ),
    metrics=(
        Metric(
            "neighbour_overlap",
            "share",
            "neither",
            "Selected keys that the nearest selecting layer before selects too.",
            "mean over sampled queries in effect of |S_l ∩ S_(l-1)| / k_t",
            _SHARING,
            source=_SOURCE,
            range="0 to 1",
            misleads="Two random selections of k of n keys overlap by k / n, and recent keys are selected "
            "everywhere, so that some overlap says little.",
        ),
        Metric(
            "sharing_loss",
            "share",
            "lower",
            "Dense attention that a layer would lose with the selection of the nearest selecting layer before it.",
            "mean over sampled queries in effect of sum over s in S_l of p[t,s] - sum over s in S_(l-1) of p[t,s], p "
            "the head mean of layer l; negative where the other layer's selection would serve better",
            _SHARING,
            source=_SOURCE,
            range="-1 to 1",
            misleads="Later layers see the hidden states of the unchanged model; what reuse does to them is not in"
            " it, and no training was given a chance.",
        ),
    ),
)
