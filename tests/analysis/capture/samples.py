"""Samples of few different tokens, so that induction has something to find."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sample:
    index: int
    name: str
    input_ids: tuple[int, ...]


def samples(*lengths: int) -> list[Sample]:
    random = np.random.default_rng(3)
    return [Sample(i, f"d{i}", tuple(random.integers(0, 20, length).tolist())) for i, length in enumerate(lengths)]
