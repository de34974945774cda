"""The study that a fit ends in: the model, all that was fitted to it, and what bounds them, on the held-out text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml

from indexscope import IndexscopeError
from indexscope.analysis.edits.edit import Edit
from indexscope.flows.fitting.plan import FitPlan
from indexscope.storage.store.files import open_store
from indexscope.tasks.common.fitting import middle

STUDY, DATA = "study.yaml", "held_out.jsonl"
#: First keys that the window keeps, if it is wide enough.
SINKS = 4
HEAD = """\
# What was fitted, against the model itself and the best and the plainest choices of as many keys, on held-out text:
#   indexscope study {study}
"""


def write_sweep(plan: FitPlan) -> str:
    """Write the study and its data beside the fitted indexers; returns the study's path."""
    out = open_store(plan.out)
    lines = (json.dumps({"input_ids": list(sample.input_ids)}) + "\n" for sample in plan.held_out)
    out.write(DATA, "".join(lines).encode())
    path = str(plan.out / STUDY)
    study = {
        "name": f"indexers for {plan.folder.name}",
        "baseline": {"name": "model", "path": str(plan.folder)},
        "candidates": [*_fitted(plan), *_bounds(plan)],
        "dataset": {"source": DATA, "column": "input_ids", "max_length": plan.fit.length, "samples": None},
    }
    text = HEAD.format(study=path) + yaml.safe_dump(study, sort_keys=False, default_flow_style=None, width=110)
    out.write(STUDY, text.encode())
    return path


def _fitted(plan: FitPlan) -> Iterator[dict[str, Any]]:
    for size in plan.fit.indexers:
        for k in plan.fit.topk:
            name = f"{size.name} k{k}" if len(plan.fit.topk) > 1 else size.name
            yield {"name": name, "path": str(plan.folder), "indexer": size.name, "topk": k}


def _bounds(plan: FitPlan) -> Iterator[dict[str, Any]]:
    """Selectors of the middle number of keys, where the model takes them."""
    from indexscope.analysis.edits.check import check_edit
    from indexscope.analysis.edits.places import places_of
    from indexscope.storage.inputs.model_skeleton import load_skeleton

    k = middle(plan.fit.topk)
    sinks = min(SINKS, k // 4)
    edits = {
        f"oracle k{k}": {"selector": "oracle", "topk": k},
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
