"""Features scaled to standard deviation 1 and decorrelated, without the directions that hardly vary."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from indexscope.analysis.statistics import Array

# A direction counts where its variance is at least this share of that of a standardised feature. Whitening divides by
# the standard deviation: what varies less would be rounding and noise, blown up to the weight of everything else.
LEAST_VARIANCE = 0.05


@dataclass(frozen=True)
class Whitening:
    """PCA whitening of standardised features.

    Attributes:
        mean: Of each feature, [features].
        scale: Standard deviation of each feature, 1 where it does not vary, [features].
        variances: Of every direction of the correlation matrix, largest first, [features].
        directions: Unit vectors, [features, features], a row each in the order of the variances.
        kept: How many of them count: variance >= 0.05, one at least.
    """

    mean: Array
    scale: Array
    variances: Array
    directions: Array
    kept: int

    @property
    def spread(self) -> Array:
        """Standard deviation along each kept direction, [kept]."""
        return np.sqrt(np.maximum(self.variances[: self.kept], LEAST_VARIANCE))

    def standardised(self, features: Array) -> Array:
        """In standard deviations from the mean, [rows, features]."""
        return np.asarray((features - self.mean) / self.scale)

    def apply(self, features: Array) -> Array:
        """Coordinates along the kept directions, each of variance 1 over the fitted rows, [rows, kept]."""
        return np.asarray(self.standardised(features) @ self.directions[: self.kept].T / self.spread)


def whitening(features: Array) -> Whitening:
    """The whitening of some rows, [rows, features], at least one."""
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-12 * np.maximum(np.abs(mean), 1), scale, 1.0)
    scaled = (features - mean) / scale
    values, vectors = np.linalg.eigh(scaled.T @ scaled / len(scaled))
    values, directions = np.maximum(values[::-1], 0.0), vectors.T[::-1]
    # The sign of an eigenvector is the library's whim: the largest loading is made positive.
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], 1)
    directions = directions * np.where(largest < 0, -1.0, 1.0)
    return Whitening(mean, scale, values, directions, max(1, int((values >= LEAST_VARIANCE).sum())))
