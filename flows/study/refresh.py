"""What ``--refresh`` may name: steps that are computed even though the store has them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from indexscope import IndexscopeError
from indexscope.tasks.common.declared import COMMANDS
from indexscope.tasks.common.registry import made_by

#: Steps of each command, in the order of the work.
OF_COMMAND: Mapping[str, tuple[str, ...]] = {
    **{command: made_by(command) for command in COMMANDS},
    "study": tuple(name for command in COMMANDS for name in made_by(command)),
}
#: Names that stand for several steps.
GROUPS: Mapping[str, tuple[str, ...]] = {"analyze": OF_COMMAND["analyze"], "all": OF_COMMAND["study"]}


def chosen(names: Sequence[str], command: str) -> frozenset[str]:
    """The steps that a user wants computed anew.

    Args:
        names: What ``--refresh`` was given.
        command: The command that runs them.

    Raises:
        IndexscopeError: A name is no step, or not one that this command runs.
    """
    runs = OF_COMMAND[command]
    steps: set[str] = set()
    for name in names:
        meant = set(GROUPS.get(name, (name,) if name in OF_COMMAND["study"] else ()))
        where = f"--refresh {name}"
        if not meant:
            close = difflib.get_close_matches(name, [*OF_COMMAND["study"], *GROUPS], 1)
            remedy = f"did you mean {close[0]!r}?" if close else f"choose from {_listed(runs)}"
            raise IndexscopeError(where, "names no step", remedy)
        if not meant & set(runs):
            reason = f"names a step that `indexscope {command}` does not run"
            raise IndexscopeError(where, reason, f"choose from {_listed(runs)}, or run `indexscope study`")
        steps |= meant & set(runs)
    return frozenset(steps)


def _listed(steps: Sequence[str]) -> str:
    return ", ".join([*steps, "all"])
