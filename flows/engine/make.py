"""Making the results of a graph through Prefect: in order, explained, mended where damaged, and told of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from indexscope.flows.engine.contents import Contents
from indexscope.flows.engine.graph import Graph, Node, levels
from indexscope.flows.engine.narrate import all_progress, damage_lines, say, summary
from indexscope.flows.engine.reasons import NOVEL, why
from indexscope.flows.engine.settings import LOOKUP, Spread
from indexscope.flows.engine.side_by_side import SideBySide
from indexscope.flows.engine.units import Failure, ModelsFailed, UnitsFailed, run_each, started, threads
from indexscope.plugins import PluginFile
from indexscope.storage.inputs.samples import Sample
from indexscope.storage.store.store import DamagedUnit, StepKey, Store
from indexscope.tasks.common.declared import Job, Parcel
from indexscope.tasks.common.step import described
from indexscope.tasks.common.unit import StepRecord, Target

Shards = Mapping[str, Sequence[Sample]]


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
        """Make results, of which those that run models come first.

        Args:
            nodes: Some of the graph, in its order.
            done: What this run has been through already, which is left out; what it goes through now is added.

        Raises:
            ModelsFailed: Results of some models failed; those of the others were still worked on.
            UnitsFailed: A result of the whole study failed.
        """
        known: set[StepKey] = set() if done is None else done
        failed: dict[str, UnitsFailed] = {}
        left = [node for node in nodes if node.key not in known]
        self._models([node for node in left if node.step.runs_model], failed, known)
        self._results([node for node in left if not node.step.runs_model], failed, known)
        if failed:
            raise ModelsFailed(failed)

    def _models(self, nodes: Sequence[Node], failed: dict[str, UnitsFailed], known: set[StepKey]) -> None:
        if not nodes:
            return
        busy = any(node.step.name in self.refresh or not self._has(node) for node in nodes)
        contents, spread = Contents(self.store), self.spread if busy else LOOKUP

        def begin(node: Node) -> list[Job]:
            reason = self._announced(node, contents)
            if node.step.sharded:
                self.store.prepare(node.key, node.label, node.units)
            return [self._job(node, unit, reason, workers=spread.workers if busy else 1) for unit in node.units]

        self._side_by_side(_one_model_after_the_other(nodes, spread.workers), spread, begin, failed)
        known |= {node.key for node in nodes if node.owner not in failed}

    def _side_by_side(
        self,
        nodes: Sequence[Node],
        spread: Spread,
        begin: Callable[[Node], Sequence[Job]],
        failed: dict[str, UnitsFailed],
    ) -> None:
        with all_progress() as bars:

            def announced(node: Node) -> Sequence[Job]:
                with bars.aside():
                    return begin(node)

            for node, jobs, results in SideBySide(nodes, spread, failed, announced, bars).run():
                if failures := [one for one in results if isinstance(one, Failure)]:
                    failed.setdefault(node.owner, UnitsFailed(node.title, failures, len(jobs)))
                else:
                    with bars.aside():
                        self._told(node, results)

    def _results(self, nodes: Sequence[Node], failed: dict[str, UnitsFailed], known: set[StepKey]) -> None:
        """Results of one unit each, made in threads from others, level by level."""
        for level in levels(nodes):
            ready = [node for node in level if node.owner not in failed]
            failures: dict[str, list[Failure]] = {}
            try:
                for node, failure in zip(ready, self._each(ready), strict=True):
                    if failure is not None:
                        failures.setdefault(node.owner, []).append(failure)
                    else:
                        known.add(node.key)
            except ModelsFailed as more:
                raise ModelsFailed({**failed, **more.failures}) from more
            for owner, found in failures.items():
                total = sum(node.owner == owner for node in ready)
                title = " ".join(filter(None, [ready[0].step.command, owner]))
                if not owner:
                    raise UnitsFailed(title, found, total)
                failed[owner] = UnitsFailed(title, found, total)

    def _each(self, nodes: Sequence[Node], damage: str = "") -> list[Failure | None]:
        """Make results side by side; a damaged unit among what they read is made anew first.

        Returns:
            What failed, in their order; None where nothing did.
        """
        if not nodes:
            return []
        contents = Contents(self.store)
        reasons = {node.key: "" if damage else self._announced(node, contents) for node in nodes}
        places = {node.key: node for node in nodes}

        def job_of(node: Node, contents: Contents) -> Job:
            return self._job(node, node.units[0], reasons[node.key], contents.made_from(node), damage)

        def again(job: Job) -> Job:
            return job_of(places[job.target.key], Contents(self.store))

        spread = self.spread if damage or any(reasons.values()) else LOOKUP
        with started(threads(spread.workers)) as runner:
            jobs = [job_of(node, contents) for node in nodes]
            results = run_each(jobs, runner, nodes[0].step.command, self.mend, again)
        for node, result in zip(nodes, results, strict=True):
            if isinstance(result, StepRecord):
                self._told(node, [result])
        return [result if isinstance(result, Failure) else None for result in results]

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
        try:
            if node.step.runs_model:
                workers = self.spread.workers
                jobs = [self._job(node, unit, "", damage=one, workers=workers) for unit, one in damages.items()]
                failed: dict[str, UnitsFailed] = {}
                self._side_by_side([node], self.spread, lambda _: jobs, failed)
                if failed:
                    raise failed[node.owner]
            elif failures := [failure for failure in self._each([node], damages[found.unit]) if failure is not None]:
                raise UnitsFailed(node.title, failures, 1)
        except UnitsFailed as failure:
            if not node.owner:
                raise
            raise ModelsFailed({node.owner: failure}) from failure

    def _job(
        self, node: Node, unit: str, reason: str, made_from: str | None = None, damage: str = "", workers: int = 1
    ) -> Job:
        step = node.step
        samples = self.shards[unit] if step.sharded else step.samples(self._samples, node.given)
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
            1 if step.timed else workers,
            self.tokenizer,
            self.plugins,
            Parcel(self.more(node)),
        )

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
            for table in record.tables:
                self.store.read(key, table, [unit])
        except DamagedUnit as damage:
            return described(self.store, damage)
        return ""

    def _has(self, node: Node) -> bool:
        return all(status == "committed" for status in self.store.unit_statuses(node.key, node.units).values())

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


def _one_model_after_the_other(nodes: Sequence[Node], workers: int) -> list[Node]:
    """What comes first of all models, then all else of each model, since a worker holds one model at a time.

    Of one model what is timed comes last, since no other work may be beside it, and for several workers what is one
    long unit before what is cut into shards, which fill the time of the others.
    """
    models = list(dict.fromkeys(node.runs for node in nodes))

    def place(node: Node) -> tuple[bool, int, bool, bool]:
        step = node.step
        return not step.first, models.index(node.runs), step.timed, workers > 1 and step.sharded

    return sorted(nodes, key=place)
