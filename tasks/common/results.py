"""The results of a model's analyses, as the comparison and the report read them; light to import."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from indexscope.storage.store.lazy import Lazy
from indexscope.storage.store.store import StepKey, Store
from indexscope.tasks.common.declared import RESULT as RESULT
from indexscope.tasks.common.declared import Source


def stored_models(
    store: Store, models: Mapping[str, Mapping[str, StepKey]], tables: Sequence[str] = ("metrics", "per_sample")
) -> Lazy[Mapping[str, pl.DataFrame]]:
    """What is compared of each model, read when it is asked for: the samples of many models would fill the memory.

    Args:
        store: The store.
        models: The analyses of each model, by name.
        tables: Tables that are read of each.
    """

    def combined(keys: Mapping[str, StepKey]) -> Mapping[str, pl.DataFrame]:
        from indexscope.analysis.comparison.compare import combine

        return combine(read_analyses(store, keys, tables))

    return Lazy(models, combined)


def read_analyses(
    store: Store, keys: Mapping[str, StepKey], only: Sequence[str] | None = None
) -> dict[str, dict[str, pl.DataFrame]]:
    """The result tables of a model's analyses, or only some of them, by analysis."""
    return {name: store.read_unit(key, RESULT, only) for name, key in keys.items()}


def by_model(sources: Iterable[Source]) -> dict[str, dict[str, StepKey]]:
    """Sources by model, baseline first, and by step."""
    found: dict[str, dict[str, StepKey]] = {}
    for source in sources:
        found.setdefault(source.model, {})[source.step] = source.key
    return found
