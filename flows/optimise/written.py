"""What a finished search writes: table, figure, engines' keys, words and provenance; and a study of everything."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.optimise.serving import serving
from indexscope.analysis.optimise.tables import FRONT, front_table
from indexscope.analysis.optimise.words import COSTS, UNITS, Found, describe, document, sentence
from indexscope.flows.optimise.settings import Asked
from indexscope.flows.study.config import ModelRef, Study
from indexscope.foreign import parse_json, read_file, reading
from indexscope.storage.inputs.samples import Sample, as_rows
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
DATA = "held_out.jsonl"
FILES = (TABLE, FIGURE, SERVING, WORDS, SEARCH)


def finished(folder: Path, fingerprint: str) -> str | None:
    """What a finished search said, if the folder holds one of that fingerprint with all its files."""
    try:
        told = json.loads((folder / SEARCH).read_text(encoding="utf-8"))
        if told["fingerprint"] == fingerprint and all((folder / name).is_file() for name in FILES):
            return str(told["found"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def write(folder: Path, found: Found, fingerprint: str, provenance: Mapping[str, Any]) -> None:
    """Write all files, the one that says that it is finished last."""
    from indexscope.analysis.optimise.figures import search_figure
    from indexscope.analysis.plots.sized import as_file

    table = front_table(found.arms, found.tests, found.beside, found.to_dense)
    figure = search_figure(table, found.max_loss, UNITS[found.loss], COSTS[found.cost])
    caption = "Every edit that was run: what it costs and loses. Intervals are of held-out samples."
    holding = [one for one in found.tests if one.holds]
    winner = found.winner
    files = {
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
                        "name": name_of(found, one.edit),
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


@dataclass(frozen=True)
class Find:
    """An edit that a finished search found.

    Attributes:
        name: What a study calls it.
        edit: The edit as a study file has it.
        words: What it changes.
        holds: Whether it was shown on held-out samples to be within the bound.
    """

    name: str
    edit: dict[str, Any]
    words: str
    holds: bool


@dataclass(frozen=True)
class Finds:
    """What a finished search has for a study.

    Attributes:
        sentence: What was found.
        asked: What was looked for.
        edits: Those that hold, the cheapest first; where none does, all that were tested.
    """

    sentence: str
    asked: Asked
    edits: tuple[Find, ...]


def finds_in(folder: Path) -> Finds:
    """Read what a finished search found.

    Raises:
        IndexscopeError: The folder holds none.
    """
    remedy = "remove the folder and search again"
    told = parse_json(read_file(folder / SEARCH, remedy), folder / SEARCH, remedy)
    with reading(folder / SEARCH, remedy):
        edits = [
            Find(one["name"], _by_number(one["edit"]), one["words"], one["holds"]) for one in reversed(told["tests"])
        ]
        asked = Asked.model_validate(told["asked"])
        return Finds(told["found"], asked, tuple([one for one in edits if one.holds] or edits))


def candidates_of(finds: Finds, searched: ModelRef, baseline: ModelRef, taken: Iterable[str]) -> list[dict[str, Any]]:
    """Finds as candidates of a study.

    Args:
        finds: The finds.
        searched: The model that was edited.
        baseline: The study's, which an edit that names no other model is of.
        taken: Names that other models of the study have.
    """
    names, found = set(taken), list[dict[str, Any]]()
    for one in finds.edits:
        name = next(name for name in _names(one.name) if name not in names)
        names.add(name)
        if searched.indexer:
            under = searched.model_dump(mode="json", include={"path", "indexer", "topk"}, exclude_none=True)
            found.append({"name": name, **under, "edit": one.edit})
        elif searched == baseline:
            found.append({"name": name, "edit": one.edit})
        else:
            found.append({"name": name, "edit": {"of": searched.path, **one.edit}})
    return found


def _names(name: str) -> Iterator[str]:
    """A name, and what takes its place where it is taken."""
    yield name
    yield from (f"{name[:74]} ({number})" for number in count(2))


def write_study(folder: Path, study: Study, model: str, held_out: Sequence[Sample]) -> None:
    """Write a study of everything in one: the models of a study and the finds, on the samples that no search saw.

    Dumps of selections are left out: they are of all samples.

    Args:
        folder: Of a finished search; the study and its samples go there.
        study: The study that was searched.
        model: Which of its models was; "" is the baseline.
        held_out: The samples.
    """
    finds = finds_in(folder)
    searched = next(one for one in study.models if one.name == (model or study.baseline.name))
    told = study.model_dump(mode="json", exclude_defaults=True)
    told = {key: value for key, value in told.items() if key not in ("candidates", "gates", "plugins", "dataset")}
    kept = [
        _as_written(one.model_dump(mode="json", exclude_defaults=True))
        for one in study.candidates
        if not one.selections
    ]
    found = candidates_of(finds, searched, study.baseline, [one.name for one in study.models])
    told["name"] = f"{study.name[:66]}, optimised"
    told["candidates"] = [*kept, *found]
    longest = max(len(sample.input_ids) for sample in held_out)
    told["dataset"] = {"source": DATA, "column": "input_ids", "max_length": longest, "samples": None}
    if not kept and finds.asked.loss == "nll" and finds.edits[:1] and finds.edits[0].holds and finds.asked.max_loss > 0:
        told["gates"] = [f"nll.difference <= {finds.asked.max_loss:g} on upper"]
    lines = [f"# {finds.sentence}", *comments(finds, found)]
    head = {key: told.pop(key) for key in ("name", "baseline", "candidates", "dataset")}
    target = open_store(folder)
    target.write(DATA, as_rows(held_out))
    target.write(STUDY, ("\n".join(lines) + "\n" + _yaml({**head, **told})).encode())


def comments(finds: Finds, candidates: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each of the finds changes, as comments of a study file."""
    return [f"# {one['name']}: {find.words}" for one, find in zip(candidates, finds.edits, strict=True)]


def _as_written(model: dict[str, Any]) -> dict[str, Any]:
    """A candidate with its name first and layers of its edit as numbers."""
    edit = {"edit": _by_number(model["edit"])} if model.get("edit") else {}
    return {"name": model["name"], **model, **edit}


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


def _by_number(edit: dict[str, Any]) -> dict[str, Any]:
    """An edit as a person would write it, with layers as numbers."""
    return {
        key: {int(name) if name.isdecimal() else name: one for name, one in value.items()}
        if isinstance(value, dict) and key != "selector"
        else value
        for key, value in edit.items()
    }


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False, default=_plain) + "\n").encode()


def _plain(value: object) -> object:
    return value.to_dicts() if isinstance(value, pl.DataFrame) else str(value)
