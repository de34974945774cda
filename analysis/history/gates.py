"""When a gate broke, and when it was mended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from indexscope.analysis.history.timeline import Stretch


@dataclass(frozen=True)
class Break:
    """A time during which a gate did not pass.

    Attributes:
        gate: Its name.
        rule: Its rule when it broke.
        value: The value that the rule was held against then; None if there was none.
        broke: The first stretch in which it did not pass.
        before: The stretch before, in which it passed or was not yet set; None if the gate did not pass from the first.
        mended: The first stretch afterwards in which it passed; None if it has not.
        dropped: The first stretch afterwards that has no such gate; None if it was kept.
        lost: Stretches between ``before`` and ``broke`` of which the numbers are lost: it may have broken in those.
    """

    gate: str
    rule: str
    value: float | None
    broke: Stretch
    before: Stretch | None = None
    mended: Stretch | None = None
    dropped: Stretch | None = None
    lost: int = 0

    @property
    def is_open(self) -> bool:
        """Whether the gate still does not pass."""
        return self.mended is None and self.dropped is None


def breaks(history: Sequence[Stretch]) -> list[Break]:
    """Every time during which a gate did not pass, in the order in which they began.

    A gate is told by its name. One that could not be evaluated did not pass, as for the exit code. Stretches without
    numbers say nothing of it.
    """
    found: list[Break] = []
    current: dict[str, int] = {}
    before: Stretch | None = None
    lost = 0
    for stretch in history:
        if stretch.run.numbers is None:
            lost += 1
            continue
        gates = stretch.gates
        for name, place in list(current.items()):
            gate = gates.get(name)
            if gate is None or gate["passed"] is True:
                old = found[place]
                mended, dropped = (None, stretch) if gate is None else (stretch, None)
                found[place] = Break(old.gate, old.rule, old.value, old.broke, old.before, mended, dropped, old.lost)
                del current[name]
        for name, gate in gates.items():
            if gate["passed"] is not True and name not in current:
                current[name] = len(found)
                found.append(Break(name, gate["rule"], gate["value"], stretch, before, lost=lost if before else 0))
        before, lost = stretch, 0
    return found
