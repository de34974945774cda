"""Several things that a user can put right, told together."""

from __future__ import annotations

from collections.abc import Sequence

from indexscope import IndexscopeError


class StudyError(IndexscopeError):
    """All that is wrong with one study file, so that it is mended in one go.

    Args:
        problems: At least one; each is printed on a line of its own.
    """

    def __init__(self, problems: Sequence[IndexscopeError]) -> None:
        first = problems[0]
        super().__init__(first.where, first.reason, first.remedy)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)

    def __reduce__(self) -> tuple[type[StudyError], tuple[tuple[IndexscopeError, ...]]]:  # type: ignore[override]
        return type(self), (self.problems,)


def lines_of(error: IndexscopeError) -> list[str]:
    """One line a problem."""
    return [f"error: {line}" for line in str(error).splitlines()]
