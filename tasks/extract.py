"""The features of every query of a model, a shard of samples at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from indexscope.storage.inputs.samples import Sample, spread
from indexscope.storage.store.store import JSON, Store
from indexscope.tasks.common.answers import answer_watch
from indexscope.tasks.common.declared import Given, Job, Made, Step
from indexscope.tasks.common.declared_version import version_of
from indexscope.tasks.common.looking import CloseLook
from indexscope.tasks.common.running import chunks_of, run_on, running

#: A change of how answers are measured is of no concern to data without.
_ANSWERS = version_of("indexscope.analysis.evidence.watch")


def _settings(given: Given) -> dict[str, JSON]:
    """Neither latency settings nor where the weights are touch features.

    The chunk counts as it was set: results depend on it by rounding (and by what topk makes of ties) only, so that
    with "auto" the memory of a machine is no part of the address. Which features there are counts, so that one more
    finds no tables without it. So do what samples mark, where any does, and the lengths that a study asks for.
    """
    from indexscope.analysis.features.columns import MEASURED

    settings = given.extract.model_dump(
        mode="json", exclude={"device", "placement", "profile_lengths", "profile_repeats"}
    )
    marked = {"answers": [given.evidence, given.vocabulary, _ANSWERS()]} if given.evidence else {}
    lengths = {"lengths": list(given.lengths)} if given.lengths else {}
    return {**run_on(given, settings), "shard_size": given.shard_size, "features": list(MEASURED), **marked, **lengths}


def _with_dense_reference(samples: Sequence[Sample], given: Given) -> Sequence[Sample]:
    """Those with an answer first, since only a dense reference tells what was lost: "auto" takes all of them."""
    answered = [sample for sample in samples if sample.evidence is not None]
    count = given.extract.dense_samples(len(samples))
    if not answered or not count:
        return spread(samples, count)
    first = answered if given.extract.dense_reference == "auto" else spread(answered, count)
    others = spread([sample for sample in samples if sample.evidence is None], max(0, count - len(first)))
    return sorted([*first, *others], key=lambda sample: sample.index)


def _compute(job: Job, _: Store) -> Made:
    from indexscope.analysis.features import extract_samples

    with running(job) as (source, journal, facts):
        for note in source.notes:
            journal.note(note)
        look = None if job.along is None else CloseLook(job.along, source)
        beside: dict[str, Any] = {"lengths": job.given.lengths} | ({} if look is None else {"beside": look})
        if job.given.evidence:
            beside["watching"] = answer_watch(job)
        tables = extract_samples(
            source, job.samples.value, job.given.extract, journal, job.workers, dense=set(job.chosen.value), **beside
        )
        return Made(tables, facts(), along=None if look is None else look.made(tables, chunks_of(journal)))


STEP = Step(
    "extract",
    "extract",
    "features",
    _compute,
    runs_model=True,
    sharded=True,
    chooses=_with_dense_reference,
    settings=_settings,
    version=version_of("indexscope.analysis.features.extract", "FEATURES_VERSION"),
    declares=(
        "indexscope.analysis.features.columns:FEATURES",
        "indexscope.analysis.features.columns:AT_LENGTHS",
        "indexscope.analysis.evidence.tables:COLLECTED",
    ),
    place=10,
)
