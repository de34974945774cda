"""The members of a study's series: found by name, ordered by the number in it, complete or left for the next run."""

from __future__ import annotations

import glob
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from indexscope import IndexscopeError
from indexscope.analysis.series.course import Course, Member
from indexscope.flows.study.config import Candidate, Series, Study, text_at, with_text
from indexscope.storage.inputs.complete import unfinished

#: A number of a name, and what would make another number of it: 10k, 1e3.
NUMBER = re.compile(r"\d+(?:\.\d+)?")
_LARGER = re.compile(r"[kKmMgGbBeE](?![^\W\d_])")
_GIVE = "name the members by plain numbers, such as runs/step-1000"


@dataclass(frozen=True)
class Found:
    """What matches a series' models.

    Attributes:
        series: The series.
        path: A folder or file.
        at: Its number.
    """

    series: Series
    path: str
    at: float

    @cached_property
    def model(self) -> Candidate:
        """The candidate that it is."""
        models, name = self.series.models, self.series.name
        assert models is not None
        told = with_text(models, self.series.starred, self.path).model_dump(exclude_defaults=True)
        return Candidate.model_validate({**told, "name": called(name, self.at), "series": name, "at": self.at})

    @cached_property
    def problem(self) -> str:
        """Why it is not to be taken yet; "" where it is complete."""
        kind = {"indexer": "indexer", "weights": "any"}.get(self.series.starred, "checkpoint")
        return unfinished(self.path, kind, self.series.settled_for, time.time())  # type: ignore[arg-type]


def called(series: str, at: float) -> str:
    """What a member is called.

    >>> called("warm-up", 2000.0), called("warm-up", 0.5)
    ('warm-up 2000', 'warm-up 0.5')
    """
    number = f"{at:.15g}"
    return f"{series[: 79 - len(number)]} {number}"


def with_members(study: Study, title: str) -> Study:
    """The study with the complete members of its series among the candidates, in the order of their steps.

    Args:
        study: With absolute paths.
        title: What messages call its file.

    Raises:
        IndexscopeError: As of `complete`.
    """
    members = [one.model for one in complete(study, title)]
    return study.model_copy(update={"candidates": (*study.candidates, *members)}) if members else study


def complete(study: Study, title: str) -> list[Found]:
    """The complete members that patterns of series find, in the order of their steps.

    Args:
        study: With absolute paths, without these members.
        title: What messages call its file.

    Raises:
        IndexscopeError: Nothing matches a series, or a name has no number, several, or another's.
    """
    members: list[Found] = []
    for number, series in enumerate(study.series):
        where = f"{title}: series.{number}.models"
        if series.models is None:
            if not any(model.series == series.name for model in study.candidates):
                remedy = "add models, such as runs/step-*, or candidates with series and at"
                raise IndexscopeError(f"{title}: series.{number}", f"{series.name!r} has no member", remedy)
            continue
        found = matching(series, where)
        whole = [one for one in found if not one.problem]
        if not whole:
            reason = f"{text_at(series.models, series.starred)} matches nothing that is complete"
            first = f"{os.path.basename(found[0].path)} {found[0].problem}"
            raise IndexscopeError(where, f"{reason} ({first})", "run the study when a member is written")
        members += whole
    _refuse_taken(study, [one.model for one in members], title)
    return members


def _refuse_taken(study: Study, members: Sequence[Candidate], title: str) -> None:
    """Refuse a member that is called as another model, or stands where a candidate of the file does."""
    names = {model.name for model in study.models}
    places = {(model.series, model.at): model.name for model in study.candidates if model.series}
    for member in members:
        if member.name in names:
            remedy = "give the model or the series another name"
            raise IndexscopeError(title, f"uses the name {member.name!r} for a model and a member of a series", remedy)
        if (member.series, member.at) in places:
            reason = f"has {places[member.series, member.at]!r} where the series {member.series!r} has a member already"
            raise IndexscopeError(title, reason, "give the candidate a step of its own")


def matching(series: Series, where: str) -> list[Found]:
    """All that matches a series' models, complete or not, in the order of their numbers.

    Raises:
        IndexscopeError: Nothing matches, or a name has no number, several, or another's.
    """
    assert series.models is not None
    pattern = text_at(series.models, series.starred)
    paths = sorted(glob.glob(pattern))
    if not paths:
        raise IndexscopeError(
            where, f"nothing matches {pattern}", "correct the path, or run the study once there is one"
        )
    found: dict[float, Found] = {}
    for path in paths:
        at = _number(path, pattern, series.axis, where)
        if at in found:
            both = f"{os.path.basename(found[at].path)!r} and {os.path.basename(path)!r} are both at {at:.15g}"
            raise IndexscopeError(where, f"two members of {series.name!r}, {both}", _GIVE)
        found[at] = Found(series, path, at)
    return [found[at] for at in sorted(found)]


def _number(path: str, pattern: str, axis: str, where: str) -> float:
    """The number in those parts of a path that the pattern leaves open."""
    parts = zip(path.split(os.sep)[::-1], pattern.split(os.sep)[::-1], strict=False)
    name = os.sep.join([part for part, wanted in parts if glob.has_magic(wanted)][::-1])
    after = re.findall(rf"(?i){re.escape(axis)}[-_= ]*({NUMBER.pattern})", name)
    numbers = after or NUMBER.findall(name)
    if not numbers:
        raise IndexscopeError(where, f"{name!r} has no number", _GIVE)
    if len(numbers) > 1:
        listed = ", ".join(numbers[:4])
        remedy = f"write the {axis} as {axis}-{numbers[-1]}, or set series.axis to the word before the number"
        raise IndexscopeError(where, f"{name!r} has several numbers ({listed})", remedy)
    end = name.rindex(numbers[0]) + len(numbers[0])
    if _LARGER.match(name, end):
        raise IndexscopeError(
            where, f"{name!r} has a number with a letter, {name[end - len(numbers[0]) : end + 1]}", _GIVE
        )
    return float(numbers[0])


def waiting(study: Study) -> Iterator[tuple[Found, str]]:
    """The members that are left out, since they are not complete yet, and why."""
    taken = {model.name for model in study.candidates}
    for number, series in enumerate(study.series):
        if series.models is not None:
            for one in matching(series, f"series.{number}.models"):
                if one.model.name not in taken:
                    yield one, one.problem or "was completed just now"


def waiting_notes(study: Study) -> tuple[str, ...]:
    """The same, a line each, for the user."""
    return tuple(
        f"note: {one.model.name} is left for the next run: {os.path.basename(one.path)} {why}"
        for one, why in waiting(study)
    )


def courses(study: Study, names: Sequence[str]) -> tuple[Course, ...]:
    """The study's series in the order of their steps.

    Args:
        study: With the members of its series.
        names: The models that have results.
    """
    axes = {series.name: series.axis for series in study.series}
    members: dict[str, list[Member]] = {}
    for model in study.candidates:
        if model.series and model.at is not None and model.name in names:
            members.setdefault(model.series, []).append(Member(model.name, model.at))
    return tuple(
        Course(name, axes.get(name, "step"), tuple(sorted(own, key=lambda member: member.at)))
        for name, own in members.items()
    )
