"""Which inputs determine the bytes of each step: those, and nothing else (no path, name, time or worker count)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from analysis.settings import ComparisonSettings, ExtractSettings, ProbeSettings
from indexscope.metrics import Declared
from indexscope.settings import Frozen
from storage.store import JSON, StepKey, step_key

#: Raise it when the same inputs would give another comparison or another report.
COMPARISON_VERSION = 5
REPORT_VERSION = 8
#: Raise it when facts, layers, profile or audit of the same model change: features do not follow it.
MEASURES_VERSION = 1
#: Extraction settings that facts, profile and audit depend on.
MEASURED = {"chunk", "batch", "dtype", "profile_lengths", "profile_repeats"}
#: Extraction settings that the probe depends on.
PROBED = {"chunk", "dtype"}
#: Extraction settings that a study's own features depend on.
OBSERVED = {"chunk", "batch", "dtype", "query_every"}


def features_key(fingerprint: str, dataset: str, settings: ExtractSettings, device: str, shard_size: int) -> StepKey:
    """The feature tables of a model over a dataset; latency settings do not touch them.

    The chunk counts as it was set: results depend on it by rounding (and by what topk makes of ties) only, so that
    with "auto" the memory of a machine is no part of the address.
    """
    from analysis.features import FEATURES_VERSION

    inputs: dict[str, JSON] = {
        "checkpoint": fingerprint,
        "dataset": dataset,
        "settings": _plain(settings, exclude={"device", "profile_lengths", "profile_repeats"}),
        "device": device,
        "shard_size": shard_size,
        "version": FEATURES_VERSION,
    }
    return step_key("features", inputs)


def measures_key(fingerprint: str, dataset: str, settings: ExtractSettings, device: str) -> StepKey:
    """Facts, layers, latency profile and causality audit of a model."""
    from analysis.features import FEATURES_VERSION

    inputs: dict[str, JSON] = {
        "checkpoint": fingerprint,
        "dataset": dataset,
        "settings": settings.model_dump(mode="json", include=MEASURED),
        "device": device,
        "version": FEATURES_VERSION,
        "measures_version": MEASURES_VERSION,
    }
    return step_key("models", inputs)


def probe_key(
    fingerprint: str, dataset: str, settings: ExtractSettings, probe: ProbeSettings, words: str | None, device: str
) -> StepKey:
    """The close look at some samples of a model; ``words`` is what the token ids mean to a reader, by its hash."""
    from analysis.probe import PROBE_VERSION

    inputs: dict[str, JSON] = {
        "checkpoint": fingerprint,
        "dataset": dataset,
        "settings": {**settings.model_dump(mode="json", include=PROBED), **_plain(probe)},
        "vocabulary": words,
        "device": device,
        "version": PROBE_VERSION,
    }
    return step_key("probes", inputs)


def user_features_key(
    fingerprint: str,
    dataset: str,
    settings: ExtractSettings,
    device: str,
    shard_size: int,
    declared: Sequence[Declared],
) -> StepKey:
    """A study's own features: the content of their files counts, not where those lie."""
    from analysis.custom.extract import USER_FEATURES_VERSION

    inputs: dict[str, JSON] = {
        "checkpoint": fingerprint,
        "dataset": dataset,
        "settings": settings.model_dump(mode="json", include=OBSERVED),
        "device": device,
        "shard_size": shard_size,
        **_code(declared),
        "version": USER_FEATURES_VERSION,
    }
    return step_key("user_features", inputs)


def analysis_key(
    analysis: str,
    sources: Mapping[str, StepKey],
    settings: Frozen,
    pooled: Sequence[StepKey] = (),
    declared: Sequence[Declared] = (),
) -> StepKey:
    """One analysis of what its model's steps hold.

    What is fitted on the features of all models depends on them all, in whatever order the study names them. The
    analysis of a study's own metrics follows the content of their files.
    """
    inputs: dict[str, JSON] = {
        **{name: key.digest for name, key in sources.items()},
        **({"pooled": sorted(key.digest for key in pooled)} if pooled else {}),
        "settings": _plain(settings),
        **_code(declared),
        "version": int(getattr(import_module(f"analysis.{analysis}"), "VERSION", 1)),
    }
    return step_key(f"analyses/{analysis}", inputs)


def comparison_key(models: Sequence[tuple[str, Mapping[str, StepKey]]], settings: ComparisonSettings) -> StepKey:
    """The comparison of the models, baseline first: of their analyses, features and probe.

    Their names are columns of its table, so they count.
    """
    inputs: dict[str, JSON] = {"models": _digests(models), "settings": _plain(settings), "version": COMPARISON_VERSION}
    return step_key("comparisons", inputs)


def report_key(
    models: Sequence[tuple[str, Mapping[str, StepKey]]], comparison: StepKey, provenance: Mapping[str, JSON]
) -> StepKey:
    """The report: everything it shows, with the settings, gates and versions among its provenance."""
    inputs: dict[str, JSON] = {
        "models": _digests(models),
        "comparison": comparison.digest,
        "provenance": provenance,
        "version": REPORT_VERSION,
    }
    return step_key("reports", inputs)


def _code(declared: Sequence[Declared]) -> dict[str, JSON]:
    """The checksum of the file of each declared function, in an order that counts for nothing."""
    return {f"code of {one.name}": one.digest for one in sorted(declared, key=lambda one: one.name)}


def _digests(models: Sequence[tuple[str, Mapping[str, StepKey]]]) -> JSON:
    return [{"name": name, **{step: key.digest for step, key in keys.items()}} for name, keys in models]


def _plain(settings: Frozen, exclude: set[str] | None = None) -> dict[str, Any]:
    return settings.model_dump(mode="json", exclude=exclude)
