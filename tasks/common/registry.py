"""All steps: every module of `tasks` declares one. Light to import: what computes is imported when it does."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module

from indexscope import tasks
from indexscope.tasks.common.declared import COMMANDS, Command, Step


def found() -> dict[str, Step]:
    """The steps by name, in the order of the commands and of their places."""
    files = (file.name for file in pkgutil.iter_modules(tasks.__path__) if not file.ispkg)
    steps: list[Step] = [import_module(f"{tasks.__name__}.{name}").STEP for name in files]
    steps.sort(key=lambda step: (COMMANDS.index(step.command), not step.first, step.place, step.name))
    return {step.name: step for step in steps}


#: Every step by name.
STEPS: Mapping[str, Step] = found()


def made_by(command: Command) -> tuple[str, ...]:
    """Names of the steps that a command makes."""
    return tuple(name for name, step in STEPS.items() if step.command == command)
