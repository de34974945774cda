"""The steps of a study as a graph: which results there are, at which addresses, and what each is made from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush

from indexscope.storage.inputs.samples import Sample
from indexscope.storage.store.store import JSON, StepKey, step_key
from indexscope.tasks.common.declared import COMMANDS, RESULT, Given, Per, Reads, Source, Step
from indexscope.tasks.common.dumps import Dump
from indexscope.tasks.common.origin import Checkpoint

#: What ends the name of an input that is read of every model.
OF_EACH = " of each"
#: What a result is told that only the run knows, by its step and the results before it.
Late = Callable[[Step, Sequence["Node"]], Mapping[str, JSON]]
#: What results of one kind are made of: the model that is run, and dumps.
_Subject = tuple[Checkpoint | None, tuple[Dump, ...]]


@dataclass(frozen=True, eq=False)
class Node:
    """One result of a study.

    Attributes:
        step: Its declaration.
        model: The model that is run, for a result of one: of a dump, the baseline.
        dumps: The dump, for a result of one, and the baseline's where it is a dump too.
        given: What it is made with.
        key: Its address.
        units: The units that make it complete.
        label: What its manifest is labelled with.
        read: What it is made from, in the order of the declaration.
    """

    step: Step
    model: Checkpoint | None
    given: Given
    key: StepKey
    units: tuple[str, ...]
    label: str
    read: tuple[tuple[Reads, tuple[Node, ...]], ...]
    dumps: tuple[Dump, ...] = ()

    @cached_property
    def made_from(self) -> tuple[Node, ...]:
        """What it is made from, each once."""
        return tuple({node.key: node for _, nodes in self.read for node in nodes}.values())

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """The same as a task is told of it."""
        return tuple(replace(node.source, of_each=read.of_each) for read, nodes in self.read for node in nodes)

    @property
    def owner(self) -> str:
        """Name of the model or dump that it belongs to; "" for a result of the study."""
        return self.dumps[0].name if self.dumps else self.runs

    @property
    def runs(self) -> str:
        """Name of the model that is run; "" where none is."""
        return self.model.name if self.model else ""

    @property
    def title(self) -> str:
        """What people call it: the step, and the name of the model or dump where there is one result of each."""
        return f"{self.step.name} {self.owner}" if self.owner else self.step.name

    def goes_along(self, other: Node) -> bool:
        """Whether a run of the other makes units of this one as well."""
        return self.owner == other.owner and self.step.along(self.given) == other.step.name

    @property
    def source(self) -> Source:
        """What a step that reads it is told."""
        return Source(self.step.name, self.owner, self.key, self.units)


@dataclass(frozen=True)
class Graph:
    """All results of a study, each after those that it is made from."""

    nodes: tuple[Node, ...]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    @cached_property
    def _first(self) -> dict[StepKey, Node]:
        return {node.key: node for node in reversed(self.nodes)}

    def at(self, key: StepKey) -> Node | None:
        """A result by its address; of two models with equal results, the first model's."""
        return self._first.get(key)

    def of(self, step: str, model: str = "") -> Node | None:
        """A result by its step and model; None where the study has none."""
        return next((node for node in self.nodes if (node.step.name, node.owner) == (step, model)), None)

    def some(self, commands: Iterable[str]) -> list[Node]:
        """The results that some commands make."""
        wanted = set(commands)
        return [node for node in self.nodes if node.step.command in wanted]


def expand(
    steps: Sequence[Step],
    models: Sequence[Checkpoint],
    given: Given,
    study: str,
    shards: Mapping[str, Sequence[Sample]],
    late: Late = lambda step, nodes: {},
    dumps: Sequence[Dump] = (),
    against: Dump | None = None,
) -> Graph:
    """Make the graph of a study.

    Args:
        steps: Declarations, in any order; what reads another comes after it here.
        models: The models that are run: the baseline, then candidates.
        given: What the study is given.
        study: Its name, which labels its results.
        shards: Samples of each shard, by name.
        late: Further inputs of a step.
        dumps: The candidates that are dumps of selections.
        against: The baseline, where it is a dump too; then there are no models.

    What is read of each model is not read of members of series: else a new member would change the results of all.

    Raises:
        ValueError: Steps read each other in a circle, or one that is not declared.
    """
    made: dict[tuple[str, str], Node] = {}
    baseline = models[0] if models and against is None else None
    subjects: dict[Per, list[_Subject]] = {
        "model": [(model, ()) for model in models],
        "dump": [(baseline, (dump,) if against is None else (dump, against)) for dump in dumps],
        "study": [(None, ())],
    }
    names = [model.name for model in models] + [dump.name for dump in dumps]
    apart = {member.name for course in given.series for member in course.members}
    for step in in_order(resolved([step for step in steps if step.wanted(given)])):
        for model, own_dumps in subjects[step.per]:
            owner = own_dumps[0].name if own_dumps else model.name if model else ""
            read = tuple((read, tuple(_read(read, owner, names, made, apart))) for read in step.reads)
            if not owner and read and not any(nodes for _, nodes in read):
                continue
            own = replace(
                given,
                checkpoint=model.fingerprint if model else "",
                dumps=tuple(dump.fingerprint for dump in own_dumps),
            )
            inputs = {**_addresses(read, owner, names), **step.settings(own), **late(step, list(made.values()))}
            key = step_key(step.kind, {**inputs, "version": step.version()})
            units = _units(step, own, shards)
            label = f"{study}: {owner}" if owner else study
            made[step.name, owner] = Node(step, model, own, key, units, label, read, own_dumps)
    return Graph(tuple(made.values()))


def _units(step: Step, given: Given, shards: Mapping[str, Sequence[Sample]]) -> tuple[str, ...]:
    """The units of a step: of one that is sharded the shards that hold samples for it, at least the first."""
    if not step.sharded:
        return (RESULT,)
    if step.samples is None:
        return tuple(shards)
    wanted = {sample.index for sample in step.given_of([one for part in shards.values() for one in part], given)}
    found = tuple(name for name, part in shards.items() if any(sample.index in wanted for sample in part))
    return found or tuple(shards)[:1]


def resolved(steps: Sequence[Step]) -> list[Step]:
    """Steps that name each step that they read, where they name a command."""
    made_by = {f"[{step.command}]": [one for one in steps if one.command == step.command] for step in steps}

    def named(read: Reads) -> list[Reads]:
        return [replace(read, step=one.name) for one in made_by[read.step]] if read.step in made_by else [read]

    return [replace(step, reads=tuple(one for read in step.reads for one in named(read))) for step in steps]


def in_order(steps: Sequence[Step]) -> list[Step]:
    """Steps in the order of the commands, each after those that it reads; otherwise in the order given.

    Raises:
        ValueError: They read each other in a circle, one that is not there, or what a later command makes.
    """
    named = {step.name: step for step in steps}
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for step in steps:
        known = [read.step for read in step.reads if read.step in named]
        absent = [read.step for read in step.reads if read.step not in named and not read.optional]
        if absent:
            raise ValueError(f"step {step.name} reads {absent[0]}, which is not declared")
        late = [name for name in known if COMMANDS.index(named[name].command) > COMMANDS.index(step.command)]
        if late:
            raise ValueError(f"step {step.name} reads {late[0]}, which a later command makes")
        sorter.add(step.name, *known)
    try:
        sorter.prepare()
    except CycleError as error:
        raise ValueError(f"steps read each other in a circle: {' → '.join(error.args[1])}") from None
    places = {step.name: (COMMANDS.index(step.command), number) for number, step in enumerate(steps)}
    order: list[Step] = []
    ready: list[tuple[tuple[int, int], str]] = []
    while sorter.is_active():
        for name in sorter.get_ready():
            heappush(ready, (places[name], name))
        _, first = heappop(ready)
        order.append(named[first])
        sorter.done(first)
    return order


def _read(
    read: Reads, owner: str, names: Sequence[str], made: Mapping[tuple[str, str], Node], apart: Collection[str]
) -> list[Node]:
    """The results that one line of a declaration means; those of each model once each, in an order without names."""
    if (read.step, "") in made:
        return [made[read.step, ""]]
    if owner and not read.of_each:
        return [made[read.step, owner]] if (read.step, owner) in made else []
    found = [made[read.step, name] for name in names if (read.step, name) in made]
    if not owner:
        return found
    found = [node for node in found if node.owner not in apart]
    return sorted({node.key: node for node in found}.values(), key=lambda node: node.key.digest)


def _addresses(read: Sequence[tuple[Reads, Sequence[Node]]], owner: str, names: Sequence[str]) -> dict[str, JSON]:
    """What a result is made from, by address. Names of models and dumps count where they are part of the result."""
    inputs: dict[str, JSON] = {}
    of_models: dict[str, dict[str, JSON]] = {name: {"name": name} for name in names}
    for line, nodes in read:
        for node in nodes:
            if line.of_each and owner:
                inputs[f"{line.step}{OF_EACH}"] = [one.key.digest for one in nodes]
            elif not owner and node.owner:
                of_models[node.owner][line.step] = node.key.digest
            else:
                inputs[line.step] = node.key.digest
    # Of what nothing is read nothing is part of the result.
    return inputs if owner else {"models": [one for one in of_models.values() if len(one) > 1], **inputs}
