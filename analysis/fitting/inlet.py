"""What reaches an attention module, for an indexer that was not there when the module was written."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from indexscope.errors import IndexscopeError

#: What transformers' multi-head latent attention calls the norm whose output is the query latent.
LATENT = "q_a_layernorm"


@dataclass(frozen=True)
class Inputs:
    """What an attention module received for some tokens.

    Attributes:
        hidden: [batch, tokens, hidden size].
        latent: The query latent [batch, tokens, its width]; None where the module has none.
        rotation: Cosines and sines [batch or 1, tokens, width], as the model lays them out; None without RoPE.
    """

    hidden: torch.Tensor
    latent: torch.Tensor | None = None
    rotation: tuple[torch.Tensor, torch.Tensor] | None = None

    def own(self) -> Inputs:
        """Copies that can take part in autograd, which tensors made in inference mode cannot."""
        latent = None if self.latent is None else self.latent.clone()
        rotation = None if self.rotation is None else (self.rotation[0].clone(), self.rotation[1].clone())
        return Inputs(self.hidden.clone(), latent, rotation)

    def at(self, rows: torch.Tensor) -> Inputs:
        """Some of the tokens, by index."""
        rotation = None if self.rotation is None else (self.rotation[0][:, rows], self.rotation[1][:, rows])
        return Inputs(self.hidden[:, rows], None if self.latent is None else self.latent[:, rows], rotation)


def joined(parts: Sequence[Inputs]) -> Inputs:
    """Consecutive tokens as one."""
    if len(parts) == 1:
        return parts[0]
    latents = [part.latent for part in parts if part.latent is not None]
    rotations = [part.rotation for part in parts if part.rotation is not None]
    return Inputs(
        torch.cat([part.hidden for part in parts], 1),
        torch.cat(latents, 1) if latents else None,
        (torch.cat([one[0] for one in rotations], 1), torch.cat([one[1] for one in rotations], 1))
        if rotations
        else None,
    )


class _Here(threading.local):
    """What one thread's call received; a copy of a model begins without."""

    def __deepcopy__(self, memo: object) -> _Here:
        return _Here()


class Inlet:
    """Catches what reaches one attention module, for each thread by itself, until it is closed.

    Args:
        module: The attention module.
    """

    def __init__(self, module: nn.Module) -> None:
        self._here = _Here()
        self._where = type(module).__name__
        self._signature = inspect.signature(type(module).forward)
        self._handles = [module.register_forward_pre_hook(self._enter, with_kwargs=True)]
        norm = getattr(module, LATENT, None)
        if isinstance(norm, nn.Module):
            self._handles.append(norm.register_forward_hook(self._latent))

    def close(self) -> None:
        """Leave the module as it was."""
        for handle in self._handles:
            handle.remove()

    def take(self) -> Inputs:
        """What the call that is running received.

        Raises:
            IndexscopeError: The module was called without hidden states that can be told.
        """
        found = vars(self._here)
        hidden = found.get("hidden")
        if not isinstance(hidden, torch.Tensor) or hidden.ndim != 3:
            reason = "receives no hidden states [batch, tokens, width], so that no indexer can be fitted to it"
            raise IndexscopeError(self._where, reason, "use another model")
        return Inputs(hidden, found.get("latent"), _real(found.get("rotation")))

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = self._signature.bind(module, *args, **kwargs).arguments
        others = given.get("kwargs", {})
        hidden = given.get("hidden_states", others.get("hidden_states", args[0] if args else None))
        rotation = given.get("position_embeddings", others.get("position_embeddings"))
        vars(self._here).update(hidden=hidden, rotation=rotation, latent=None)

    def _latent(self, _: nn.Module, __: Any, output: torch.Tensor) -> None:
        self._here.latent = output


def _real(rotation: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Cosines and sines, whatever form a model hands its rotation on in."""
    if isinstance(rotation, torch.Tensor) and rotation.is_complex():
        return rotation.real, rotation.imag
    if isinstance(rotation, (tuple, list)) and len(rotation) == 2 and rotation[0].ndim == 3:
        return rotation[0], rotation[1]
    return None


def distinct(rotation: tuple[torch.Tensor, torch.Tensor]) -> tuple[int, ...]:
    """Where each frequency of a rotation stands first in its last dimension.

    Models repeat their frequencies in a second half, or side by side, or not at all.

    Args:
        rotation: Of at least two tokens, one of them not at position 0.
    """
    width = rotation[0].shape[-1]
    half = width // 2
    if width % 2 == 0 and all(torch.equal(one[..., :half], one[..., half:]) for one in rotation):
        return tuple(range(half))
    if width % 2 == 0 and all(torch.equal(one[..., ::2], one[..., 1::2]) for one in rotation):
        return tuple(range(0, width, 2))
    return tuple(range(width))
