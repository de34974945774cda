"""The dense attention of one chunk of queries, and what every feature of it needs."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch

from indexscope.analysis.capture.chunk import AttentionChunk

# Finite, so that 0 x masked logit is 0 and not NaN; exp of it is 0 all the same.
MASKED = -1e30


class AttentionRows:
    """Dense attention p over E_t of some of a chunk's queries, normalised once and shared by all features.

    Attributes:
        chunk: What the model handed over.
        p: Attention probabilities [batch, heads, queries, keys]; 0 outside E_t, and everywhere if E_t is empty.
        shifted: Logits less their row maximum, MASKED outside E_t, same shape.
        z: Sum of exp(shifted), [batch, heads, queries, 1].
        log_z: ln z, [batch, heads, queries].
        highest: Row maximum of the logits, [batch, heads, queries, 1].
        eligible: E_t as [batch or 1, queries, keys].
        selected: S_t as [batch or 1, 1 or groups, queries, keys], or None.
        n: n_t, [batch or 1, queries], float32.
        position: Position of each query, [queries], int64.
        keys: Position of each key, [keys], int64; -1 for a key that is no token.
    """

    def __init__(self, chunk: AttentionChunk, first: int = 0, last: int | None = None) -> None:
        self.chunk = chunk
        self.first, self.last = first, chunk.query.shape[2] if last is None else last
        eligible = chunk.eligible[:, :, first : self.last]
        logits = chunk.logits(first, self.last).masked_fill_(~eligible, MASKED)
        self.highest = logits.amax(-1, keepdim=True)
        self.shifted = logits.sub_(self.highest).clamp_(min=MASKED)
        p = torch.exp(self.shifted)
        z = p.sum(-1, keepdim=True)
        self.p = p.div_(z)
        self.z = z
        self.log_z = z.squeeze(-1).log()
        self.eligible = eligible[:, 0]
        self.selected = None if chunk.selected is None else chunk.selected[:, :, first : self.last]
        self.n = self.eligible.sum(-1).float()
        if bool((self.n == 0).any()):
            self.p.mul_((self.n > 0)[:, None, :, None])
        device = p.device
        end = chunk.start + chunk.query.shape[2]
        self.position = torch.arange(chunk.start + first, chunk.start + self.last, device=device)
        self.in_order = chunk.positions is None
        # Keys of a sliding cache may start after token 0; the last key is always the last query's own.
        self.keys = torch.arange(end - p.shape[3], end, device=device) if chunk.positions is None else chunk.positions

    @cached_property
    def all_tokens(self) -> bool:
        """Whether every key is a token with a position; without, nothing can be said of distances."""
        return self.in_order or bool((self.keys >= 0).all())

    @cached_property
    def distance(self) -> torch.Tensor:
        """Query position less key position, [queries, keys], int64; negative for future keys."""
        return self.position[:, None] - self.keys[None, :]

    @cached_property
    def ascending(self) -> torch.Tensor:
        """P sorted along keys, smallest first, [batch, heads, queries, keys]."""
        return sort_keys(self.p)

    @cached_property
    def mean(self) -> torch.Tensor:
        """Head-mean attention, [batch, queries, keys]."""
        return self.p.mean(1)

    def group_mean(self, groups: int) -> torch.Tensor:
        """Mean attention of each group of consecutive heads, [batch, groups, queries, keys]."""
        if groups == 1:
            return self.mean.unsqueeze(1)
        batch, heads, queries, keys = self.p.shape
        return self.p.view(batch, groups, heads // groups, queries, keys).mean(2)

    def mass(self, keys: torch.Tensor) -> torch.Tensor:
        """Attention on a mask of keys, [queries, keys] or [batch, queries, keys]; gives [batch, heads, queries]."""
        mask = keys if keys.dim() == 2 else keys.unsqueeze(1)
        return (self.p * mask).sum(-1)


def sort_keys(values: torch.Tensor) -> torch.Tensor:
    """Values in ascending order along the last dimension.

    numpy sorts float32 with vector instructions, several times as fast as torch does on a CPU.
    """
    if values.device.type == "cpu" and not values.requires_grad:
        return torch.from_numpy(np.sort(values.numpy(), axis=-1))
    return values.sort(-1).values
