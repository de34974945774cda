"""What an export holds: every column of the feature tables that is a number, with its unit and its weight."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from indexscope import IndexscopeError
from indexscope.storage.store.keys import key_at
from indexscope.storage.store.store import JSON, Store
from indexscope.storage.studies.export import Measure
from indexscope.storage.studies.records import StudyRecord
from indexscope.tasks.common.declared import RESULT

#: Inputs that the features and the audit of one model share, and no other model's have.
_RUN = ("checkpoint", "dataset", "device")
AUDITS = "audits"
#: Feature tables without values: names of samples, and selections, which are packed.
_OTHERS = ("samples", "selections")


def measures() -> tuple[Measure, ...]:
    """Everything that can be exported: table by table, all numbers that neither place a row nor weight another."""
    from indexscope.analysis.features.columns import FEATURES

    counts = {weight for table in FEATURES.values() for weight in table.weights.values()}
    return tuple(
        Measure(name, column.name, column.unit, column.weight)
        for name, table in sorted(FEATURES.items())
        if name not in _OTHERS
        for column in table.columns
        # Where there are means, counts are their weights; m2 serves to merge rows.
        if column.dtype.is_numeric()
        and column.name not in (*table.key, "m2")
        and not (table.weights and column.name in counts)
    )


def chosen(tables: Collection[str], metrics: Collection[str], own: Collection[Measure] = ()) -> tuple[Measure, ...]:
    """What is left of `measures` by table and by metric; an empty choice is all.

    Args:
        tables: Names of tables.
        metrics: Names of metrics.
        own: Columns of the study's own features, which can be chosen like the others.

    Raises:
        IndexscopeError: There is no such table or metric.
    """
    known = (*measures(), *own)
    _check("--table", tables, {measure.table for measure in known})
    _check("--metric", metrics, {measure.column for measure in known})
    return tuple(
        measure
        for measure in known
        if (not tables or measure.table in tables) and (not metrics or measure.column in metrics)
    )


def leaks_of(store: Store, record: StudyRecord) -> dict[str, bool]:
    """Whether each model of a study failed the causality audit, as far as that has been made.

    Raises:
        IndexscopeError: An audit is damaged.
    """
    from indexscope.analysis.leaks import leaks

    def run(path: str) -> tuple[JSON, ...] | None:
        manifest = store.manifest(key_at(path))
        return None if manifest is None else tuple(manifest.inputs.get(name) for name in _RUN)

    audits = {made: path for path in record.steps if path.startswith(f"{AUDITS}/") and (made := run(path)) is not None}
    own = {model: key_at(audits[made]) for model, path in record.models.items() if (made := run(path)) in audits}
    return {
        model: leaks(store.read(key, "audit", [RESULT]))
        for model, key in own.items()
        if store.record(key, RESULT) is not None
    }


def _check(option: str, names: Collection[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            remedy = f"did you mean {close[0]!r}?" if close else f"choose among {', '.join(sorted(known))}"
            raise IndexscopeError(f"{option} {name}", "is not exported", remedy)
