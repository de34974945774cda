"""Models whose parts run on several devices, as accelerate dispatches them: where they run, and captures of them.

accelerate puts a hook around the forward of each part. It brings the part's arguments to its device, and, where its
weights lie in memory, these too for as long as it runs. Nothing here imports accelerate.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import RLock
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree

from indexscope.analysis.capture.interface import copied, running

#: Where accelerate keeps a module's hook.
HOOK = "_hf_hook"


def home(model: nn.Module) -> torch.device:
    """Where a model takes ids and gives logits."""
    for hook in _hooks(model):
        if hook.execution_device is not None:
            return _device(hook.execution_device)
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def places(model: nn.Module) -> dict[nn.Module, torch.device]:
    """Where each module of a model runs: on one device all of them."""
    found: dict[nn.Module, torch.device] = {}

    def visit(module: nn.Module, device: torch.device) -> None:
        for hook in _hooks(module):
            if hook.execution_device is not None:
                device = _device(hook.execution_device)
        if module not in found:
            found[module] = device
            for child in module.children():
                visit(child, device)

    visit(model, home(model))
    return found


def devices_of(source: object) -> tuple[torch.device, ...]:
    """The devices on which a source runs, the one that takes its ids first."""
    model, device = getattr(source, "model", source), getattr(source, "device", torch.device("cpu"))
    if not isinstance(model, nn.Module) or not is_dispatched(model):
        return (device,)
    return tuple(dict.fromkeys(places(model).values()))


def is_dispatched(model: nn.Module) -> bool:
    """Whether accelerate has put hooks around its parts."""
    return any(HOOK in vars(module) for module in model.modules())


def shared_by_copies(model: nn.Module) -> dict[int, object]:
    """What hooks hold of weights, by id: a deep copy of the model that is given these shares them."""
    held = [
        held
        for module in model.modules()
        for hook in _hooks(module)
        for held in (hook.weights_map, hook.tied_params_map)
        if held is not None
    ]
    return {id(one): one for one in held}


def follow(model: nn.Module) -> None:
    """Let captures follow a model over its devices: masks stay known where hooks copy them, however often it is called.

    Threads run it one after another where weights lie in memory, since these come and go with each forward.
    """
    keeps = False
    for module in list(model.modules()):
        hook = vars(module).get(HOOK)
        if hook is not None and not isinstance(hook, _Followed):
            setattr(module, HOOK, _Followed(hook))
        keeps |= any(one.offload for one in _hooks(module))
    if keeps and not isinstance(vars(model).get("forward"), _Alone):
        model.forward = _Alone(model.forward, RLock())


@contextmanager
def changing(model: nn.Module) -> Iterator[None]:
    """A model of which something is to be changed in the block: what lies in memory is in its places before it.

    Parts that run on their devices with what they have then: weights that were cut, and parts that were added.
    """
    kept = [(module, hook) for module in model.modules() for hook in _hooks(module) if hook.offload]
    for module, hook in kept:
        for name, _ in list(_weights(module, hook)):
            _put(module, name, hook.weights_map[name])
    yield
    for module, hook in kept:
        held = {}
        for name, parameter in list(_weights(module, hook)):
            # Without values where the change had the model run: the hook took them away again.
            held[name] = hook.weights_map[name] if parameter.is_meta else parameter.detach().to("cpu")
            _put(module, name, held[name].to("meta"))
        hook.weights_map = held


class _Followed:
    """A hook of accelerate's, before which masks that the capture knows are brought to its device.

    Each is copied to a device once, so that the capture can tell a copy from a mask that a layer made.
    """

    def __init__(self, hook: Any) -> None:
        self.hook, self.no_grad = hook, hook.no_grad
        given = [one.execution_device for one in _flat(hook) if one.execution_device is not None]
        self._device = _device(given[-1]) if given else None

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """See accelerate's ``ModelHook``."""
        device = self._device
        if device is not None and running.observer is not None and running.masks:
            args, kwargs = _pytree.tree_map_only(torch.Tensor, lambda one: copied(one, device), (args, kwargs))
        return self.hook.pre_forward(module, *args, **kwargs)

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        """See accelerate's ``ModelHook``."""
        return self.hook.post_forward(module, output)

    def init_hook(self, module: nn.Module) -> Any:
        """See accelerate's ``ModelHook``."""
        return self.hook.init_hook(module)

    def detach_hook(self, module: nn.Module) -> Any:
        """See accelerate's ``ModelHook``."""
        return self.hook.detach_hook(module)


class _Alone:
    """A forward that one thread runs at a time; a copy of the model waits for it too."""

    def __init__(self, forward: Callable[..., Any], lock: AbstractContextManager[Any]) -> None:
        self.forward, self.lock = forward, lock

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self.lock:
            return self.forward(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Alone:
        return _Alone(copy.deepcopy(self.forward, memo), self.lock)


def _hooks(module: nn.Module) -> Iterator[Any]:
    """The hooks around a module that bring it what it needs."""
    hook = vars(module).get(HOOK)
    return iter(()) if hook is None else _flat(hook)


def _flat(hook: Any) -> Iterator[Any]:
    if isinstance(hook, _Followed):
        yield from _flat(hook.hook)
    elif hasattr(hook, "hooks"):  # several, one after another
        for one in hook.hooks:
            yield from _flat(one)
    elif hasattr(hook, "execution_device") and hasattr(hook, "weights_map"):
        yield hook


def _weights(module: nn.Module, hook: Any) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that a hook brings."""
    return module.named_parameters(recurse=hook.place_submodules)


def _put(module: nn.Module, name: str, tensor: torch.Tensor) -> None:
    within, _, own = name.rpartition(".")
    module.get_submodule(within)._parameters[own] = nn.Parameter(tensor, requires_grad=False)


def _device(given: str | int | torch.device) -> torch.device:
    """A device as accelerate names it: numbers are GPUs."""
    return torch.device("cuda", given) if isinstance(given, int) else torch.device(given)
