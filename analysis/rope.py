"""Rotary positions that are scaled by the length of the whole sequence: which models have them, and from where on.

Two ways of transformers do so: `dynamic` (NTK scaling by the length beyond the range that was trained) and `longrope`
(one set of frequencies up to that range, another beyond).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

DYNAMIC, LONGROPE = "dynamic", "longrope"


class Scaling(NamedTuple):
    """How positions depend on the length.

    Attributes:
        kind: dynamic or longrope.
        within: Tokens up to which they are those of the range that was trained.
    """

    kind: str
    within: int

    def apart(self, length: int, longest: int) -> bool:
        """Whether the first so many tokens of a longer sequence are turned otherwise than alone.

        >>> Scaling("longrope", 4096).apart(4096, 8192), Scaling("longrope", 4096).apart(6000, 8192)
        (True, False)
        >>> Scaling("dynamic", 4096).apart(6000, 8192), Scaling("dynamic", 8192).apart(6000, 8192)
        (True, False)
        """
        if self.kind == LONGROPE:
            return length <= self.within < longest
        return length < longest and longest > self.within


def scalings(rope: Mapping[str, Any] | None, positions: int | None) -> tuple[Scaling, ...]:
    """What a configuration's rotary parameters say.

    Args:
        rope: As transformers has them (``rope_parameters``): of the model, or by kind of layer.
        positions: Longest sequence that the model was made for.

    Returns:
        Those that depend on the length; none of a model whose positions do not.
    """
    if not rope:
        return ()
    parts = [part for part in rope.values() if isinstance(part, Mapping)] or [rope]
    found = []
    for part in parts:
        kind = part.get("rope_type")
        within = part.get("original_max_position_embeddings") if kind == LONGROPE else positions
        if kind in (DYNAMIC, LONGROPE) and isinstance(within, int):
            found.append(Scaling(kind, within))
    return tuple(dict.fromkeys(found))


def reach(rope: Mapping[str, Any] | None, positions: int | None) -> int | None:
    """Tokens up to which positions go: dynamic scaling takes them beyond those that were trained, by its factor.

    Args:
        rope: As for `scalings`.
        positions: Longest sequence that the configuration names.

    >>> reach({"rope_type": "dynamic", "factor": 4.0}, 2048), reach({"rope_type": "yarn", "factor": 4.0}, 2048)
    (8192, 2048)
    """
    factor = (rope or {}).get("factor")
    if positions is None or (rope or {}).get("rope_type") != DYNAMIC or not isinstance(factor, (int, float)):
        return positions
    return max(positions, int(positions * factor))


def lengths_apart(found: Sequence[Scaling], lengths: Sequence[int], longest: int) -> tuple[int, ...]:
    """The lengths at which a pass over longer sequences is not what these tokens alone would give."""
    return tuple(length for length in lengths if any(one.apart(length, longest) for one in found))
