"""Making the results of a graph through Prefect: in order, explained, mended where damaged, and told of."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, overload

from indexscope import IndexscopeError
from indexscope.flows.engine.ahead import in_background
from indexscope.flows.engine.contents import Contents
from indexscope.flows.engine.graph import Graph, Node
from indexscope.flows.engine.narrate import all_progress, damage_lines, say, summary
from indexscope.flows.engine.reasons import NOVEL, why
from indexscope.flows.engine.settings import LOOKUP, Spread
from indexscope.flows.engine.side_by_side import Begun, SideBySide
from indexscope.flows.engine.units import Failure, ModelsFailed, UnitsFailed
from indexscope.plugins import PluginFile
from indexscope.storage.inputs.samples import Sample
from indexscope.storage.store.store import DamagedUnit, StepKey, Store
from indexscope.tasks.common.declared import Job, Parcel
from indexscope.tasks.common.step import described, looked_up
from indexscope.tasks.common.unit import StepRecord, Target

Shards = Mapping[str, Sequence[Sample]]
#: So many results are made in threads, where none of them runs a model.
FEW = 2
#: Units that the store has, from which on one run looks all of them up.
SEVERAL = 2


class Jobs(Sequence[Job]):
    """The jobs of units, each made when it is asked for: those of a million shards would not fit into memory.

    Args:
        units: Names of the units.
        make: Makes the job of one.
    """

    def __init__(self, units: Sequence[str], make: Callable[[str], Job]) -> None:
        self._units, self._make = units, make

    def of(self, unit: str) -> Job:
        """The job of a unit."""
        return self._make(unit)

    def __len__(self) -> int:
        return len(self._units)

    @overload
    def __getitem__(self, place: int) -> Job: ...
    @overload
    def __getitem__(self, place: slice) -> list[Job]: ...
    def __getitem__(self, place: int | slice) -> Job | list[Job]:
        if isinstance(place, slice):
            return [self._make(unit) for unit in self._units[place]]
        return self._make(self._units[place])


@dataclass(frozen=True)
class Engine:
    """What is needed to make the results of a graph.

    Attributes:
        graph: The results.
        store: Where they go.
        runner: How work is spread; asked only once there is work.
        shards: Samples of each shard, by name.
        refresh: Steps to compute even if the store has them.
        tokenizer: Folder of the tokenizer that made the samples; None where they came as ids.
        plugins: Files of the study's plug-ins.
        more: What only some steps are told.
    """

    graph: Graph
    store: Store
    runner: Callable[[], Spread]
    shards: Shards
    refresh: frozenset[str] = frozenset()
    tokenizer: str | None = None
    plugins: tuple[PluginFile, ...] = ()
    more: Callable[[Node], Any] = lambda node: None

    def make(self, nodes: Sequence[Node], done: set[StepKey] | None = None) -> None:
        """Make results, each as soon as what it is made from is there.

        Args:
            nodes: Some of the graph, in its order.
            done: What this run has been through already, which is left out; what it goes through now is added.

        Raises:
            ModelsFailed: Results of some models failed; what does not need them was still worked on.
            UnitsFailed: A result of the whole study failed.
        """
        known: set[StepKey] = set() if done is None else done
        left = [node for node in nodes if node.key not in known]
        if not left:
            return
        failed: dict[str, UnitsFailed] = {}
        try:
            self._make(left, self.suited(left), failed, known)
        except ModelsFailed as more:
            raise ModelsFailed({**failed, **more.failures}) from more
        if "" in failed:
            raise failed[""]
        if failed:
            raise ModelsFailed(failed)

    def suited(self, nodes: Sequence[Node]) -> Spread:
        """How the work of making results is spread: for little of it no processes are started."""
        busy = [node for node in nodes if self._to_make(node)]
        return self.spread if any(node.step.runs_model for node in busy) or len(busy) > FEW else LOOKUP

    def _make(self, nodes: Sequence[Node], spread: Spread, failed: dict[str, UnitsFailed], known: set[StepKey]) -> None:
        contents, reasons = Contents(self.store), dict[Node, str]()
        places = {(node.step.name, node.owner): node for node in nodes}
        going_along = {places.get((node.step.along(node.given), node.owner)): node for node in nodes}
        made: dict[Node, dict[str, StepRecord]] = {}

        def jobs_of(node: Node) -> Jobs:
            nonlocal contents
            if node in reasons and node not in made:  # again, since something that it reads was made anew
                contents = Contents(self.store)
            if node not in reasons:
                reasons[node] = self._announced(node, contents)
            return self._jobs(node, spread, reasons[node], contents)

        def begin(node: Node) -> Begun:
            jobs, other, found = jobs_of(node), going_along.get(node), made.get(node, {})
            lacking = self._to_make(node)
            found = {
                **found,
                **self._there(node, [unit for unit in node.units if unit not in found], lacking, contents),
            }
            if other is not None and (both := lacking & self._to_make(other)):
                own, others = jobs.of, jobs_of(other).of

                def with_other(unit: str) -> Job:
                    return replace(own(unit), along=others(unit) if unit in both else None)

                jobs = Jobs(node.units, with_other)
            return jobs, {place: found[unit] for place, unit in enumerate(node.units) if unit in found}

        def through(node: Node, records: Sequence[StepRecord]) -> None:
            nonlocal contents
            if not all(record.cached for record in records):
                contents = Contents(self.store)
            for record in records:
                if record.along is not None:
                    made.setdefault(going_along[node], {})[record.unit] = record.along
            if node.owner not in failed:
                known.add(node.key)
            if node.step.sharded and len(records) == len(node.units):
                with suppress(IndexscopeError, OSError):  # packs make later plans faster, and nothing else
                    self.store.compact(node.key, node.units)

        self._side_by_side(_one_model_after_the_other(nodes, spread.workers), spread, begin, failed, through)

    def _jobs(self, node: Node, spread: Spread, reason: str, contents: Contents) -> Jobs:
        """The jobs of all units of a result."""
        if node.step.sharded:
            self.store.prepare(node.key, node.label, node.units)
        workers = 1 if spread is LOOKUP else spread.workers
        made_from = contents.made_from(node)
        return Jobs(node.units, lambda unit: self._job(node, unit, reason, made_from, workers=workers))

    def _side_by_side(
        self,
        nodes: Sequence[Node],
        spread: Spread,
        begin: Callable[[Node], Begun],
        failed: dict[str, UnitsFailed],
        through: Callable[[Node, Sequence[StepRecord]], None] = lambda node, records: None,
    ) -> None:
        with all_progress() as bars:

            def announced(node: Node) -> Begun:
                with bars.aside():
                    return begin(node)

            def mend(damage: DamagedUnit) -> None:
                with bars.aside():
                    self.mend(damage)

            later = self._later(nodes) if spread.kind != "threads" else []
            timed = {node for node in nodes if node.step.timed}  # nothing runs beside them, not even an import
            for node, jobs, results in SideBySide(nodes, spread, failed, announced, bars, mend).run():
                timed.discard(node)
                if later and not timed:  # the workers are busy by now, and this process waits
                    in_background(later)
                    later = []
                if failures := [one for one in results if isinstance(one, Failure)]:
                    failed[node.owner] = _with_others(failed.get(node.owner), node.title, failures, len(jobs))
                else:
                    with bars.aside():
                        self._told(node, results)
                through(node, [one for one in results if isinstance(one, StepRecord)])

    def _later(self, nodes: Sequence[Node]) -> list[Callable[[], None]]:
        """What imports for the steps that are made after these."""
        left = [node for node in self.graph if node not in nodes and node.step.ahead is not None]
        return [node.step.ahead for node in left if node.step.ahead is not None and self._to_make(node)]

    def mend(self, found: DamagedUnit) -> None:
        """Discard what is damaged of a result, which was met while it was read, and make it anew.

        Raises:
            ModelsFailed: It is a model's, and could not be made anew.
            UnitsFailed: It is the study's, and could not.
        """
        node = self.graph.at(found.key)
        if node is None:
            raise found
        damages = {found.unit: described(self.store, found)}
        for unit in node.units:
            if unit not in damages and (problem := self._problem(node.key, unit)):
                damages[unit] = problem
        for unit in damages:
            self.store.discard(node.key, unit)
        workers = self.spread.workers if node.step.runs_model else 1
        made_from = Contents(self.store).made_from(node)
        jobs = [self._job(node, unit, "", made_from, one, workers) for unit, one in damages.items()]
        failed: dict[str, UnitsFailed] = {}
        self._side_by_side([node], self.spread if node.step.runs_model else LOOKUP, lambda _: (jobs, {}), failed)
        if failed and node.owner:
            raise ModelsFailed(failed)
        if failed:
            raise failed[node.owner]

    def _job(
        self, node: Node, unit: str, reason: str, made_from: str | None = None, damage: str = "", workers: int = 1
    ) -> Job:
        step = node.step
        samples, chosen = self._samples_of(node, unit)
        target = Target(
            self.store.url,
            node.key,
            unit,
            node.label,
            alone=not step.sharded,
            refresh=step.name in self.refresh and not damage,
            made_from=made_from,
            why=reason,
            damage=damage,
        )
        return Job(
            step.name,
            target,
            replace(node.given, plugins=()),  # functions of a file that the job brings to a worker
            node.sources,
            node.model,
            tuple(dump.of(sample.index for sample in samples) for dump in node.dumps),
            Parcel(tuple(samples)),
            Parcel(chosen),
            None,
            1 if step.timed else workers,
            self.tokenizer,
            self.plugins,
            Parcel(self.more(node)),
        )

    def _samples_of(self, node: Node, unit: str) -> tuple[Sequence[Sample], Sequence[int]]:
        """The samples of a unit, and the indices of those of all units that the step chooses."""
        step = node.step
        choose = step.chooses or step.samples
        if choose is not None and node not in self._chosen:
            self._chosen[node] = {one.index: one for one in choose(self._samples, node.given)}
        chosen = self._chosen.get(node, {})
        if step.samples is None:
            return (self.shards[unit] if step.sharded else ()), list(chosen)
        own = [one for one in self.shards[unit] if one.index in chosen] if step.sharded else list(chosen.values())
        return own, list(chosen)

    @cached_property
    def _chosen(self) -> dict[Node, dict[int, Sample]]:
        """The samples of each step that chooses some, by index, looked up once however many units it has."""
        return {}

    @cached_property
    def spread(self) -> Spread:
        """How work is spread."""
        return self.runner()

    @cached_property
    def _samples(self) -> list[Sample]:
        return [sample for part in self.shards.values() for sample in part]

    def _problem(self, key: StepKey, unit: str) -> str:
        """What is wrong with a unit of which the marker is there, every byte read."""
        record = self.store.record(key, unit)
        if record is None:
            return "its files are not as committed" if self.store.unit_status(key, unit) == "damaged" else ""
        try:
            self.store.check(key, record)
        except DamagedUnit as damage:
            return described(self.store, damage)
        return ""

    def _to_make(self, node: Node) -> set[str]:
        """The units that are to be computed, as far as their markers tell."""
        return set(node.units if node.step.name in self.refresh else self.store.lacking(node.key, node.units))

    def _there(
        self, node: Node, units: Sequence[str], lacking: Collection[str], contents: Contents
    ) -> dict[str, StepRecord]:
        """Which units the store has, where they are several, in one run of Prefect's: one for each would take 20 ms."""
        if sum(unit not in lacking for unit in units) < SEVERAL:
            return {}
        found = looked_up(node.step.name, node.title, self.store, node.key, units, contents.made_from(node))
        return {record.unit: record for record in found}

    def why(self, node: Node, contents: Contents) -> str:
        """Why a result would be made now; empty if it would not."""
        return why(node, self.graph, self.store, self.refresh, contents, self.plugins)

    def _announced(self, node: Node, contents: Contents) -> str:
        """Say why a result is made, if there is more to say than that it is new."""
        reason = self.why(node, contents)
        if reason and reason != NOVEL:
            say(f"{node.title}: {reason}")
        return reason

    def _told(self, node: Node, records: Iterable[StepRecord | Failure]) -> None:
        """Tell what became of a result, and each note of the units made now, once; older ones are in the report."""
        made = [record for record in records if isinstance(record, StepRecord)]
        for line in damage_lines(node.title, made):
            say(line)
        say(summary(node.title, made, node.step.noun))
        for note in dict.fromkeys(note for record in made if not record.cached for note in record.notes):
            say(f"{node.title}: note: {note}")


def _with_others(before: UnitsFailed | None, title: str, failures: Sequence[Failure], total: int) -> UnitsFailed:
    """What failed of a model, with what failed of it before."""
    if before is None:
        return UnitsFailed(title, failures, total)
    return UnitsFailed(f"{before.step}, {title}", (*before.failures, *failures), before.total + total)


def _one_model_after_the_other(nodes: Sequence[Node], workers: int) -> list[Node]:
    """What comes first of all models, then what else runs each, since a worker holds one at a time, then the rest.

    For several workers what is timed comes before all that is not, since all of them must rest for it; then, of one
    model, what is one long unit before what is cut into shards, which fill the time of the others.
    """
    models = list(dict.fromkeys(node.runs for node in nodes))

    def place(node: Node) -> tuple[bool, bool, bool, int, bool]:
        step = node.step
        if not step.runs_model:
            return True, True, True, len(models), True
        late = workers > 1 and not step.timed
        return not step.first, False, late, models.index(node.runs), workers > 1 and step.sharded

    return sorted(nodes, key=place)
