"""Samples of few different tokens, so that induction has something to find."""

from __future__ import annotations

import numpy as np

from indexscope.storage.inputs.samples import Sample


def samples(*lengths: int) -> list[Sample]:
    random = np.random.default_rng(3)
    return [Sample(i, f"d{i}", tuple(random.integers(0, 20, length).tolist())) for i, length in enumerate(lengths)]
