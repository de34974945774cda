"""The command line: every module of `commands` declares one command, and errors become lines and exit codes here."""

from __future__ import annotations

import os
import pkgutil
import sys
from collections.abc import Callable
from importlib import import_module
from typing import NoReturn

import typer
from typer.core import TyperOption

from indexscope import IndexscopeError
from indexscope.flows.cli import commands
from indexscope.flows.cli.declared import Command
from indexscope.flows.errors import complain, internal_error, lines_of
from indexscope.flows.interrupt import INTERRUPTED, listening, tell_interrupted
from indexscope.flows.terminal import lasting_output

BAD_INPUT, INTERNAL = 2, 70


def found() -> list[Command]:
    """The commands in the order of the help."""
    names = (module.name for module in pkgutil.iter_modules(commands.__path__))
    declared: list[Command] = [import_module(f"{commands.__name__}.{name}").COMMAND for name in names]
    return sorted(declared, key=lambda command: (command.place, command.name))


def application() -> Callable[..., object]:
    """The command line with all commands."""
    made = typer.Typer(
        name="indexscope",
        help="What a lightning indexer selects, misses and costs over a dataset, and what an optimised one changed.",
        epilog="Exit codes: 0 done, 1 a gate failed or data is damaged, 2 bad input, 3 something failed and is missing "
        "(run again), 70 a defect of this program, 130 interrupted (Ctrl-C), 143 terminated (SIGTERM, SIGHUP).\n\n"
        "Tab completion: indexscope --install-completion (or --show-completion).",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for command in found():
        made.command(name=command.name, epilog=command.epilog)(command.call)
    group = typer.main.get_command(made)
    for option in group.params:  # typer's two for completion, which the last lines of the help tell of
        if isinstance(option, TyperOption):
            option.hidden = True
    return group


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
