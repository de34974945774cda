"""Members of series that a plan cannot use: made by somebody's training, they stop neither the others nor the study."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from indexscope import IndexscopeError
from indexscope.flows.study.config import Study
from indexscope.flows.study.series import called


class Named(Protocol):
    """What has the name of a model of the study."""

    @property
    def name(self) -> str:
        """What the study calls it."""
        ...


T = TypeVar("T", bound=Named)


class Refused:
    """What a plan says of members that it cannot use; what is wrong with any other model is wrong with the study.

    A candidate that the file itself names is no such member, though it may have a place in a series: who wrote it is
    there to mend it.

    Args:
        study: With the members of its series.

    Attributes:
        reasons: Why, in one line, by the member's name.
    """

    def __init__(self, study: Study) -> None:
        patterns = {series.name for series in study.series if series.models is not None}
        self._series = {
            model.name: model.series
            for model in study.candidates
            if model.series in patterns and model.at is not None and model.name == called(model.series, model.at)
        }
        self._errors: dict[str, IndexscopeError] = {}
        self.reasons: dict[str, str] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Look at a model; what cannot be used of a member ends the block and nothing else.

        Raises:
            IndexscopeError: It is no member, or the last one of its series that was left.
        """
        try:
            yield
        except IndexscopeError as error:
            if name not in self._series:
                raise
            self._errors[name], self.reasons[name] = error, str(error).removeprefix(f"{name}: ")
            self._refuse_none_left(self._series[name])

    def left(self, models: Sequence[T]) -> tuple[T, ...]:
        """Those that can be used."""
        return tuple(model for model in models if model.name not in self.reasons)

    def _refuse_none_left(self, series: str) -> None:
        own = [name for name, of in self._series.items() if of == series]
        if not self.reasons.keys() >= set(own):
            return
        first = self._errors[own[0]]
        if len(own) == 1 or len(set(self.reasons.values())) == 1:
            raise first
        where = "" if first.where == own[0] else f"{first.where.removeprefix(f'{own[0]}: ')} "
        reason = f"none of its {len(own)} members can be used, first {own[0]}: {where}{first.reason}"
        raise IndexscopeError(f"series {series!r}", reason, first.remedy)
