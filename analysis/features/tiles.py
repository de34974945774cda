"""Whether attention goes to whole aligned blocks of keys, at several block sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

    from indexscope.analysis.features.rows import AttentionRows

#: Block sizes that are looked for, in keys. A block has four parts, those of the smallest one 4 keys.
SIZES = (16, 32, 64, 128, 256, 512)
PART = 4
#: Of the queries every fourth counts, the one at which a part of 4 keys is complete.
STEP = 4
#: Earlier queries see so few keys that any map looks like stripes and blocks.
FIRST_QUERY = 16
#: A place within a block of each size, 16 queries long: 1 of size 16, 2 of size 32 and so on, one after the other.
PHASES = sum(size // SIZES[0] for size in SIZES)
#: Counted queries that each place must have for a size to be judged.
LEAST = 12


def phase(size: int, position: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index among all `PHASES` of the place that each position has within its block of a size."""
    return size // SIZES[0] - 1 + position % size // SIZES[0]


def count_queries(eligible: NDArray[np.int64], start: int) -> NDArray[np.int64]:
    """Counted queries by place, [batch, PHASES]; n_t is [batch, queries], of queries from start on."""
    position = np.arange(start, start + eligible.shape[1])
    counted = (position >= FIRST_QUERY) & (position % STEP == STEP - 1)
    seen = (eligible[:, counted] > 0).astype(np.int64)
    found = np.zeros((len(eligible), PHASES), dtype=np.int64)
    for size in SIZES:
        found += seen @ (phase(size, position[counted])[:, None] == np.arange(PHASES))
    return found


def contrasts(rows: AttentionRows) -> torch.Tensor:
    """Sums over the counted queries of the contrast of each size, by place; float64 [batch, heads, PHASES].

    Of a tiling of the keys into blocks of B, with m_i the attention on part i of a block and min over the parts whose
    keys are all eligible, a of them, the evenness is sum over blocks of a min(m_i): the attention that is spread
    evenly over blocks. The contrast is the evenness of the tiling that starts at key 0 less that of one that starts
    at B / 2. Attention that knows nothing of these blocks has as much of either over a period of queries; attention
    on whole aligned blocks has 1 - 0, since half of each shifted block gets nothing.
    """
    import torch

    batch, heads = rows.p.shape[:2]
    found = torch.zeros((batch, heads, PHASES), dtype=torch.float64, device=rows.p.device)
    counted = (rows.position >= FIRST_QUERY) & (rows.position % STEP == STEP - 1)
    if not bool(counted.any()):
        return found
    position, p, eligible = rows.position[counted], rows.p[:, :, counted], rows.eligible[:, None, counted]
    parts = int(position[-1]) // PART + 1
    seen = rows.keys < parts * PART
    mass = _placed(p[..., seen], rows.keys[seen], parts).sum(-1)
    whole = _placed(eligible[..., seen], rows.keys[seen], parts).all(-1)
    for size in SIZES:
        contrast = _evenness(mass, whole, 0) - _evenness(mass, whole, 2)
        place = torch.from_numpy(phase(size, position.cpu().numpy())).to(p.device)
        found.index_add_(2, place, contrast.double())
        odd = (0, mass.shape[-1] % 2)
        mass = _grouped(torch.nn.functional.pad(mass, odd), 2).sum(-1)
        whole = _grouped(torch.nn.functional.pad(whole, odd), 2).all(-1)
    return found


def _placed(values: torch.Tensor, keys: torch.Tensor, parts: int) -> torch.Tensor:
    """Values [..., keys] at the keys' positions, [..., parts, PART]."""
    placed = values.new_zeros((*values.shape[:-1], parts * PART))
    placed[..., keys] = values
    return _grouped(placed, PART)


def _grouped(values: torch.Tensor, size: int) -> torch.Tensor:
    return values.reshape(*values.shape[:-1], -1, size)


def _evenness(mass: torch.Tensor, whole: torch.Tensor, shift: int) -> torch.Tensor:
    """Evenness of the tiling into blocks of four parts of which the first begins `shift` parts before key 0."""
    import torch

    fill = (shift, -(mass.shape[-1] + shift) % 4)
    least = torch.where(whole, mass, torch.inf)
    least = _grouped(torch.nn.functional.pad(least, fill, value=torch.inf), 4).amin(-1)
    count = _grouped(torch.nn.functional.pad(whole, fill), 4).sum(-1)
    return torch.where(count > 0, count * least, 0.0).sum(-1)


def strongest(sums: torch.Tensor, queries: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
    """Largest mean contrast of a size, 0 where none is positive, and that size in keys; [batch, heads].

    Places of a block count alike, whatever the number of queries seen at each: only over a whole period are the two
    tilings alike to attention that knows nothing of them. A size is judged where every place has 12 counted queries,
    which takes three to four blocks. NaN where no size is judged, and for the size also where none is positive.

    Args:
        sums: As `contrasts` gives them, over a whole sequence.
        queries: As `count_queries` gives them, over a whole sequence.
    """
    import torch

    counted = torch.from_numpy(queries).to(sums)[:, None]
    by_size = torch.full((*sums.shape[:2], len(SIZES)), -torch.inf, dtype=sums.dtype, device=sums.device)
    first = 0
    for place, size in enumerate(SIZES):
        own = slice(first, first + size // SIZES[0])
        first = own.stop
        judged = (counted[..., own] >= LEAST).all(-1)
        mean = (sums[..., own] / counted[..., own].clamp(min=1)).mean(-1)
        by_size[..., place] = torch.where(judged, mean, -torch.inf)
    best = by_size.max(-1)
    judged = best.values > -torch.inf
    sizes = torch.tensor(SIZES, dtype=torch.float32, device=sums.device)[best.indices]
    mass = torch.where(judged, best.values.clamp(min=0.0), torch.nan).float()
    return mass, torch.where(mass > 0, sizes, torch.nan)
