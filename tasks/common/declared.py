"""What a step of a study is. A step is declared once, in a file of this folder; the engine makes the rest from that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from indexscope.analysis.analyses import AnalysisSettings
from indexscope.analysis.series.course import Course
from indexscope.analysis.settings import CloseupSettings, ComparisonSettings, ExtractSettings
from indexscope.columns import Table
from indexscope.plugins import Plugin, PluginFile
from indexscope.storage.inputs.samples import Sample
from indexscope.storage.store.store import JSON, StepKey, Store
from indexscope.tasks.common.dumps import Dump
from indexscope.tasks.common.origin import Checkpoint
from indexscope.tasks.common.unit import Tables, Target

T = TypeVar("T")
Command = Literal["extract", "analyze", "compare", "report"]
#: The commands in the order of the work: a step reads what its own makes, or one before it.
COMMANDS: tuple[Command, ...] = ("extract", "analyze", "compare", "report")
Per = Literal["model", "dump", "study"]
#: The unit of a step that has only one.
RESULT = "result"


class Parcel(Generic[T]):
    """Carries a value past Prefect, which would walk through every token of every sample in search of futures."""

    def __init__(self, value: T) -> None:
        self.value = value


@dataclass(frozen=True)
class Given:
    """What a study is given, as far as it determines results: no path, no name, no time.

    Attributes:
        extract: How models are run.
        closeup: How closely some queries are looked at.
        analyses: Settings of the analyses.
        comparison: Settings of the comparison.
        shard_size: Samples a shard.
        device: Type of the device.
        dataset: Fingerprint of the samples.
        vocabulary: What the token ids mean to a reader, by its hash; None without a tokenizer.
        evidence: Fingerprint of the answers and the evidence that samples mark; "" where none does.
        plugins: The study's plug-ins.
        series: Its series: the members that have results, in the order of their steps.
        checkpoint: Fingerprint of the model, for what is made of a dump that of the baseline; "" for what is made
            without a model.
        dumps: Fingerprints of the dump that a result is of, and of the baseline's where it is a dump too.
        lengths: Lengths at which the study gives results, ascending to the longest sample's; () for that alone.
    """

    extract: ExtractSettings
    closeup: CloseupSettings
    analyses: AnalysisSettings
    comparison: ComparisonSettings
    shard_size: int
    device: str
    dataset: str
    vocabulary: str | None = None
    plugins: tuple[Plugin, ...] = ()
    evidence: str = ""
    series: tuple[Course, ...] = ()
    checkpoint: str = ""
    dumps: tuple[str, ...] = ()
    lengths: tuple[int, ...] = ()


@dataclass(frozen=True)
class Source:
    """A step that another one reads.

    Attributes:
        step: Its name.
        model: The model's name; "" for a step that is made once a study.
        key: Its address.
        units: The units that make it complete.
        of_each: Whether it is read of every model of the study.
    """

    step: str
    model: str
    key: StepKey
    units: tuple[str, ...]
    of_each: bool = False


@dataclass(frozen=True)
class Reads:
    """One step that a step is made from.

    Attributes:
        step: Its name, or the name of a command in brackets for all that it makes: "[analyze]".
        of_each: Of every model of the study, where the reader belongs to one: what is fitted on all of them together.
        optional: Only where the study has it.
    """

    step: str
    of_each: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Job:
    """One unit of a step: small but for the samples, picklable, and without a model in it.

    Attributes:
        step: The step's name.
        target: Where the result goes.
        given: What the study is given.
        sources: What it reads, in the order of the declaration.
        checkpoint: The model, for what is made of a dump the baseline; None for what is made without a model.
        dumps: The dump that it is of, and the baseline's where it is a dump too, with the records of the samples.
        samples: The unit's samples, for a step that runs the model.
        chosen: Indices, over all units, of the samples that the step chose of the study's.
        along: The same unit of a step that this job makes as well.
        workers: How many jobs share the cores.
        tokenizer: Folder of the tokenizer that made the samples; None where they came as ids.
        plugins: Files of the study's plug-ins.
        more: What only this step is told, such as a report's provenance.
    """

    step: str
    target: Target
    given: Given
    sources: tuple[Source, ...] = ()
    checkpoint: Checkpoint | None = None
    dumps: tuple[Dump, ...] = ()
    samples: Parcel[Sequence[Sample]] = field(default_factory=lambda: Parcel(()))
    chosen: Parcel[Sequence[int]] = field(default_factory=lambda: Parcel(()))
    along: Job | None = None
    workers: int = 1
    tokenizer: str | None = None
    plugins: tuple[PluginFile, ...] = ()
    more: Parcel[Any] = field(default_factory=lambda: Parcel(None))

    @property
    def title(self) -> str:
        """What Prefect calls the run."""
        unit = "" if self.target.alone else f" {self.target.unit}"
        owner = self.dumps[0].name if self.dumps else self.checkpoint.name if self.checkpoint else ""
        steps = f"{self.step} and {self.along.step}" if self.along else self.step
        return f"{steps} {owner}{unit}" if owner else steps

    def of(self, step: str, of_each: bool = False) -> list[Source]:
        """The sources of one step: one of each model, where it is read of several."""
        return [source for source in self.sources if source.step == step and source.of_each == of_each]


@dataclass
class Made:
    """What a step made.

    Attributes:
        tables: Frames by table.
        facts: Kept in the commit marker. A list of ``notes`` is for the user.
        described: What the columns of a table mean, where that is known of this result only.
        along: What `Job.along` asked for.
        seconds: What of the time was spent on it, where something else was made along with it.
    """

    tables: Tables
    facts: dict[str, JSON] = field(default_factory=dict)
    described: Mapping[str, Table] = field(default_factory=dict)
    along: Made | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Step:
    """The declaration of a step.

    Attributes:
        name: What ``--refresh`` and the narration call it.
        command: The command that makes it.
        kind: Its folder in the store.
        compute: Its one call into analysis.
        reads: The steps that it is made from.
        per: Whether there is one result for each model that is run, for each candidate that is a dump of selections, or
            one for the study. One for the study that reads others is left out where none of them has a result.
        runs_model: Whether it loads the model.
        sharded: One unit for each shard that holds samples for it; else one for all.
        along: Name of the step, sharded alike, whose run of the model makes missing units of this one as well; "" where
            it has runs of its own.
        timed: Whether its numbers are times, so that nothing may run beside it.
        first: Before the other steps of any model: what would make all their work worthless.
        place: Where it stands among the steps of its command, in tables, reports and narration: in the order in which a
            reader asks.
        samples: Which samples a step is given: by default all if it is sharded, else none.
        chooses: Which samples it does more with than with the others; by default those that `samples` names.
        settings: What its bytes depend on besides its sources, as JSON.
        version: Raise it when the same inputs would give other bytes.
        wanted: Whether a study has it.
        ahead: Imports what its computation needs and takes long to import, of a step that is made in the program's own
            process: that has time for it while its worker processes are at work on other steps.
        declares: Where its tables are declared, as "module:name" of a mapping by table; imported when it is asked for,
            since what declares a table may compute it.
    """

    name: str
    command: Command
    kind: str
    compute: Callable[[Job, Store], Made]
    reads: tuple[Reads, ...] = ()
    per: Per = "model"
    runs_model: bool = False
    sharded: bool = False
    along: Callable[[Given], str] = lambda given: ""
    timed: bool = False
    first: bool = False
    place: int = 100
    samples: Callable[[Sequence[Sample], Given], Sequence[Sample]] | None = None
    chooses: Callable[[Sequence[Sample], Given], Sequence[Sample]] | None = None
    settings: Callable[[Given], Mapping[str, JSON]] = lambda given: {}
    version: Callable[[], int] = lambda: 1
    wanted: Callable[[Given], bool] = lambda given: True
    ahead: Callable[[], None] | None = None
    declares: tuple[str, ...] = ()

    def given_of(self, samples: Sequence[Sample], given: Given) -> Sequence[Sample]:
        """The samples that it is given in all its units."""
        if self.samples is not None:
            return self.samples(samples, given)
        return samples if self.sharded else ()

    @property
    def noun(self) -> str:
        """What the narration calls its units."""
        return "shard" if self.sharded else "result"
