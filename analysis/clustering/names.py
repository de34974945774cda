"""Readable names for clusters, from the features in which they differ most from the rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from indexscope.analysis.statistics import Array

# More and less of each feature, in words.
WORDS = {
    "normalized_entropy": ("spread out", "focused"),
    "max_weight": ("peaked", "flat"),
    "local_mass": ("local", "distant"),
    "sink_mass": ("sink", "no sink"),
    "self_mass": ("self", "not self"),
    "previous_mass": ("previous token", "not previous token"),
    "induction_mass": ("induction", "no induction"),
    "vertical_mass": ("vertical", "no columns"),
    "slash_mass": ("slash", "no slash"),
    "block_mass": ("blocks", "no blocks"),
    "reach": ("far-reaching", "short-reaching"),
}
NOTABLE = 0.5
WORDS_AT_MOST = 2


def cluster_names(centroids: Array, features: Sequence[str]) -> list[str]:
    """One name a cluster, all different.

    A name holds the one or two features whose centroid lies furthest from the mean of all rows, half a standard
    deviation at least; "average" where there is none. Equal names get further features, and at last a number.

    Args:
        centroids: In standard deviations, [clusters, features].
        features: Names of the features.
    """
    if len(centroids) == 1:
        return ["all heads"]
    phrases = [_phrases(centroid, features) for centroid in centroids]
    length = [min(WORDS_AT_MOST, len(words)) for words in phrases]

    def named() -> list[str]:
        return [", ".join(words[:size]) or "average" for words, size in zip(phrases, length, strict=True)]

    for _ in features:
        names = named()
        longer = [
            size < len(words) and names.count(name) > 1
            for name, size, words in zip(names, length, phrases, strict=True)
        ]
        length = [size + more for size, more in zip(length, longer, strict=True)]
    names = named()
    return [
        f"{name} ({names[: place + 1].count(name)})" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]


def _phrases(centroid: Array, features: Sequence[str]) -> list[str]:
    order = np.argsort(-np.abs(centroid), kind="stable")
    return [_words(features[place])[int(centroid[place] < 0)] for place in order if abs(centroid[place]) >= NOTABLE]


def _words(feature: str) -> tuple[str, str]:
    return WORDS.get(feature, (f"high {feature}", f"low {feature}"))
