"""The command line, run: the one place where errors become lines and exit codes."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from indexscope import IndexscopeError
from indexscope.flows.cli.app import application
from indexscope.flows.errors import complain, internal_error, lines_of
from indexscope.flows.interrupt import INTERRUPTED, listening, tell_interrupted
from indexscope.flows.terminal import lasting_output

BAD_INPUT, INTERNAL = 2, 70


def main() -> NoReturn:
    """Run the command line."""
    with listening(), lasting_output():
        sys.exit(_ended())


def _ended() -> int:
    """The one place where errors become lines and exit codes."""
    try:
        code = application()(standalone_mode=False)
        if code == INTERRUPTED:  # typer answers an interrupt with a code or, in other versions, with Abort
            raise KeyboardInterrupt
    except IndexscopeError as error:
        code = complain(lines_of(error), BAD_INPUT)
    except KeyboardInterrupt:
        code = _interrupted()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        code = _unforeseen(error)
    return code if isinstance(code, int) else 0


def _unforeseen(error: Exception) -> int:
    if hasattr(error, "show") and hasattr(error, "exit_code"):  # a mistake in the command line
        error.show()
        return int(error.exit_code)
    if type(error).__name__ == "Abort":
        return _interrupted()
    return complain([internal_error(error)], INTERNAL)


def _interrupted() -> int:
    tell_interrupted()
    return INTERRUPTED
