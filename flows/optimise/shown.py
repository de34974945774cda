"""How far a search is: a bar on a terminal with the best so far, and a line for each better one everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.optimise.evaluations import Arm, Tried
from indexscope.flows.engine.narrate import say


class Shown:
    """The bars.

    Args:
        bars: Where they are drawn.
    """

    def __init__(self, bars: Progress) -> None:
        self._bars = bars

    def told(self, name: str, loss: str) -> Callable[[Arm, Tried], None]:
        """What a search calls with every edit that it took further."""
        from indexscope.analysis.optimise.words import progress, short

        task = self._bars.add_task(name, total=None, told="")
        best: Edit | None = None

        def advance(arm: Arm, tried: Tried) -> None:
            nonlocal best
            told = progress(arm, loss)
            self._bars.update(task, total=arm.budget, completed=arm.spent, told=told)
            now = arm.best
            if now is not None and now.edit != best:
                best = now.edit
                self._bars.stop()  # what is told goes to stdout, and bars to stderr
                say(f"{name}, {arm.spent:.1f} of {arm.budget:g} evaluations: {short(now, arm, loss)}")
                self._bars.start()

        return advance

    def testing(self, count: int) -> None:
        """Say that candidates are tested."""
        self._bars.stop()
        say(f"testing {count} {'candidate' if count == 1 else 'candidates'} on held-out samples")
        self._bars.start()


@contextmanager
def shown() -> Iterator[Shown]:
    """Bars while the block runs; silent where stderr is no terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[told]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield Shown(bars)
