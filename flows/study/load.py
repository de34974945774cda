"""Reading a study file: YAML and overrides in, a validated study out, and every mistake as one line."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from indexscope import IndexscopeError
from indexscope.analysis.settings import MARGINS
from indexscope.flows.errors import StudyError
from indexscope.flows.study.config import Candidate, ModelRef, Series, Study, text_at, with_text
from indexscope.flows.study.problems import problems_of
from indexscope.flows.study.study_yaml import LONGEST_STUDY, REMEDY, parse_yaml
from indexscope.foreign import read_file, reading
from indexscope.plugins import read
from indexscope.secrets import refuse_secrets

DEMO = Path(__file__).with_name("demo.yaml")
#: Dots that the key of a --set may have; no setting has more than three.
DEEPEST_KEY = 9
DATA_FILE = re.compile(r"\.(jsonl|ndjson|json|parquet|pq|txt|md|gz|csv)$", re.IGNORECASE)


def load_study(
    path: str | Path | None = None, overrides: Sequence[str] = (), gates: bool = True, members: bool = True
) -> Study:
    """Read and validate a study.

    Relative paths in the file are relative to the file; those of the built-in study, to the working directory.

    Args:
        path: The study file; None is the built-in study.
        overrides: ``key.key=value`` settings that go before the file's; values are YAML.
        gates: Check the gates' rules, for which the study's plug-ins are run.
        members: Look for the members of series, of which there must be one.

    Raises:
        StudyError: All that is wrong, one line each.
        IndexscopeError: The file cannot be read, or is no YAML.
    """
    file = DEMO if path is None else Path(path)
    title = str(path) if path is not None else "built-in study"
    raw = read_settings(file, title)
    if path is not None:
        raw.setdefault("name", file.stem)
    changed = [override(raw, text) for text in overrides]
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        raise StudyError(problems_of(error, title, changed)) from None
    for key, address in {"store": study.store, "report": study.report, "dataset.source": study.dataset.source}.items():
        refuse_secrets(str(address), f"{title}: {key}")
    study = _located(study, Path.cwd() if path is None else file.parent.resolve(), title)
    if study.series and members:
        from indexscope.flows.study.series import with_members

        study = with_members(study, title)
    if gates:
        _check_metrics(study, title)
    return study


def read_settings(file: Path, title: str, example: str = "write one with `indexscope init`") -> dict[str, Any]:
    """Read a YAML file of `key: value` lines.

    Args:
        file: The file.
        title: What messages call it.
        example: Where there is one to begin with.

    Raises:
        IndexscopeError: There is no such file, or it is none.
    """
    remedy = "give a YAML file in UTF-8"
    try:
        data = read_file(file, remedy, title, LONGEST_STUDY, passing=FileNotFoundError, streams=True)
    except FileNotFoundError:
        raise IndexscopeError(title, "there is no such file", example) from None
    with reading(title, remedy):
        text = data.decode("utf-8-sig")
    raw = parse_yaml(text, title)
    if raw is None:
        raise IndexscopeError(title, "is empty", REMEDY)
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise IndexscopeError(title, "is not a list of `key: value` lines", REMEDY)
    return raw


def override(raw: dict[str, Any], text: str) -> str:
    """Put one ``a.b=c`` into what a file holds, and return its dotted key."""
    key, equals, value = text.partition("=")
    key = key.strip()
    where = f"--set {text}"
    if not equals or not all(key.split(".")) or key.count(".") > DEEPEST_KEY:
        raise IndexscopeError(where, "is not key=value", "write for example --set extract.chunk=128")
    try:
        parsed = parse_yaml(value, where)
    except IndexscopeError as error:
        raise IndexscopeError(where, f"has a value that {error.reason}", "quote the value") from None
    *parents, last = key.split(".")
    inside: Any = raw
    for parent in parents:
        child = inside[_index(inside, parent, where)] if _holds(inside, parent) else None
        if isinstance(child, str) and last in Candidate.model_fields and last != "rule":
            child = {"path": child}
        if child is None:
            child = {}
        if not isinstance(child, (dict, list)):
            raise IndexscopeError(where, f"{parent!r} holds a value, not keys", "check the key's place")
        inside[_index(inside, parent, where)] = child
        inside = child
    inside[_index(inside, last, where)] = parsed
    return key


def _holds(container: Any, part: str) -> bool:
    if isinstance(container, list):
        # Not by int(): Python refuses to read one of thousands of digits.
        return part in map(str, range(len(container)))
    return part in container


def _index(container: Any, part: str, where: str) -> int | str:
    if not isinstance(container, list):
        return part
    if not _holds(container, part):
        remedy = f"use a number below {len(container)}" if container else "put it into the study file"
        raise IndexscopeError(where, f"there is no entry {part!r}", remedy)
    return int(part)


@dataclass(frozen=True)
class Place:
    """Where a file's relative paths start."""

    folder: Path
    title: str

    def source(self, text: str, key: str, problems: list[IndexscopeError], what: str) -> str:
        """An existing local path as an absolute one; names of other kinds, and no name, as they are."""
        if not text or "://" in text or text.startswith("builtin:"):
            return text
        path = self.folder / os.path.expanduser(text)
        if os.path.exists(path):  # False where a text is no possible path; pathlib would raise
            return str(path)
        if text.startswith((".", "/", "~")) or "\\" in text or text.count("/") > 1 or DATA_FILE.search(text):
            problems.append(self._missing(path, key, what))
        return text

    def file(self, text: str, key: str, problems: list[IndexscopeError]) -> str:
        """An existing local file or folder as an absolute path."""
        path = self.folder / os.path.expanduser(text)
        if "://" in text:
            problems.append(
                IndexscopeError(f"{self.title}: {key}", f"{text} is an address", "give a local file or folder")
            )
        elif text and not os.path.exists(path):
            problems.append(self._missing(path, key, "file"))
        return str(path) if text else ""

    def _missing(self, path: Path, key: str, what: str) -> IndexscopeError:
        close = difflib.get_close_matches(path.name, _listing(path.parent), 1) if len(path.name) < 256 else []
        remedy = f"did you mean {close[0]!r}?" if close else f"give a {what} that exists"
        return IndexscopeError(f"{self.title}: {key}", f"there is no {path}", remedy)

    def target(self, text: str) -> str:
        """A folder that need not exist, as an absolute path; an address as it is."""
        return text if "://" in text else str(self.folder / os.path.expanduser(text))


def _located(study: Study, folder: Path, title: str) -> Study:
    place, problems = Place(folder, title), list[IndexscopeError]()
    keys = ["baseline", *(f"candidates.{number}" for number in range(len(study.candidates)))]
    models = [
        model.model_copy(update=_found(model, key, place, problems))
        for model, key in zip(study.models, keys, strict=True)
    ]
    series = tuple(_of_series(one, f"series.{number}", place, problems) for number, one in enumerate(study.series))
    source = place.source(study.dataset.source, "dataset.source", problems, "file, folder or hub name")
    hay = place.source(study.dataset.needle.haystack, "dataset.needle.haystack", problems, "file or folder of text")
    needle = study.dataset.needle.model_copy(update={"haystack": hay})
    if problems:
        raise StudyError(problems)
    return study.model_copy(
        update={
            "baseline": models[0],
            "candidates": tuple(models[1:]),
            "series": series,
            "dataset": study.dataset.model_copy(update={"source": source, "needle": needle}),
            "plugins": tuple(str(folder / os.path.expanduser(file)) for file in study.plugins),
            "store": place.target(study.store),
            "report": place.target(study.report),
        }
    )


def _found(model: ModelRef, key: str, place: Place, problems: list[IndexscopeError]) -> dict[str, object]:
    """Where a model's files are."""
    file, _, function = model.loader.rpartition(":")
    edit = model.edit
    if edit is not None and edit.of:
        of = place.source(edit.of, f"{key}.edit.of", problems, "checkpoint folder or hub name")
        edit = edit.model_copy(update={"of": of})
    return {
        "edit": edit,
        "indexer": place.file(model.indexer, f"{key}.indexer", problems),
        "path": place.source(model.path, f"{key}.path", problems, "checkpoint folder or hub name"),
        "tokenizer": place.source(model.tokenizer, f"{key}.tokenizer", problems, "folder or hub name"),
        "loader": f"{place.file(file, f'{key}.loader', problems)}:{function}" if model.loader else "",
        "root": place.file(model.root or ".", f"{key}.root", problems) if model.loader else "",
        "weights": place.file(model.weights, f"{key}.weights", problems),
        "selections": place.file(model.selections, f"{key}.selections", problems),
    }


def _of_series(series: Series, key: str, place: Place, problems: list[IndexscopeError]) -> Series:
    """Where the models of a series are; what has the ``*`` is looked for later."""
    models = series.models
    if models is None:
        return series
    starred = series.starred
    pattern = str(place.folder / os.path.expanduser(text_at(models, starred)))
    if starred == "edit.of":
        assert models.edit is not None
        without = models.model_copy(update={"edit": models.edit.model_copy(update={"of": ""})})
    else:
        without = models.model_copy(update={starred: ""})
    found = models.model_copy(update=_found(without, f"{key}.models", place, problems))
    return series.model_copy(update={"models": with_text(found, starred, pattern)})


def _listing(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (OSError, ValueError):  # only for a proposal
        return []


def _check_metrics(study: Study, title: str) -> None:
    """Refuse gates and margins of metrics that there are not."""
    margins = [name for name in study.comparison.margins if name not in MARGINS]
    if not study.gates and not margins:
        return
    from indexscope.analysis.comparison.gates import known_metric  # here, so that a plain study is read without polars
    from indexscope.tasks.common.plugins import with_plugins

    problems = []

    def check(where: str, judge: Callable[[str], object], text: str) -> None:
        try:
            judge(text)
        except IndexscopeError as error:
            problems.append(IndexscopeError(f"{title}: {where}: {error.where}", error.reason, error.remedy))

    with with_plugins([read(file) for file in study.plugins]):
        for number, gate in enumerate(study.gates):
            check(f"gates.{number}", _known_gate(study), gate.rule)
        for name in margins:
            check(f"comparison.margins.{name}", known_metric, name)
    if problems:
        raise StudyError(problems)


def _known_gate(study: Study) -> Callable[[str], object]:
    """What parses the gates of a study: a change is known of a series alone, and a length where it is asked for."""
    from indexscope.analysis.comparison.gates import parse_gate
    from indexscope.analysis.metrics.registry import REGISTRY

    def parsed(rule: str) -> object:
        gate = parse_gate(rule)
        if (
            gate.length is not None
            and not REGISTRY[gate.metric].per_length
            and gate.length not in (study.lengths or ())
        ):
            reason = f"{gate.metric} is not measured at length {gate.length}"
            raise IndexscopeError(f"rule '{rule}'", reason, f"add {gate.length} to the study's lengths")
        if gate.over is not None and not (study.series or any(one.series for one in study.candidates)):
            raise IndexscopeError(
                f"rule '{rule}'", "a change is that of a series, and the study has none", "add a series"
            )
        return gate

    return parsed
