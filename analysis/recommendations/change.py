"""One change that could be recommended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

Frames = Mapping[str, pl.DataFrame]


@dataclass(frozen=True)
class Change:
    """A change of the model and what is known of it.

    Attributes:
        kind: indexer heads, sharing, budget or allocation.
        change: The change, as a plain sentence.
        loss: Expected loss of recall where the change is made; below 0 a gain.
        low: Lower bound of the loss; None where it is not known.
        high: Upper bound of the loss; None where it is not known.
        reach: Share of the layers that the loss is of, so that loss x reach is the mean loss over all layers.
        saving: Share of the FLOPs of indexer and attention saved at the study's lengths; None where it is not known.
        saving_at_64k: The same for a prefill of 65,536 tokens.
        basis: Which table says so, and n.
        caveat: What could mislead.
    """

    kind: str
    change: str
    loss: float
    low: float | None
    high: float | None
    reach: float
    saving: float | None
    saving_at_64k: float | None
    basis: str
    caveat: str

    @property
    def worst(self) -> float:
        """The loss to reckon with: the upper bound, or the estimate where there is no bound."""
        return self.loss if self.high is None else max(self.high, self.loss)


def rows_of(frames: Frames, name: str, *columns: str) -> pl.DataFrame | None:
    """A frame with rows that has the columns, or None."""
    frame = frames.get(name)
    return None if frame is None or frame.is_empty() or not set(columns) <= set(frame.columns) else frame


def best(changes: Sequence[Change], limit: float, tolerance: float) -> list[Change]:
    """The furthest change that loses next to nothing, and the furthest that stays within the limit.

    Args:
        changes: Of one sort, each with more saved than the one before.
        limit: Largest loss that is allowed.
        tolerance: Loss that counts as nothing.
    """
    allowed = [change for change in changes if change.worst <= limit]
    free = [change for change in allowed if change.worst <= tolerance]
    return list(dict.fromkeys([*free[-1:], *allowed[-1:]]))


def listed(items: Sequence[int]) -> str:
    """Numbers as words: "0", "0 and 1", "0, 1 and 2"."""
    words = [str(item) for item in items]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def counted(basis: str, n: object) -> str:
    """A basis with its number of samples, where it is known."""
    return f"{basis}, n = {n} samples" if isinstance(n, int) else basis
