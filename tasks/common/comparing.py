"""Steps that hold what the models of a study select and predict beside each other: `analysis.<folder>`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from indexscope.storage.store.store import JSON, Store
from indexscope.tasks.common.declared import Given, Job, Made, Reads, Step
from indexscope.tasks.common.declared_version import version_of
from indexscope.tasks.common.features import StoredFeatures

Stored = Mapping[str, Mapping[str, Any]]


def settings(given: Given) -> dict[str, JSON]:
    """Resamples, confidence, seed and margins: those of everything that compares."""
    return {"settings": given.comparison.model_dump(mode="json")}


def comparing(
    name: str,
    place: int,
    reads: Sequence[Reads] = (Reads("extract"), Reads("closeup")),
    wanted: Callable[[Given], bool] = lambda given: True,
) -> Step:
    """The declaration of a comparison of selections and predictions.

    Args:
        name: The step's name, and the folder of the question in `analysis`, whose `run.run` is called with the tables
            of each model, the baseline's name and the settings.
        place: Where it stands among the comparisons.
        reads: The steps of each model whose tables it gets.
        wanted: Whether a study has it.
    """

    def compute(job: Job, store: Store) -> Made:
        steps: dict[str, list[Any]] = {}
        for source in job.sources:
            steps.setdefault(source.model, []).append((source.key, source.units))
        stored: Stored = {model: StoredFeatures(store, own, ("selections",)) for model, own in steps.items()}
        run = import_module(f"indexscope.analysis.{name}.run").run
        return Made(run(stored, next(iter(stored)), job.given.comparison))

    return Step(
        name,
        "compare",
        name,
        compute,
        tuple(reads),
        per="study",
        settings=settings,
        version=version_of(f"indexscope.analysis.{name}.run"),
        place=place,
        wanted=wanted,
        declares=(f"indexscope.analysis.{name}.tables:COMPARED",),
    )
