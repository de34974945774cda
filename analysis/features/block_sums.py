"""What the kernels add up over a block of queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class BlockSums:
    """What a block adds up over its queries.

    Attributes:
        first_key: Position of the first key below.
        last_query: Position of the block's last query.
        by_key: p summed over queries, [heads, keys].
        by_slope: p summed along diagonals, place j for the last query's distance to key j, [heads, keys].
        contrast: Sums of `indexscope.analysis.features.tiles.contrasts`, [heads, PHASES].
        places: [4, distance bins, relative bins], see BinSums.
        moments: Of selected and unselected scores, [2, 6]; see `index_scores.score_rows`.
    """

    first_key: int
    last_query: int
    by_key: NDArray[np.float32]
    by_slope: NDArray[np.float32]
    contrast: NDArray[np.float64]
    places: NDArray[np.float64]
    moments: NDArray[np.float64]
