"""A lightning indexer of one layer, with the arithmetic of DeepSeek-V3.2's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from indexscope.analysis.fitting.inlet import Inputs

QuerySource = Literal["latent", "hidden"]
#: Head scores that are held at once, before they are added up.
MOST_SCORES = 1 << 24


@dataclass(frozen=True)
class ScorerShape:
    """What a lightning indexer of one layer is made of.

    Attributes:
        heads: Indexer heads.
        dim: Width of one, and of the key that they share.
        hidden: Width of the hidden states, from which keys and head weights come.
        query: Width of what queries come from.
        source: What that is: the attention's query latent, or the hidden states.
        rotary: Frequencies by which the first 2 x len(rotary) dimensions are rotated, as places in the last dimension
            of the model's cosines; empty without RoPE.
    """

    heads: int
    dim: int
    hidden: int
    query: int
    source: QuerySource
    rotary: tuple[int, ...] = ()


class LightningScorer(nn.Module):
    """I[t, s] = Σ_j w[t, j] · ReLU(q[t, j] · k[s] / sqrt(dim)) / sqrt(heads), queries and keys rotated by halves.

    Parameters have the names, shapes and meaning of transformers' `DeepseekV32Indexer`, so that they fit into it. The
    class is not called an indexer: the capture would take it for one that the model's own forward calls.

    Args:
        shape: What it is made of.
    """

    def __init__(self, shape: ScorerShape) -> None:
        super().__init__()
        self.shape = shape
        #: Heads and width as they are now, under the names that transformers' indexers have.
        self.n_heads, self.head_dim = shape.heads, shape.dim
        #: What queries and keys are rounded to before they are multiplied; None leaves them.
        self.rounding: Callable[[torch.Tensor], torch.Tensor] | None = None
        self.wq_b = nn.Linear(shape.query, shape.heads * shape.dim, bias=False)
        self.wk = nn.Linear(shape.hidden, shape.dim, bias=False)
        self.k_norm = nn.LayerNorm(shape.dim, eps=1e-6)
        self.weights_proj = nn.Linear(shape.hidden, shape.heads, bias=False)

    def keys(self, given: Inputs) -> torch.Tensor:
        """Keys of tokens, [batch, tokens, dim]."""
        keys: torch.Tensor = self.k_norm(self.wk(given.hidden.to(self.wk.weight.dtype)))
        return self._rounded(self._rotated(keys, given, 0))

    def queries(self, given: Inputs) -> torch.Tensor:
        """Queries of tokens, [batch, tokens, heads, dim]."""
        found = given.latent if self.shape.source == "latent" else given.hidden
        if found is None:
            raise ValueError("the attention has no query latent")
        flat: torch.Tensor = self.wq_b(found.to(self.wq_b.weight.dtype))
        heads = flat.view(*flat.shape[:2], self.n_heads, self.head_dim)
        return self._rounded(self._rotated(heads, given, 1))

    def weights(self, given: Inputs) -> torch.Tensor:
        """Head weights w of tokens, scaled by 1 / sqrt(heads), [batch, tokens, heads], float32."""
        found: torch.Tensor = self.weights_proj(given.hidden.to(self.weights_proj.weight.dtype))
        return found.float().mul(self.n_heads**-0.5)

    def head_scores(self, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Scores of the single heads after ReLU, [batch, queries, heads, keys], float32."""
        flat = torch.matmul(queries.float().flatten(1, 2), keys.float().transpose(1, 2))
        return torch.relu(flat.mul(self.shape.dim**-0.5).view(*queries.shape[:3], keys.shape[1]))

    def forward(self, given: Inputs, keys: torch.Tensor) -> torch.Tensor:
        """Index scores of tokens, [batch, tokens, keys], float32, nothing masked.

        Args:
            given: The tokens that ask.
            keys: [batch, keys, dim].
        """
        queries, weights = self.queries(given), self.weights(given)
        rows = max(1, MOST_SCORES // (keys.shape[0] * self.n_heads * keys.shape[1]))
        parts = [
            torch.matmul(weight.unsqueeze(-2), self.head_scores(query, keys)).squeeze(-2)
            for query, weight in zip(torch.split(queries, rows, 1), torch.split(weights, rows, 1), strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def _rounded(self, values: torch.Tensor) -> torch.Tensor:
        return values if self.rounding is None else self.rounding(values.float())

    def _rotated(self, values: torch.Tensor, given: Inputs, heads: int) -> torch.Tensor:
        """Values [batch, tokens, (heads,) dim] with their first dimensions rotated."""
        pairs = len(self.shape.rotary)
        if not pairs:
            return values
        if given.rotation is None:
            raise ValueError("the attention receives no position embeddings")
        cos, sin = (one[..., self.shape.rotary].to(values.dtype) for one in given.rotation)
        if heads:
            cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
        one, other = values[..., :pairs], values[..., pairs : 2 * pairs]
        return torch.cat([one * cos - other * sin, other * cos + one * sin, values[..., 2 * pairs :]], -1)
