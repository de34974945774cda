"""Which rows of the differences were asked for: by metric or family of metrics, and by layer."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence

import polars as pl

from indexscope.analysis.comparison.gates import ALIASES
from indexscope.analysis.metrics.registry import REGISTRY, all_families
from indexscope.errors import IndexscopeError


def narrowed(frame: pl.DataFrame, metrics: Sequence[str], layers: Collection[int]) -> pl.DataFrame:
    """The rows of some metrics and layers; no metric means all of them, no layer those over all layers and by layer.

    Raises:
        IndexscopeError: Neither side has such a metric, family or layer.
    """
    if metrics:
        frame = frame.filter(pl.col("metric").is_in(chosen_metrics(metrics, set(frame["metric"]))))
    if layers:
        known = sorted(frame["layer"].drop_nulls().unique().to_list())
        for layer in layers:
            if layer not in known:
                remedy = f"choose among 0 to {known[-1]}" if known == list(range(len(known))) and known else ""
                listed = ", ".join(map(str, known)) or "no layer"
                reason = "is a layer that neither side has a value for"
                raise IndexscopeError(f"--layer {layer}", reason, remedy or f"there is {listed}")
        frame = frame.filter(pl.col("layer").is_in(list(layers)))
    return frame


def chosen_metrics(names: Sequence[str], held: Collection[str]) -> list[str]:
    """Names, short names and families (by their titles, "Index scores" or "index-scores") as names of metrics.

    Args:
        names: What was asked for.
        held: Metrics that there are.

    Raises:
        IndexscopeError: A name is none of these, or nothing of it is there.
    """
    families = {_plain(family.title): [metric.name for metric in family.metrics] for family in all_families()}
    families["own"] = [name for name in REGISTRY if name not in REGISTRY.built_in]
    return [metric for name in names for metric in _named(name, families, held)]


def _named(name: str, families: Mapping[str, Sequence[str]], held: Collection[str]) -> list[str]:
    if name in held:
        return [name]
    wanted = [ALIASES[name]] if name in ALIASES else families.get(_plain(name), [])
    found = [metric for metric in wanted if metric in held]
    if found:
        return found
    if name in ALIASES or _plain(name) in families:
        raise IndexscopeError(f"--metric {name}", "is in neither report", "leave it out")
    close = difflib.get_close_matches(name, [*held, *families, *ALIASES], 1)
    remedy = f"did you mean {close[0]}?" if close else "choose a metric of docs/metrics.md or one of its families"
    raise IndexscopeError(f"--metric {name}", "is no metric and no family of metrics here", remedy)


def _plain(title: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in title.lower()).split())
