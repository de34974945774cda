"""The commented study file that ``indexscope init`` writes: every key with its meaning and its default."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from indexscope.flows.study.config import Study
from indexscope.flows.study.problems import submodel

WIDTH = 110
HEAD = """\
# A study: how do candidate indexers compare with a baseline, over a dataset?
#   indexscope study THIS_FILE --dry-run    shows what would run and what the store already holds
#   indexscope study THIS_FILE              runs it; the last line printed is the report's folder
# Paths are relative to this file. Every key but baseline may be left out; the values below are the defaults,
# except name, candidates and gates, which are examples. Single values can be set for one run: --set extract.chunk=128
"""
#: Keys whose example says more than their default would.
EXAMPLES = {
    "name": ["name: my study"],
    "baseline": ["baseline: builtin:baseline"],
    "candidates": ["candidates:", "  - path: builtin:light", "    name: light"],
    "series": ["series: []"],
    "gates": [
        "gates:",
        "  - name: recall is kept",
        "    rule: selection_recall.difference >= -0.05",
        "  - name: quality is kept",
        "    rule: nll.difference <= 0.05",
    ],
}


def study_template() -> str:
    """A study file that validates and runs as it stands."""
    return "\n".join([HEAD, *_section(Study, "", EXAMPLES)]) + "\n"


def _section(model: type[BaseModel], indent: str, examples: dict[str, list[str]]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield from textwrap.wrap(
            field.description or name,
            WIDTH - len(indent),
            initial_indent=f"{indent}# ",
            subsequent_indent=f"{indent}# ",
        )
        inner = submodel(field)
        if name in examples:
            yield from (f"{indent}{line}" for line in examples[name])
        elif inner is not None:
            yield f"{indent}{name}:"
            yield from _section(inner, f"{indent}  ", {})
        else:
            yield f"{indent}{name}: {_value(field)}"
        if not indent:
            yield ""


def _value(field: FieldInfo) -> str:
    default: Any = field.get_default(call_default_factory=True)
    # JSON is YAML, and unlike a YAML writer it keeps a list on one line.
    return str(default) if isinstance(default, str) else json.dumps(default)
