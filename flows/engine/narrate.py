"""What a run tells: one plain line a step on stdout and in Prefect's log, a progress bar on a terminal's stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from indexscope.tasks.common.unit import StepRecord


def say(line: str) -> None:
    """Tell one thing to whoever watches."""
    from prefect.exceptions import MissingContextError
    from prefect.logging import get_run_logger

    print(line, flush=True)
    with suppress(MissingContextError):  # outside a run there is nobody else to tell
        get_run_logger().info(line)


def summary(step: str, records: list[StepRecord], noun: str = "result") -> str:
    """What was computed and what came from the store.

    >>> summary("extract baseline", [StepRecord("shard-00000", 9, 1.0, True)] * 8, "shard")
    'extract baseline: 8 shards, 8 cached'
    """
    cached = sum(record.cached for record in records)
    fresh = [record for record in records if not record.cached]
    parts = [f"{len(records)} {noun}{'' if len(records) == 1 else 's'}"] if noun != "result" else []
    if fresh:
        parts.append(f"{len(fresh)} computed in {sum(record.seconds for record in fresh):.1f} s")
    if cached:
        parts.append(f"{cached} cached")
    if noun == "result" and len(records) == 1:
        parts = ["cached"] if cached else [f"computed in {fresh[0].seconds:.1f} s"]
    compared = [record.same for record in fresh if record.same is not None]
    if compared:
        others = compared.count(False)
        parts.append(f"{others} with other bytes than before" if others else "the same bytes as before")
    return f"{step}: {', '.join(parts)}"


def damage_lines(step: str, records: list[StepRecord]) -> list[str]:
    """One line a unit that was found damaged.

    >>> damage_lines("extract base", [StepRecord("shard-00001", 9, 1.0, False, damage="tokens/… is gone")])
    ['extract base: shard-00001 was damaged (tokens/… is gone): discarded and computed again']
    """
    return [
        f"{step}: {record.unit} was damaged ({record.damage}): discarded and computed again"
        for record in records
        if record.damage
    ]


def short(folder: str) -> str:
    """A folder below the working directory by its relative path."""
    path = Path(folder)
    return str(path.relative_to(Path.cwd())) if "://" not in folder and path.is_relative_to(Path.cwd()) else folder


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[], None]]:
    """One bar while the block runs; call what it yields once a unit."""
    with all_progress() as bars:
        yield bars(title, total)


@contextmanager
def all_progress() -> Iterator[Bars]:
    """Bars while the block runs, one for each step that is under way. Silent where stderr is no terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        yield Bars(shown)


class Bars:
    """Shows how far steps are: call it with a title and a number of units, and what it returns once a unit."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown

    def __call__(self, title: str, total: int) -> Callable[[], None]:
        """A bar of its own, which goes when all units are through."""
        task, left = self._shown.add_task(title, total=total), total

        def advance() -> None:
            nonlocal left
            left -= 1
            self._shown.update(task, advance=1, visible=left > 0)

        return advance

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Without bars while the block runs: what is told goes to stdout, and bars to stderr."""
        self._shown.stop()
        yield
        self._shown.start()
