"""The results of a model's analyses, as the comparison and the report read them; light to import."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import polars as pl

from indexscope.storage.store import StepKey, Store
from indexscope.tasks.common.declared import RESULT as RESULT
from indexscope.tasks.common.declared import Source


class StoredModels(Mapping[str, Mapping[str, pl.DataFrame]]):
    """What is compared of each model, read when it is asked for: the samples of many models would fill the memory."""

    def __init__(self, store: Store, models: Mapping[str, Mapping[str, StepKey]]) -> None:
        self._store, self._models = store, models

    def __getitem__(self, name: str) -> Mapping[str, pl.DataFrame]:
        from indexscope.analysis.comparison import combine

        return combine(read_analyses(self._store, self._models[name], ("metrics", "per_sample")))

    def __contains__(self, name: object) -> bool:
        return name in self._models

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)


def read_analyses(
    store: Store, keys: Mapping[str, StepKey], only: Sequence[str] | None = None
) -> dict[str, dict[str, pl.DataFrame]]:
    """The result tables of a model's analyses, or only some of them, by analysis."""
    return {
        name: {table: store.read(key, table, [RESULT]) for table in store.tables(key) if only is None or table in only}
        for name, key in keys.items()
    }


def by_model(sources: Iterable[Source]) -> dict[str, dict[str, StepKey]]:
    """Sources by model, baseline first, and by step."""
    found: dict[str, dict[str, StepKey]] = {}
    for source in sources:
        found.setdefault(source.model, {})[source.step] = source.key
    return found
