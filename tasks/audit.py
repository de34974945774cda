"""The causality audit of a model: seconds, and before everything else, since it may make the rest worthless."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from indexscope import IndexscopeError
from indexscope.errors import is_out_of_memory
from indexscope.storage.store.store import JSON, Store
from indexscope.tasks.common.declared import Given, Job, Made, Step
from indexscope.tasks.common.declared_version import version_of
from indexscope.tasks.common.running import LOOKED_AT, run_on, running

if TYPE_CHECKING:
    import polars as pl

    from indexscope.analysis.capture.journal import Journal
    from indexscope.analysis.capture.source import Source

#: Tokens; an audit that does not fit even at half of them is a failure.
SHORTEST = 64


def _settings(given: Given) -> dict[str, JSON]:
    return run_on(given, given.extract.model_dump(mode="json", include={"dtype"}))


def _compute(job: Job, _: Store) -> Made:
    with running(job) as (model, journal, facts):
        table = _audit(model, [sample.input_ids for sample in job.samples.value], journal)
        moved = f"later tokens moved an earlier logit by up to {table['max_logit_change'][0] or 0.0:.3g}"
        if table["passed"][0] is False:
            journal.note(f"FAILED: {moved}, or are attended to; no number of this model can be used")
        elif (alone := table["layer_change"][0]) is not None:
            reason = f"by rounding: no layer by itself moves by more than {alone:.2g} of what it gives"
            journal.note(
                f"passed: {moved}, {reason}, as where experts get other tokens; extract.dtype float32 rounds less"
            )
        return Made({"audit": table}, facts())


def _audit(model: Source, sequences: Sequence[Sequence[int]], journal: Journal) -> pl.DataFrame:
    """The audit, on beginnings of the sequences where the model's own forward needs too much memory."""
    from indexscope.analysis.capture.audit import audit_causality
    from indexscope.analysis.capture.memory import let_go

    longest = max(map(len, sequences))
    while True:
        try:
            return audit_causality(model, [sequence[:longest] for sequence in sequences])
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if longest < SHORTEST:
                remedy = "use another device, a smaller dtype or fewer workers"
                raise IndexscopeError("causality audit", "does not fit into memory", remedy) from error
        let_go(model.device)
        longest //= 2
        journal.note(f"out of memory in the causality audit; it goes on with the first {longest} tokens of each sample")


STEP = Step(
    "audit",
    "extract",
    "audits",
    _compute,
    runs_model=True,
    first=True,
    samples=lambda samples, given: samples[:LOOKED_AT],
    settings=_settings,
    version=version_of("indexscope.analysis.capture.audit", "AUDIT_VERSION"),
    declares=("indexscope.analysis.capture.tables:AUDITED",),
)
