"""Bootstrap replicates of what layers lose, in two halves of the samples, so that schedules can be held out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexscope.analysis.settings import BootstrapSettings
from indexscope.analysis.sharing.reuse import Reuse
from indexscope.analysis.statistics import Array, ratio, resample_counts


@dataclass(frozen=True)
class Halves:
    """Sums of what is lost over the samples of even and of odd rank, and over resamples of all samples.

    Attributes:
        lost: Sums of each half, [2, L, L].
        weight: Queries in effect of each half, [2, L].
        drawn: The halves' sums in each resample, [2, resamples, L, L].
        drawn_weight: Queries in effect of both halves in each resample, [resamples, L].
    """

    lost: Array
    weight: Array
    drawn: Array
    drawn_weight: Array

    @property
    def losses(self) -> Array:
        """What each layer loses by source in each resample, [resamples, L, L]."""
        return ratio(self.drawn.sum(axis=0), self.drawn_weight[:, :, None])

    def mean_loss(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> tuple[float, Array]:
        """Loss averaged over layers, if even samples follow one schedule and odd samples another.

        Args:
            first: Source of each layer in samples of even rank, [L].
            second: The same in those of odd rank.

        Returns:
            The loss, and the loss in each resample, [resamples].
        """
        layers = np.arange(len(first))
        top = self.lost[0, layers, first] + self.lost[1, layers, second]
        drawn = self.drawn[0][:, layers, first] + self.drawn[1][:, layers, second]
        value = float(ratio(top, self.weight.sum(axis=0)).mean())
        return value, np.asarray(ratio(drawn, self.drawn_weight).mean(axis=1))

    def half_loss(self, half: int) -> Array:
        """What each layer loses by source in one half, [L, L]; NaN where nothing was in effect."""
        return ratio(self.lost[half], self.weight[half][:, None])


def halves(own: Reuse, settings: BootstrapSettings) -> Halves:
    """Resample the samples once, both halves together.

    Ranks and not ids part the samples, since the probed ones are spread evenly and may all have even ids.
    """
    parts = [own.lost[half::2] for half in range(2)]
    size = len(own.layers)
    flat = [part.reshape(len(part), size * size) for part in parts]
    drawn: list[list[Array]] = [[], []]
    weights = []
    for counts in resample_counts(len(own.samples), settings.resamples, settings.seed):
        for half in range(2):
            drawn[half].append((counts[:, half::2] @ flat[half]).reshape(-1, size, size))
        weights.append(counts @ own.weight)
    return Halves(
        np.stack([part.sum(axis=0) for part in parts]),
        np.stack([own.weight[half::2].sum(axis=0) for half in range(2)]),
        np.stack([np.concatenate(half) for half in drawn]),
        np.concatenate(weights),
    )
