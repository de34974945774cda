"""The dumps of a study: their records listed, matched with the samples by token ids, and fingerprinted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256

from indexscope import IndexscopeError
from indexscope.flows.study.config import ModelRef, Study
from indexscope.flows.study.inputs import DumpPlan
from indexscope.storage.inputs.checkpoints import CheckpointInfo
from indexscope.storage.inputs.samples import Sample
from indexscope.storage.inputs.selections.dumps import list_records
from indexscope.storage.inputs.selections.fingerprint import dump_fingerprint
from indexscope.storage.inputs.selections.matching import Matched, match
from indexscope.storage.inputs.selections.record import Record, divided
from indexscope.tasks.common.dumps import Dump

#: Samples and records that a note names.
NAMED = 3


def dumped(
    study: Study, samples: Sequence[Sample], baseline: CheckpointInfo | None
) -> tuple[tuple[DumpPlan, ...], tuple[str, ...]]:
    """Every dump of a study, the baseline's first, and what of it is of no use.

    Args:
        study: The study.
        samples: Its samples.
        baseline: What the baseline says of itself; None where that is a dump too.

    Raises:
        IndexscopeError: A dump is malformed, none of its records is of a sample, or it cannot be of the baseline.
    """
    plans: list[DumpPlan] = []
    notes: list[str] = []
    for ref in study.dumped:
        matched = match(list_records(ref.selections, ref.format), samples)  # type: ignore[arg-type]  # it has one
        if not matched.records:
            reason = f"has {len(matched.unused)} records, and none of them has the tokens of a sample"
            raise IndexscopeError(ref.name, reason, "dump what was selected for the study's own token ids")
        records = {index: _of_layers(ref, record, baseline) for index, record in matched.records.items()}
        digest = dump_fingerprint(ref.selections, ref.format, study.fingerprint)  # type: ignore[arg-type]
        mark = sha256(f"{digest} {list(ref.layers)}".encode()).hexdigest()
        role = "baseline" if ref is study.baseline else "candidate"
        plans.append(DumpPlan(role, Dump(ref.name, mark, records), ref.format, matched.unused))  # type: ignore[arg-type]
        notes += _notes(ref.name, matched, len(samples))
        notes += _unanswered(ref.name, records, samples)
    return tuple(plans), tuple(notes)


def _of_layers(ref: ModelRef, record: Record, baseline: CheckpointInfo | None) -> Record:
    found = divided(record, ref.layers or None, baseline.index_topk if baseline else None)
    most = baseline.layers if baseline else None
    if most is not None and (found.layers or 0) > most:
        reason = f"holds {found.layers} layers, and the baseline has {most}"
        raise IndexscopeError(f"{ref.name}: {record.name}", reason, "compare it with the model that it was made with")
    return found


def _notes(name: str, matched: Matched, samples: int) -> list[str]:
    """What of samples and records found no counterpart."""
    found = []
    if matched.samples:
        of = f"{len(matched.samples)} of {samples} samples have no record of the same tokens"
        found.append(f"{name}: {of}: {_few(matched.samples)}")
    if matched.unused:
        verb = "record is" if len(matched.unused) == 1 else "records are"
        found.append(f"{name}: {len(matched.unused)} {verb} of no sample: {_few(matched.unused)}")
    return found


def _unanswered(name: str, records: Mapping[int, Record], samples: Sequence[Sample]) -> list[str]:
    """Samples with evidence of which nothing can be said, since their answers have queries without rows."""
    asked = [sample for sample in samples if sample.index in records and sample.evidence and sample.evidence.spans]
    if not asked:
        return []
    from indexscope.analysis.parity.asked import covers

    lacking = [
        sample.name for sample in asked if sample.evidence and not covers(records[sample.index], sample.evidence.answer)
    ]
    if not lacking:
        return []
    of = f"{len(lacking)} of {len(asked)} samples with evidence have no rows of all queries of their answers"
    return [f"{name}: {of}: {_few(lacking)}"]


def _few(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
