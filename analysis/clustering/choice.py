"""How many clusters there are: as many as are found again, and as a reader can tell apart."""

from __future__ import annotations

import polars as pl

#: Mean Jaccard index from which on a cluster counts as found again (Hennig 2008: "highly stable").
FOUND_AGAIN = 0.85
#: Two clusters that differ by less in every feature, of a range from 0 to 1, are one to a reader.
APART = 0.2
#: A cluster of more rows than this share says little of them.
LARGEST = 0.6


def choose(tried: pl.DataFrame) -> int:
    """The number of clusters to take: the largest whose clusters are all found again and differ by 0.2 in a feature.

    Numbers without a cluster of more than 0.6 of the rows go first. Where no number will do it is the one whose
    clusters are found again best; without halves of the samples, the one of the best silhouette. The silhouette does
    not decide otherwise: it is highest where a few outliers are set apart from everything else. That clusters are
    found again does not suffice: the heads are the same in every sample, and so are the parts of one tight group.

    Args:
        tried: k, silhouette, found_again, apart, largest; one row a number, increasing.
    """
    good = tried.filter((pl.col("found_again") >= FOUND_AGAIN) & (pl.col("apart") >= APART))
    if good.is_empty():
        by = "silhouette" if tried["found_again"].is_null().all() else "found_again"
        best = tried.filter(pl.col(by) == pl.col(by).max())
        return int((tried if best.is_empty() else best)["k"][0])
    even = good.filter(pl.col("largest") <= LARGEST)
    return int((good if even.is_empty() else even)["k"].max())  # type: ignore[arg-type]
