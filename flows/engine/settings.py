"""How the work is spread."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from indexscope.settings import Frozen

#: Workers that "auto" takes at most: one core each pays best for a small model, and each holds a model of its own.
MOST = 4
#: Tokens of a model of `SMALL` parameters from which worker processes repay their start, about four seconds each.
WORTH, SMALL = 16_384, 3_000_000
#: Memory of a worker process in bytes beside its model, and of a model while it is loaded, in sizes of its weights.
PROCESS, LOADING = 2 << 30, 2


class RunnerSettings(Frozen):
    """How the work is spread over this machine; it changes no result."""

    kind: Literal["auto", "threads", "processes"] = Field(
        default="auto",
        description="Workers of one process, or processes; auto takes processes for more than one worker on a CPU.",
    )
    workers: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = Field(
        default="auto",
        description="Units worked on at once; the cores are shared out among them. "
        "Auto takes up to 4 where the models, the samples, the cores and the memory make several worthwhile.",
    )


class Spread(Frozen):
    """The runner that a study gets.

    Attributes:
        kind: "threads" or "processes".
        workers: Units worked on at once.
    """

    kind: Literal["threads", "processes"] = "threads"
    workers: int = Field(1, ge=1)


#: For what the store has already.
LOOKUP = Spread(kind="threads", workers=4)


def spread(
    wanted: RunnerSettings,
    device: str,
    tokens: int,
    models: Iterable[tuple[int, int]],
    shards: int,
    cores: int,
    memory: int,
) -> Spread:
    """The runner that settings come to for some work on some machine.

    Args:
        wanted: The settings.
        device: Type of the device: a GPU is shared by threads, since each process would hold a context of its own.
        tokens: Tokens of all samples.
        models: Parameters of each model that is run, and bytes of its weights; 0 where nobody knows.
        shards: Shards of each model.
        cores: Cores of this machine.
        memory: Free memory in bytes.
    """
    workers = wanted.workers if wanted.workers != "auto" else 1
    if wanted.workers == "auto" and wanted.kind != "threads" and device == "cpu":
        known = list(models)
        work = sum(tokens * max(1.0, parameters / SMALL) for parameters, _ in known)
        each = PROCESS + LOADING * max((size for _, size in known), default=0)
        if work >= WORTH or wanted.kind == "processes":
            workers = max(1, min(MOST, cores, shards, memory // each))
    if wanted.kind != "auto":
        return Spread(kind=wanted.kind, workers=workers)
    return Spread(kind="processes" if workers > 1 and device == "cpu" else "threads", workers=workers)
