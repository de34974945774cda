"""Sums of per-query features by power-of-two bucket of the query's position."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from indexscope.analysis.features.kernels.buckets import add_by_bucket


def bucket_of(position: torch.Tensor) -> torch.Tensor:
    """floor(log2(t + 1)) of 0-based positions t, exact.

    >>> bucket_of(torch.tensor([0, 1, 2, 3, 6, 7])).tolist()
    [0, 1, 1, 2, 2, 3]
    """
    return torch.frexp((position + 1).to(torch.float64)).exponent.long() - 1


def bucket_count(length: int) -> int:
    """Buckets that a sequence of this length reaches."""
    return int(length).bit_length()


class BucketSums:
    """Sums and counts of named features [..., queries] by bucket, added up chunk by chunk in float64.

    A NaN means "not defined for this query" and is left out of both the sum and the count.

    Args:
        names: Features, in the order of the columns they become.
        shape: Leading dimensions of every feature, e.g. (batch, heads).
        buckets: Number of buckets.
    """

    def __init__(self, names: tuple[str, ...], shape: tuple[int, ...], buckets: int) -> None:
        self.names = names
        self.sums = np.zeros((len(names), *shape, buckets))
        self.counts = np.zeros((len(names), *shape, buckets), dtype=np.int64)

    def add(self, features: Mapping[str, torch.Tensor], bucket: torch.Tensor) -> None:
        """Add one chunk: features [*shape, queries] and the bucket of each query, [queries]."""
        stacked = torch.stack([features[name].expand(self.sums.shape[1:-1] + bucket.shape) for name in self.names])
        defined = ~stacked.isnan()
        member = torch.nn.functional.one_hot(bucket, self.sums.shape[-1]).to(torch.float64)
        self.sums += (torch.where(defined, stacked, 0.0).double() @ member).cpu().numpy()
        self.counts += (defined.double() @ member).cpu().numpy().astype(np.int64)

    def add_array(self, features: NDArray[np.float32], bucket: NDArray[np.int64]) -> None:
        """Add one chunk on the CPU: features [names, *shape, queries] and the bucket of each query, [queries]."""
        names, queries = features.shape[0], features.shape[-1]
        buckets = self.sums.shape[-1]
        add_by_bucket(
            np.ascontiguousarray(features).reshape(names, -1, queries),
            bucket,
            self.sums.reshape(names, -1, buckets),
            self.counts.reshape(names, -1, buckets),
        )

    def means(self) -> dict[str, NDArray[np.float64]]:
        """Mean of each feature over its defined queries, [*shape, buckets]; NaN where there are none."""
        with np.errstate(invalid="ignore"):
            return dict(zip(self.names, self.sums / self.counts, strict=True))
