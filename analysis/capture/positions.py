"""Positions that are scaled by the whole length, in captures that feed a sequence in chunks.

Left to itself such a model would turn the keys of each chunk by frequencies of their own; within a capture every chunk
has those of the whole sequence, as one forward would.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from indexscope.analysis.rope import DYNAMIC, LONGROPE

if TYPE_CHECKING:
    import torch
    from torch import nn

_KEPT = "_indexscope_whole_length"


def keep_positions(model: nn.Module, length_of: Callable[[], int | None]) -> None:
    """Have rotary modules turn every chunk of a capture by the frequencies of its whole sequence.

    Args:
        model: A model of transformers.
        length_of: Called without arguments; tokens of the sequence that the calling thread captures, None outside one.
    """
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        if _KEPT not in module.__dict__ and {DYNAMIC, LONGROPE} & set(_kinds(kinds)):
            _keep(module, length_of)


def _kinds(kinds: object) -> list[str]:
    values = kinds.values() if isinstance(kinds, Mapping) else [kinds]
    return [kind for kind in values if isinstance(kind, str)]


def _keep(module: nn.Module, length_of: Callable[[], int | None]) -> None:
    forward, lock = module.forward, threading.Lock()

    def kept(*args: Any, **kwargs: Any) -> Any:
        length = length_of()
        if length is None:
            return forward(*args, **kwargs)
        with lock:  # its frequencies are the module's, whoever asks
            _turn_back(module)
            forward(*_at(length, args), **_at_named(length, kwargs))
            with _held(module):
                return forward(*args, **kwargs)

    module.forward = kept
    module.__dict__[_KEPT] = True


def _at(length: int, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a rotary module, (x, position_ids, ...), for the last position of a sequence of that length."""
    return args if len(args) < 2 else (args[0], _last(args[1], length), *args[2:])


def _at_named(length: int, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    named = dict(kwargs)
    if "position_ids" in named:
        named["position_ids"] = _last(named["position_ids"], length)
    return named


def _last(position_ids: torch.Tensor, length: int) -> torch.Tensor:
    return position_ids.new_full((1,) * position_ids.ndim, length - 1)


def _turn_back(module: nn.Module) -> None:
    """Forget longer sequences that ran before: dynamic scaling keeps the frequencies of the longest so far."""
    kinds = module.rope_type
    names = [f"{name}_" for name in kinds] if isinstance(kinds, Mapping) else [""]
    for prefix, kind in zip(names, _kinds(kinds), strict=True):
        original = getattr(module, f"{prefix}original_inv_freq", None)
        if kind != DYNAMIC or original is None:
            continue
        module.register_buffer(f"{prefix}inv_freq", original.clone(), persistent=False)
        setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)


@contextmanager
def _held(module: nn.Module) -> Iterator[None]:
    """Keep the frequencies as they are within the block."""
    kinds: Any = module.rope_type
    held: Any = dict.fromkeys(kinds, "default") if isinstance(kinds, Mapping) else "default"
    module.rope_type = held
    try:
        yield
    finally:
        module.rope_type = kinds
