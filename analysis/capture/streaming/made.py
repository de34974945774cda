"""Parameters of a streamed model that its checkpoint does not hold: cut from stored ones, or given by somebody else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import nn

#: Where a module keeps how its parameters are made.
MADE = "indexscope_made"
Make = Callable[[torch.Tensor], torch.Tensor]
Give = Callable[[], Mapping[str, torch.Tensor]]


@dataclass
class _Made:
    """How a module's parameters come about whenever it is loaded.

    Attributes:
        stored: By name, a parameter as it is stored, without values.
        changes: By name, what makes of it what the model has, one after the other.
        give: The values of all parameters of the module and those in it; None where a checkpoint has them.
    """

    stored: dict[str, nn.Parameter] = field(default_factory=dict)
    changes: dict[str, tuple[Make, ...]] = field(default_factory=dict)
    give: Give | None = None


def change(module: nn.Module, name: str, make: Make, undo: ExitStack) -> None:
    """Make something else of a parameter, now and, where it has no values yet, whenever it gets them.

    Args:
        module: Whose it is.
        name: What it calls it.
        make: From what is there to what is to be there; works without values too.
        undo: Takes what puts back what was there.
    """
    before = cast(nn.Parameter, module._parameters[name])
    with torch.no_grad():
        module._parameters[name] = nn.Parameter(make(before), requires_grad=before.requires_grad)
    undo.callback(module._parameters.__setitem__, name, before)
    if not before.is_meta:
        return
    made = vars(module).setdefault(MADE, _Made())
    stored, changes = made.stored.get(name), made.changes.get(name, ())
    made.stored[name], made.changes[name] = before if stored is None else stored, (*changes, make)

    def unmake() -> None:
        if stored is None:
            del made.stored[name], made.changes[name]
        else:
            made.changes[name] = changes

    undo.callback(unmake)


def given(module: nn.Module, give: Give) -> None:
    """Have somebody else give a module its parameters whenever what it is part of is loaded.

    Args:
        module: On the meta device.
        give: By name, what is stored; any type, on any device.
    """
    vars(module).setdefault(MADE, _Made()).give = give


def as_stored(modules: Iterable[nn.Module]) -> None:
    """Have modules take parameters as they are stored."""
    for module, made in _made(modules):
        module._parameters.update(made.stored)


def make(modules: Iterable[nn.Module], device: torch.device, values: bool = True) -> None:
    """Make the parameters of loaded modules.

    Args:
        modules: In which `as_stored` was called before they were loaded.
        device: Where they compute.
        values: Whether those that are given get their values, or zeros.
    """
    found = list(_made(modules))
    for module, made in found:
        if made.give is not None:
            stored = made.give() if values else None
            for part, name, whole in _within(module):
                blank = part._parameters[name]
                assert blank is not None
                value = torch.zeros(blank.shape) if stored is None else stored[whole]
                part._parameters[name] = _fixed(value.to(device=device, dtype=blank.dtype))
    for module, made in found:
        _change(module, made)


def forget(modules: Iterable[nn.Module]) -> None:
    """Let go of what was made, in modules that were let go of: the shapes stay."""
    found = list(_made(modules))
    for module, made in found:
        if made.give is not None:
            for part, name, _ in _within(module):
                here = part._parameters[name]
                assert here is not None
                part._parameters[name] = _fixed(torch.empty_like(here, device="meta"))
    for module, made in found:
        module._parameters.update(made.stored)
        _change(module, made)


def _change(module: nn.Module, made: _Made) -> None:
    for name, changes in made.changes.items():
        value: torch.Tensor | None = module._parameters[name]
        assert value is not None
        for one in changes:
            value = one(value)
        module._parameters[name] = _fixed(value)


def _made(modules: Iterable[nn.Module]) -> Iterable[tuple[nn.Module, _Made]]:
    return ((module, vars(module)[MADE]) for module in modules if MADE in vars(module))


def _within(module: nn.Module) -> list[tuple[nn.Module, str, str]]:
    """The parameters of a module and those in it: whose, under which name there, and under which in the module."""
    return [
        (part, name, f"{path}.{name}" if path else name)
        for path, part in module.named_modules()
        for name, parameter in part._parameters.items()
        if parameter is not None
    ]


def _fixed(value: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(value.detach(), requires_grad=False)
