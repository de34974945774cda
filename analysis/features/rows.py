"""The dense attention of one chunk of queries, and what every feature of it needs."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch

from analysis.capture import AttentionChunk

# Finite, so that 0 x masked logit is 0 and not NaN; exp of it is 0 all the same.
MASKED = -1e30


class AttentionRows:
    """Dense attention p over E_t of one layer's chunk, normalised once and shared by all features.

    Attributes:
        chunk: What the model handed over.
        p: Attention probabilities [batch, heads, queries, keys]; 0 outside E_t.
        shifted: Logits less their row maximum, MASKED outside E_t, same shape.
        log_z: ln of the sum of exp(shifted), [batch, heads, queries].
        highest: Row maximum of the logits, [batch, heads, queries, 1].
        eligible: E_t as [batch or 1, queries, keys].
        n: n_t, [batch or 1, queries], float32.
        position: Position of each query, [queries], int64.
        keys: Position of each key, [keys], int64.
    """

    def __init__(self, chunk: AttentionChunk) -> None:
        self.chunk = chunk
        logits = chunk.logits().masked_fill_(~chunk.eligible, MASKED)
        self.highest = logits.amax(-1, keepdim=True)
        self.shifted = logits.sub_(self.highest).clamp_(min=MASKED)
        p = torch.exp(self.shifted)
        z = p.sum(-1, keepdim=True)
        self.p = p.div_(z)
        self.z = z
        self.log_z = z.squeeze(-1).log()
        self.eligible = chunk.eligible[:, 0]
        self.n = self.eligible.sum(-1).float()
        device = p.device
        last = chunk.start + p.shape[2]
        self.position = torch.arange(chunk.start, last, device=device)
        # Keys of a sliding cache may start after token 0; the last key is always the last query's own.
        self.keys = torch.arange(last - p.shape[3], last, device=device)

    @cached_property
    def distance(self) -> torch.Tensor:
        """Query position less key position, [queries, keys], int64; negative for future keys."""
        return self.position[:, None] - self.keys[None, :]

    @cached_property
    def ascending(self) -> torch.Tensor:
        """P sorted along keys, smallest first, [batch, heads, queries, keys].

        numpy sorts float32 with vector instructions, several times as fast as torch does on a CPU.
        """
        if self.p.device.type == "cpu":
            return torch.from_numpy(np.sort(self.p.numpy(), axis=-1))
        return self.p.sort(-1).values

    @cached_property
    def mean(self) -> torch.Tensor:
        """Head-mean attention, [batch, queries, keys]."""
        return self.p.mean(1)

    def mass(self, keys: torch.Tensor) -> torch.Tensor:
        """Attention on a mask of keys, [queries, keys] or [batch, queries, keys]; gives [batch, heads, queries]."""
        mask = keys if keys.dim() == 2 else keys.unsqueeze(1)
        return (self.p * mask).sum(-1)
