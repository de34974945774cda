"""The sides of a difference: a report, a store or a study file, on a disk or at a URL. No code of a user's is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexscope import IndexscopeError
from indexscope.storage.export import choose_study
from indexscope.storage.keys import StepKey, key_at
from indexscope.storage.reports import REPORT, parse_report, read_report
from indexscope.storage.store import Store
from indexscope.storage.studies import StudyRecord, read_records, record_files
from indexscope.tasks.common.registry import STEPS, made_by
from indexscope.tasks.common.results import RESULT, StoredModels

if TYPE_CHECKING:
    import polars as pl

REMEDY = "give a report's folder, a store or a study file"


@dataclass(frozen=True)
class Side:
    """One side of a difference.

    Attributes:
        source: What the user called it.
        report: The content of its report.json.
        models: What a comparison reads of each model, read when it is asked for; None where only a report is at hand.
        lacking: Why there is no `models`.
    """

    source: str
    report: Mapping[str, Any]
    models: Mapping[str, Mapping[str, pl.DataFrame]] | None = None
    lacking: str = ""


def read_sides(a: str, b: str | None, studies: Sequence[str]) -> tuple[Side, Side]:
    """Read both sides; without a second one, both are the first.

    Args:
        a: What `read_side` takes.
        b: The same, or None.
        studies: No name; one, for every store; or one for each side.

    Raises:
        IndexscopeError: A side cannot be read, or the names do not fit the sides.
    """
    sources = [a] if b is None else [a, b]
    if len(studies) > len(sources):
        raise IndexscopeError(f"--study {studies[-1]}", "is one name too many", "give one for each store")
    if len(studies) == len(sources):
        names: list[str | None] = [*studies]
    else:
        names = [studies[0] if studies and is_store(source) else None for source in sources]
        if studies and not any(names):
            raise IndexscopeError(f"--study {studies[0]}", "neither side is a store", "leave --study out")
    sides = [read_side(source, name) for source, name in zip(sources, names, strict=True)]
    return sides[0], sides[-1]


def is_store(source: str) -> bool:
    """Whether a side is to be read as a store."""
    return not source.endswith((".json", ".yaml", ".yml")) and not Store(source).folder.exists(REPORT)


def read_side(source: str, study: str | None = None) -> Side:
    """Read a side.

    Args:
        source: Report folder, report (ending in .json), store or study file; a local path or a URL.
        study: Which study of a store, by name or identity.

    Raises:
        IndexscopeError: There is nothing that can be read, or a store holds several studies and none is named.
    """
    if Path(source).suffix in (".yaml", ".yml"):
        return _of_study(source, study)
    if not is_store(source):
        return _of_report(source, study)
    store = Store(source)
    if record_files(store):
        return _of_store(source, store, choose_study(store, study, finished=True))
    if store.folder.sizes():
        raise IndexscopeError(source, f"holds no {REPORT} and no finished study", REMEDY)
    raise IndexscopeError(source, "is no report, no store and no study file", REMEDY)


def _of_report(source: str, study: str | None) -> Side:
    if study is not None:
        raise IndexscopeError(f"--study {study}", f"{source} is a report, not a store", "leave --study out")
    return Side(source, read_report(source), lacking="is a report, which holds no values by sample")


def _of_study(source: str, name: str | None) -> Side:
    """A study's newest finished run in its store; the report that was written, where the store has none."""
    from indexscope.flows.config import identity_of
    from indexscope.flows.load import load_study

    study = load_study(source, gates=False)
    if name not in (None, study.name):
        raise IndexscopeError(f"--study {name}", f"{source} is the study {study.name}", "leave --study out")
    store = Store(study.store)
    finished = [record for record in read_records(store) if record.complete]
    for known in (identity_of(study), study.name):  # a folder that was copied has another identity
        if any(known in (record.identity, record.study) for record in finished):
            return _of_store(source, store, choose_study(store, known, finished=True))
    folder = f"{study.report.rstrip('/')}/{study.slug}"
    return Side(source, read_report(folder), lacking="has no finished run in its store, only a report")


def _of_store(source: str, store: Store, record: StudyRecord) -> Side:
    paths = [path for path in record.steps if path.startswith("reports/")]
    if not paths:
        raise IndexscopeError(source, f"has no report of {record.study}", "run the study to its end")
    key = key_at(paths[0])
    files = store.read(key, "files", [RESULT])
    texts = dict(files.select("name", "content").iter_rows())
    report = parse_report(texts.get(REPORT, ""), f"{source} ({record.study})")
    models = _models(store, key)
    gone = [] if models is None else [path for own in models.values() for path in _gone(store, own)]
    if models is None or gone:
        return Side(source, report, lacking=f"no longer has {gone[0] if gone else 'a list of its analyses'}")
    return Side(source, report, StoredModels(store, models))


def _models(store: Store, key: StepKey) -> dict[str, dict[str, StepKey]] | None:
    """The analyses of each model of a report, as its manifest lists them."""
    manifest = store.manifest(key)
    listed = None if manifest is None else manifest.inputs.get("models")
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        return None
    analyses = made_by("analyze")
    return {
        str(entry["name"]): {
            name: StepKey(STEPS[name].kind, str(digest), {}) for name, digest in entry.items() if name in analyses
        }
        for entry in listed
        if isinstance(entry, dict)
    }


def _gone(store: Store, keys: Mapping[str, StepKey]) -> list[str]:
    return [key.path for key in keys.values() if store.unit_status(key, RESULT) == "missing"]
