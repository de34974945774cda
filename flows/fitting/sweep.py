"""The study that a fit ends in: the model, all that was fitted to it, finds and bounds, on the held-out text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from indexscope import IndexscopeError
from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.fitting.settings import IndexerSize
from indexscope.flows.fitting.plan import FitPlan
from indexscope.flows.optimise.written import DATA, Finds, candidates_of, comments
from indexscope.flows.study.config import ModelRef
from indexscope.storage.inputs.samples import as_rows
from indexscope.storage.store.files import open_store
from indexscope.tasks.common.fitting import middle

STUDY, CALIBRATION = "study.yaml", "calibration.jsonl"
#: First keys that the window keeps, if it is wide enough.
SINKS = 4
HEAD = """\
# What was fitted, against the model itself and the best and the plainest choices of as many keys, on held-out text:
#   indexscope study {study}
"""


def write_texts(plan: FitPlan) -> None:
    """Write what is measured, and what searches see, beside the fitted indexers."""
    _write(plan, DATA, as_rows(plan.held_out))
    if plan.calibration:
        _write(plan, CALIBRATION, as_rows(plan.calibration))


def write_sweep(plan: FitPlan, finds: Mapping[str, Finds]) -> bool:
    """Write the study of a finished fit.

    Args:
        plan: The fit.
        finds: What searches found, by the name of the indexer that they edit.

    Returns:
        Whether it was not there already.
    """
    return _write(plan, STUDY, _study(plan, finds).encode())


def _write(plan: FitPlan, name: str, content: bytes) -> bool:
    path = plan.out / name
    if path.is_file() and path.read_bytes() == content:
        return False
    open_store(plan.out).write(name, content)
    return True


def dataset(plan: FitPlan) -> dict[str, Any]:
    """The held-out text as a study in the folder of the fit names it."""
    return {"source": DATA, "column": "input_ids", "max_length": plan.fit.length, "samples": None}


def candidate(plan: FitPlan, size: str, k: int) -> dict[str, Any]:
    """An indexer with a number of keys, as a model of the study."""
    name = f"{size} k{k}" if len(plan.fit.topk) > 1 else size
    return {"name": name, "path": str(plan.folder), "indexer": size, "topk": k}


def _study(plan: FitPlan, finds: Mapping[str, Finds]) -> str:
    base = {"name": "dense" if plan.info.index_topk is None else "model", "path": str(plan.folder)}
    fitted, found, told = list(_fitted(plan)), list[dict[str, Any]](), list[str]()
    for size, one in finds.items():
        k = middle(plan.fit.topk)
        searched = ModelRef.model_validate(candidate(plan, size, k))
        taken = [each["name"] for each in (*fitted, *found)]
        own = candidates_of(one, searched, ModelRef.model_validate(base), taken)
        told += [f"# {one.sentence}", *comments(one, own)]
        found += own
    study = {
        "name": f"indexers for {plan.folder.name}",
        "baseline": base,
        "candidates": [*fitted, *found, *_bounds(plan)],
        "dataset": dataset(plan),
    }
    text = HEAD.format(study=plan.out / STUDY) + "".join(f"{line}\n" for line in told)
    return text + yaml.safe_dump(study, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)


def _fitted(plan: FitPlan) -> Iterator[dict[str, Any]]:
    for size in plan.fit.indexers:
        shared = _shared(plan, size)
        for k in plan.fit.topk:
            one = candidate(plan, size.name, k)
            for period in plan.fit.share:
                if period == 1:
                    yield one
                elif period in shared:
                    name = f"{one['name']} every {ordinal(period)}"
                    yield {**one, "name": name, "edit": {"share": shared[period]}}


def _shared(plan: FitPlan, size: IndexerSize) -> dict[int, str]:
    """Letters of `share`, by layers from one that selects to the next, where that leaves any to share."""
    from indexscope.analysis.edits.places import places_of
    from indexscope.storage.inputs.fitted import describe_fitted
    from indexscope.storage.inputs.model_skeleton import load_skeleton

    periods = [period for period in plan.fit.share if period > 1]
    if not periods:
        return {}
    model, fitted = load_skeleton(plan.folder), describe_fitted(plan.out / size.name).layers
    layers = [layer for layer in places_of(model) if layer in fitted]
    depth = int(model.config.get_text_config(decoder=True).num_hidden_layers)
    found = {period: spaced(depth, layers, period) for period in periods}
    return {period: letters for period, letters in found.items() if "S" in letters}


def spaced(depth: int, layers: Sequence[int], period: int) -> str:
    """Letters of `share` where one layer of so many selects.

    >>> spaced(6, [0, 1, 3, 4, 5], 2)
    'FSFFSF'
    """
    shared = {layer for place, layer in enumerate(layers) if place % period}
    return "".join("S" if layer in shared else "F" for layer in range(depth))


def ordinal(number: int) -> str:
    """A number as a place in an order.

    >>> [ordinal(number) for number in (2, 3, 4, 11, 22)]
    ['2nd', '3rd', '4th', '11th', '22nd']
    """
    last = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{last}"


def _bounds(plan: FitPlan) -> Iterator[dict[str, Any]]:
    """The best choice of every number of keys, and the plainest ones of the middle one, where the model takes them."""
    from indexscope.analysis.edits.check import check_edit
    from indexscope.analysis.edits.places import places_of
    from indexscope.storage.inputs.model_skeleton import load_skeleton

    k = middle(plan.fit.topk)
    sinks = min(SINKS, k // 4)
    edits = {
        **{f"oracle k{each}": {"selector": "oracle", "topk": each} for each in plan.fit.topk},
        f"window k{k}": {"selector": {"recent": {"window": k - sinks, "sink": sinks}}},
        f"random k{k}": {"selector": "random", "topk": k},
    }
    skeleton = load_skeleton(plan.folder)
    for name, edit in edits.items():
        try:
            check_edit(skeleton, places_of(skeleton), Edit.model_validate(edit))
        except IndexscopeError:
            continue
        yield {"name": name, "edit": edit}
