"""Steps that compute nothing but what they were given, so that the engine is proven without models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
import pytest

from indexscope.analysis.analyses import AnalysisSettings
from indexscope.analysis.settings import CloseupSettings, ComparisonSettings, ExtractSettings
from indexscope.flows.engine.graph import Graph, expand
from indexscope.flows.engine.make import Engine
from indexscope.flows.engine.settings import Spread
from indexscope.storage.inputs.samples import Sample
from indexscope.storage.store.store import Store
from indexscope.tasks.common.declared import Command, Given, Job, Made, Reads, Step
from indexscope.tasks.common.dumps import Dump
from indexscope.tasks.common.origin import Checkpoint

GIVEN = Given(ExtractSettings(), CloseupSettings(), AnalysisSettings(), ComparisonSettings(), 2, "cpu", "data")
SHARDS = {"shard-00000": [Sample(0, "a", (1, 2)), Sample(1, "b", (3, 4))], "shard-00001": [Sample(2, "c", (5, 6))]}
BASE, LIGHT = Checkpoint("base", "/base", "fingerprint of base"), Checkpoint("light", "/light", "fingerprint of light")


def step(
    name: str,
    command: Command = "analyze",
    *reads: str | Reads,
    compute: Callable[[Job, Store], Made] | None = None,
    **more: Any,
) -> Step:
    """A step of the name's own kind that reads others."""
    reading = tuple(Reads(read) if isinstance(read, str) else read for read in reads)
    settings = more.pop("settings", lambda given: {"checkpoint": given.checkpoint})
    return Step(name, command, name, compute or nothing, reading, settings=settings, **more)


def nothing(job: Job, store: Store) -> Made:
    return Made({"table": pl.DataFrame({"value": [1]})})


def graph(
    steps: Sequence[Step],
    models: Sequence[Checkpoint] = (BASE, LIGHT),
    given: Given = GIVEN,
    dumps: Sequence[Dump] = (),
    against: Dump | None = None,
) -> Graph:
    return expand(steps, models, given, "study", SHARDS, dumps=dumps, against=against)


@dataclass
class House:
    """An engine over fake steps, and which units it made, in order."""

    engine: Engine
    made: list[str]

    def make(self, *commands: str) -> list[str]:
        """Make what commands make, and return what was computed for it."""
        before = len(self.made)
        self.engine.make(self.engine.graph.some(commands or ("extract", "analyze", "compare")))
        return self.made[before:]


def house(
    monkeypatch: pytest.MonkeyPatch,
    store: str,
    steps: Sequence[Step],
    broken: Mapping[str, BaseException] | None = None,
    refresh: Sequence[str] = (),
    models: Sequence[Checkpoint] = (BASE, LIGHT),
) -> House:
    """An engine whose steps sum the values of what they read, plus one.

    Args:
        monkeypatch: Makes the steps known.
        store: The store's folder.
        steps: Declarations; their own ``compute`` goes before the sum.
        broken: What is raised instead, by the title of a job; emptied as the test mends it.
        refresh: Steps to compute even if the store has them.
        models: The models.
    """
    titles: list[str] = []
    failing = {} if broken is None else broken

    def compute(job: Job, where: Store) -> Made:
        titles.append(job.title)
        if job.title in failing:
            raise failing[job.title]
        read = [where.read(source.key, "table", source.units)["value"].sum() for source in job.sources]
        samples = sum(sum(sample.input_ids) for sample in job.samples.value)
        own = steps_by_name[job.step].compute(job, where)
        return replace(own, tables={"table": own.tables["table"].with_columns(pl.col("value") + sum(read) + samples)})

    steps_by_name = {one.name: one for one in steps}
    wrapped = {one.name: replace(one, compute=compute) for one in steps}
    for module in ("indexscope.tasks.common.step", "indexscope.flows.engine.reasons"):
        monkeypatch.setattr(f"{module}.STEPS", wrapped)
    engine = Engine(
        graph(list(wrapped.values()), models),
        Store(store),
        lambda: Spread(kind="threads", workers=1),
        SHARDS,
        frozenset(refresh),
    )
    return House(engine, titles)
