"""Where a study's own features lie in a store and what they hold, without the files that declare them."""

from __future__ import annotations

from indexscope.storage import parquet
from indexscope.storage.export import Measure
from indexscope.storage.keys import StepKey, key_at
from indexscope.storage.records import table_file
from indexscope.storage.store import JSON, Store
from indexscope.storage.studies import StudyRecord

#: Inputs that features and own features of one model share, and no other model's have.
_SHARED = ("checkpoint", "dataset", "device", "shard_size")


def own_features(store: Store, record: StudyRecord) -> tuple[dict[str, str], tuple[Measure, ...]]:
    """A study's own features of each model, as their Parquet columns describe them; none of the study's code is run.

    Returns:
        Path of the step by model, and its columns by table and name. Both are empty for a study without.

    Raises:
        IndexscopeError: A newer Indexscope wrote a step.
    """
    made = {path: _source(store, key_at(path)) for path in record.steps if path.startswith("user_features/")}
    found: dict[str, str] = {}
    for model, path in record.models.items() if made else ():
        source = _source(store, key_at(path))
        for own, of in made.items():
            if source is not None and of == source:
                found[model] = own
    measures = {measure for path in set(found.values()) for measure in _measures(store, key_at(path))}
    return found, tuple(sorted(measures, key=lambda measure: (measure.table, measure.column)))


def _source(store: Store, key: StepKey) -> tuple[JSON, ...] | None:
    manifest = store.manifest(key)
    return None if manifest is None else tuple(manifest.inputs.get(name) for name in _SHARED)


def _measures(store: Store, key: StepKey) -> list[Measure]:
    """The columns of a step's tables that a column of counts belongs to; every unit has the same."""
    records = (store.record(key, unit) for unit in store.units(key))
    record = next((record for record in records if record is not None), None)
    if record is None:
        return []
    found = []
    for table in record.tables:
        units = parquet.units(store.folder.child(key.path).read(table_file(table, record.unit)))
        own = [name for name in units if f"{name}_queries" in units]
        found += [Measure(table, name, units[name], f"{name}_queries") for name in own]
    return found
