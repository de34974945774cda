"""Which analyses there are, and what each reads; light to import, since the command line asks before anything runs."""

from __future__ import annotations

from collections.abc import Mapping

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


def waves() -> tuple[tuple[str, ...], ...]:
    """The analyses in groups: those of a group read no other of the same group."""
    first = tuple(name for name, reads in READS.items() if not set(reads) & set(ANALYSES))
    return tuple(filter(None, (first, tuple(name for name in ANALYSES if name not in first))))
