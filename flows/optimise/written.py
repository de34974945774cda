"""What a finished search writes: the study of its finds, the table, the figure, engines' keys, words and provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.optimise.serving import serving
from indexscope.analysis.optimise.tables import FRONT, front_table
from indexscope.analysis.optimise.words import COSTS, UNITS, Found, describe, document, sentence
from indexscope.flows.study.config import Study
from indexscope.storage.store.files import open_store
from indexscope.storage.store.parquet import encode

SEARCH, STUDY, TABLE, FIGURE, SERVING, WORDS = (
    "search.json",
    "optimised.yaml",
    "front.parquet",
    "front.svg",
    "serving.json",
    "optimised.md",
)
FILES = (STUDY, TABLE, FIGURE, SERVING, WORDS, SEARCH)


def finished(folder: Path, fingerprint: str) -> str | None:
    """What a finished search said, if the folder holds one of that fingerprint with all its files."""
    try:
        told = json.loads((folder / SEARCH).read_text(encoding="utf-8"))
        if told["fingerprint"] == fingerprint and all((folder / name).is_file() for name in FILES):
            return str(told["found"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def write(folder: Path, found: Found, study: Study, fingerprint: str, provenance: Mapping[str, Any]) -> None:
    """Write all files, the one that says that it is finished last."""
    from indexscope.analysis.optimise.figures import search_figure
    from indexscope.analysis.plots.sized import as_file

    table = front_table(found.arms, found.tests, found.beside, found.to_dense)
    figure = search_figure(table, found.max_loss, UNITS[found.loss], COSTS[found.cost])
    caption = "Every edit that was run: what it costs and loses. Intervals are of held-out samples."
    holding = [one for one in found.tests if one.holds]
    winner = found.winner
    files = {
        STUDY: study_of(study, found).encode(),
        TABLE: encode(table, FRONT),
        FIGURE: as_file(figure, "svg", sentence(found), caption),
        SERVING: _json(
            {
                name_of(found, one.edit): {"edit": _dumped(one.edit), **serving(found.space, one.edit)}
                for one in reversed(holding)
            }
        ),
        WORDS: document(found).encode(),
        SEARCH: _json(
            {
                "fingerprint": fingerprint,
                "found": sentence(found),
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "winner": None if winner is None else _told(found, winner.edit),
                "tests": [
                    {
                        **_told(found, one.edit),
                        "held_out": vars(one.loss),
                        "by_position": {str(bucket): vars(own) for bucket, own in one.by_position.items()},
                        "holds": one.holds,
                    }
                    for one in found.tests
                ],
                "searches": {
                    name: {
                        "evaluations": round(arm.spent, 3),
                        "edits": len(arm.tried),
                        "best": None if arm.best is None else _told(found, arm.best.edit),
                    }
                    for name, arm in found.arms.items()
                },
                **provenance,
            }
        ),
    }
    target = open_store(folder)
    for name in FILES:
        target.write(name, files[name])


def study_of(study: Study, found: Found) -> str:
    """A study of the baseline and of the edits that hold, the cheapest first; without any, of all that were tested."""
    chosen = [one.edit for one in reversed(found.tests) if one.holds] or [one.edit for one in reversed(found.tests)]
    told = study.model_dump(mode="json", exclude_defaults=True)
    told = {key: value for key, value in told.items() if key not in ("candidates", "gates", "plugins")}
    told["name"] = f"{study.name[:66]}, optimised"
    told["candidates"] = [{"name": name_of(found, edit), "edit": _by_number(edit)} for edit in chosen]
    gate = f"nll.difference <= {found.max_loss:g} on upper"
    if found.loss == "nll" and found.winner is not None and found.max_loss > 0:
        told["gates"] = [gate]
    lines = [
        f"# {sentence(found)}",
        *(f"# {name_of(found, edit)}: {describe(found.space, edit)}" for edit in chosen),
    ]
    head = {key: told.pop(key) for key in ("name", "baseline", "candidates")}
    return "\n".join(lines) + "\n" + _yaml({**head, **told})


def _yaml(told: dict[str, Any]) -> str:
    # Lists and mappings of plain values on one line, as people write them.
    return yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)


def name_of(found: Found, edit: Edit) -> str:
    """What a find is called in the study: by its cost."""
    return f"{found.model[:50]} at {100 * found.cost_of(edit):.1f} % {found.cost}"


def _told(found: Found, edit: Edit) -> dict[str, Any]:
    return {"edit": _dumped(edit), "words": describe(found.space, edit), "cost": found.cost_of(edit)}


def _dumped(edit: Edit) -> dict[str, Any]:
    return edit.model_dump(mode="json", exclude_defaults=True)


def _by_number(edit: Edit) -> dict[str, Any]:
    """An edit as a person would write it, with layers as numbers."""
    return {
        key: {int(name) if name.isdecimal() else name: one for name, one in value.items()}
        if isinstance(value, dict)
        else value
        for key, value in _dumped(edit).items()
    }


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False, default=_plain) + "\n").encode()


def _plain(value: object) -> object:
    return value.to_dicts() if isinstance(value, pl.DataFrame) else str(value)
