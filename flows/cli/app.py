"""The command line as typer sees it: every module of `commands` declares one command."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import typer

from indexscope.flows.cli import commands
from indexscope.flows.cli.declared import Command


def found() -> list[Command]:
    """The commands in the order of the help."""
    names = (module.name for module in pkgutil.iter_modules(commands.__path__))
    declared: list[Command] = [import_module(f"{commands.__name__}.{name}").COMMAND for name in names]
    return sorted(declared, key=lambda command: (command.place, command.name))


def application() -> typer.Typer:
    """The command line with all commands."""
    made = typer.Typer(
        name="indexscope",
        help="What a lightning indexer selects, misses and costs over a dataset, and what an optimised one changed.",
        epilog="Exit codes: 0 done, 1 a gate failed or data is damaged, 2 bad input, 3 something failed and is missing "
        "(run again), 70 a defect of this program, 130 interrupted (Ctrl-C), 143 terminated (SIGTERM, SIGHUP).",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for command in found():
        made.command(name=command.name)(command.call)
    return made
