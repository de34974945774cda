"""What each model of a sweep is: dense, a bound that no indexer passes, or which fitted indexer, as it is or edited."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

from indexscope.analysis.report.inputs import ModelPage, ReportInput, once

Group = Literal["dense", "oracle", "fitted", "other"]
#: Fitted indexers that make a sweep.
FEWEST = 2


@dataclass(frozen=True)
class Kind:
    """What a model of a sweep is.

    Attributes:
        group: dense: without an indexer. oracle: the best choice of k keys. fitted: under a fitted indexer. other: all
            else.
        size: Of a fitted indexer, its name.
        change: How it differs from the indexer as it was fitted, in words; "" where it does not.
        topk: Keys of a query, where every layer selects as many.
    """

    group: Group
    size: str = ""
    change: str = ""
    topk: int | None = None


@once
def kinds(report: ReportInput) -> dict[str, Kind]:
    """The kind of every model that was run, by its name; empty where the study is no sweep of fitted indexers."""
    settings = report.provenance.get("settings") or {}
    listed = [settings.get("baseline"), *(settings.get("candidates") or ())]
    told = {one["name"]: one for one in listed if isinstance(one, Mapping) and "name" in one}
    found = {page.name: _kind(page, told.get(page.name, {})) for page in report.measured}
    return found if sum(kind.group == "fitted" for kind in found.values()) >= FEWEST else {}


def _kind(page: ModelPage, told: Mapping[str, Any]) -> Kind:
    edit = told.get("edit") or {}
    topk = None if len(edit.get("topk") or {}) > 1 else page.facts.get("index_topk")
    selector = next((name for name, value in (edit.get("selector") or {}).items() if value is not None), "learned")
    if selector == "oracle":
        return Kind("oracle", topk=topk)
    if told.get("indexer") and selector == "learned":
        return Kind("fitted", PurePath(told["indexer"]).name, _change(edit), topk)
    return Kind("other" if edit or page.has_indexer else "dense", topk=topk)


def _change(edit: Mapping[str, Any]) -> str:
    share = edit.get("share") or ""
    if any(edit.get(key) for key in ("indexer_heads", "topk", "precision")):
        return "edited"
    return f"{share.count('F')} of {len(share)} layers select" if share else ""
