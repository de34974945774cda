"""Several things that a user can put right, told together."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Sequence

from indexscope import IndexscopeError, __version__
from indexscope.errors import one_line
from indexscope.redaction import redacted


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


def internal_error(error: BaseException) -> str:
    """One line on a defect of this program, which names the file in the temporary folder that holds its traceback."""
    told = "".join(traceback.format_exception(error))
    about = f"indexscope {__version__}, Python {platform.python_version()}, {platform.platform()}: {sys.argv[1:]}"
    try:
        handle, file = tempfile.mkstemp(prefix="indexscope-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as log:
            log.write(redacted(f"{about}\n{told}"))
        where = f"please report it with {file}, which holds the traceback"
    except OSError:
        where = "please report it"
    return f"internal error: {one_line(f'{type(error).__name__}: {error}')}; {where}; what was finished is kept"


def complain(lines: list[str], code: int) -> int:
    """Tell lines on stderr, and return the exit code."""
    for line in lines:
        print(line, file=sys.stderr, flush=True)
    return code
