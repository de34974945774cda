"""Which analyses there are, and what each reads; light to import, since the command line asks before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

#: What each analysis reads of its model: steps that ran the model (features, measures, probe), or earlier analyses.
READS: Mapping[str, tuple[str, ...]] = {
    "distribution": ("features",),
    "clustering": ("features",),
    "positional": ("features",),
    "efficiency": ("features", "measures"),
    "budget": ("probe",),
    "heads": ("probe",),
    "sharing": ("probe",),
    "content": ("probe",),
    "stability": ("probe",),
    "length": ("features",),
    "prototypes": ("probe", "clustering"),
    "advice": ("measures", "budget", "heads", "sharing", "efficiency"),
}
ANALYSES = tuple(READS)
#: Analyses whose result is fitted on the features of all models of a study, so that it means the same in each.
POOLED = ("clustering",)
#: The analysis of the metrics that a study declares in files of its own; only a study that names some has it.
CUSTOM = "custom"
#: What it reads: the samples and tables that are there anyway, and what the study's own features made of the model.
CUSTOM_READS = ("features", "user_features")
#: Every analysis that a study may have.
ALL_ANALYSES = (*ANALYSES, CUSTOM)


def waves(analyses: Iterable[str] = ANALYSES) -> tuple[tuple[str, ...], ...]:
    """The analyses in groups: those of a group read no other of the same group."""
    names = tuple(analyses)
    first = tuple(name for name in names if not set(READS.get(name, ())) & set(ANALYSES))
    return tuple(filter(None, (first, tuple(name for name in names if name not in first))))
