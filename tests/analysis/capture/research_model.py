"""A research model that knows nothing of transformers: multi-head attention with an indexer, right or faulty."""

from __future__ import annotations

import torch
from torch import nn

from indexscope.analysis.capture.trace import LayerTrace, Trace


class DsaLayer(nn.Module):
    """Scores I = sum_j w_j ReLU(q_j . k), the best k of them, softmax attention over those.

    ``faulty`` is the published mistake: the scores are masked, but the attention has the top-k as its only mask. A
    query with fewer than k keys before it then fills its k places with masked keys, and attends to the future.
    """

    def __init__(self, width: int, heads: int, topk: int, faulty: bool) -> None:
        super().__init__()
        self.heads, self.topk, self.faulty = heads, topk, faulty
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.index_query = nn.Linear(width, 8 * 8, bias=False)
        self.index_key = nn.Linear(width, 8, bias=False)
        self.index_weight = nn.Linear(width, 8, bias=False)

    def forward(self, x: torch.Tensor, select: bool = True) -> tuple[torch.Tensor, LayerTrace]:
        batch, length, width = x.shape
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        index_query = self.index_query(x).view(batch, length, 8, 8)
        products = torch.einsum("bthd,bsd->bths", index_query, self.index_key(x)).relu()
        scores = torch.einsum("bths,bth->bts", products, self.index_weight(x)).masked_fill(~causal, -torch.inf)
        mask = torch.zeros(scores.shape, dtype=torch.bool)
        mask.scatter_(-1, scores.topk(min(self.topk, length)).indices, True)
        if not self.faulty:
            mask &= causal
        if not select:
            mask = causal.expand_as(mask)
        scale = q.shape[-1] ** -0.5
        p = (q @ k.transpose(2, 3) * scale).masked_fill(~mask.unsqueeze(1), -torch.inf).softmax(-1)
        output = self.out((p @ v).transpose(1, 2).reshape(batch, length, width))
        traced = LayerTrace(query=q, key=k, scale=scale, value=v, scores=scores, selected=mask)
        return x + output, traced


class ResearchModel(nn.Module):
    def __init__(self, faulty: bool = False, topk: int = 8, vocabulary: int = 31, layers: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.vocabulary, self.index_topk = vocabulary, topk
        self.tokens = nn.Embedding(vocabulary, 32)
        self.places = nn.Embedding(128, 32)
        self.layers = nn.ModuleList([DsaLayer(32, 4, topk, faulty) for _ in range(layers)])
        for layer in self.layers:
            nn.init.normal_(layer.qkv.weight, std=0.3)
            nn.init.normal_(layer.out.weight, std=0.3)

    def trace(self, input_ids: torch.Tensor, select: bool = True) -> Trace:
        x = self.tokens(input_ids) + self.places(torch.arange(input_ids.shape[1]))
        layers = []
        for layer in self.layers:
            x, traced = layer(x, select)
            layers.append(traced)
        return Trace(x @ self.tokens.weight.T, layers)
