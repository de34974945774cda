"""Steps that analyse what one model's other steps made: `analysis.<name>.run.run` with the settings of that name."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from indexscope.storage.store.store import JSON, Store
from indexscope.tasks.common.declared import Given, Job, Made, Reads, Step
from indexscope.tasks.common.declared_version import version_of
from indexscope.tasks.common.features import StoredFeatures


def analysis(name: str, *reads: Reads, place: int, wanted: Callable[[Given], bool] = lambda given: True) -> Step:
    """The declaration of an analysis.

    Args:
        name: Folder of the question in `analysis`, and name of its settings.
        reads: The steps whose tables it gets; those of each model of the study come as a list of their own.
        place: Where it stands among the analyses.
        wanted: Whether a study has it.
    """

    def settings(given: Given) -> dict[str, JSON]:
        return {"settings": getattr(given.analyses, name).model_dump(mode="json")}

    def compute(job: Job, store: Store) -> Made:
        own = [(source.key, source.units) for source in job.sources if not source.of_each]
        each = [StoredFeatures(store, [(source.key, source.units)]) for source in job.sources if source.of_each]
        run = import_module(f"indexscope.analysis.{name}.run").run
        return Made(run(StoredFeatures(store, own), getattr(job.given.analyses, name), *([each] if each else [])))

    return Step(
        name,
        "analyze",
        f"analyses/{name}",
        compute,
        reads,
        settings=settings,
        version=version_of(f"indexscope.analysis.{name}.run"),
        place=place,
        wanted=wanted,
        declares=(f"indexscope.analysis.{name}.tables:RESULTS",),
    )
