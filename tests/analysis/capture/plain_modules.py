"""Research code that knows nothing of Indexscope, and beside it what a trace written by hand tells of its layers."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from indexscope.analysis.capture.trace import LayerTrace, Trace

HEADS, WIDTH, VOCABULARY, K = 4, 32, 31, 8


def causal(length: int) -> torch.Tensor:
    return torch.ones(length, length, dtype=torch.bool).tril()


class Lightning(nn.Module):
    """I = sum_j w_j ReLU(q_j . k); returns the scores, masked, and the mask of the best k."""

    def __init__(self, ratio: float | None = None, all_keys: bool = False) -> None:
        super().__init__()
        self.all_keys = all_keys
        self.query, self.key, self.weight = nn.Linear(WIDTH, 3 * 8), nn.Linear(WIDTH, 8), nn.Linear(WIDTH, 3)
        self.ratio = ratio

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        batch, length, _ = x.shape
        heads = functional.relu(torch.einsum("btjd,bsd->btjs", self.query(x).view(batch, length, 3, 8), self.key(x)))
        weights = self.weight(x)
        scores = (heads * weights.unsqueeze(-1)).sum(2)
        scores = scores if self.all_keys else scores.masked_fill(~causal(length), -torch.inf)
        k = K if self.ratio is None else max(1, int(self.ratio * length))
        picked = scores.topk(min(k, length), dim=-1).indices
        return scores, torch.zeros_like(scores, dtype=torch.bool).scatter(-1, picked, True), heads, weights


class Attention(nn.Module):
    """One layer. ``told`` is what it would say of itself, ``dense`` has it attend to all causal keys."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.dense, self.told = kind, False, None
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        if kind not in ("window", "dense", "gqa", "einsum", "topk", "threshold"):
            self.indexer = Lightning(0.3 if kind == "ratio" else None, kind == "peek")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        scale, keys = q.shape[-1] ** -0.5, causal(length)
        told: dict[str, torch.Tensor] = {}
        mask = keys.expand(batch, 1, -1, -1)
        if hasattr(self, "indexer"):
            scores, chosen, heads, weights = self.indexer(x)
            mask = (chosen if self.kind.startswith("leak") else chosen & keys).unsqueeze(1)
            if self.kind == "peek":  # future keys take places among its picks; it attends to itself and earlier ones
                mask = mask | torch.eye(length, dtype=torch.bool)
            told = {"scores": scores, "selected": mask[:, 0], "head_scores": heads, "head_weights": weights}
        elif self.kind == "window":
            mask = (keys & keys.triu(-5)).view(1, 1, length, length)
            told = {"eligible": mask[0, 0]}
        elif self.kind in ("topk", "threshold"):
            scores = (q @ k.transpose(2, 3) * scale).masked_fill(~keys, -torch.inf)
            if self.kind == "topk":
                mask = keys & (scores >= scores.topk(min(K, length)).values[..., -1:])
            else:
                mask = keys & ((scores > 0) | torch.eye(length, dtype=torch.bool))
            told = {"selected": mask} | ({"scores": scores} if self.kind == "topk" else {})
        if self.dense:
            mask = keys.expand(batch, 1, -1, -1)
        if self.kind == "gqa":
            k, v = k[:, :2], v[:, :2]
        self.told = LayerTrace(query=q, key=k, value=v, scale=scale, **told)
        return x + self.out(self.attend(q, k, v, mask, scale).transpose(1, 2).reshape(batch, length, WIDTH))

    def attend(self, q, k, v, mask, scale: float) -> torch.Tensor:
        if self.kind == "gqa":
            return functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        if self.kind in ("float", "leak"):
            added = torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)
            return functional.scaled_dot_product_attention(q, k, v, attn_mask=added)
        if self.kind in ("by hand", "topk", "threshold", "capped", "leak by hand", "leak capped"):
            z = torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(q.shape[-1])
            z = 5 * torch.tanh(z / 5) if self.kind.endswith("capped") else z
            p = functional.dropout(functional.softmax(z.masked_fill(~mask, -1e9), dim=-1), 0.1, self.training)
            return torch.matmul(p, v)
        if self.kind == "einsum":
            z = torch.einsum("bqhd,bkhd->bhqk", q.transpose(1, 2), k.transpose(1, 2)) * scale
            z += torch.zeros(mask.shape).masked_fill(~mask, float("-inf"))
            p = torch.softmax(z.float(), -1).type_as(q)
            return torch.einsum("bhqk,bkhd->bqhd", p, v.transpose(1, 2)).transpose(1, 2)
        if self.kind == "latent":
            # As DeepSeek's own code: [B, S, H, S], a product for content and one for position, the mask added.
            q, k, v = (part.transpose(1, 2) for part in (q, k, v))
            z = torch.einsum("bshc,bthc->bsht", q[..., :5], k[..., :5])
            z = (z + torch.einsum("bshr,bthr->bsht", q[..., 5:], k[..., 5:])) * scale
            z += torch.full(mask[:, 0].shape, -torch.inf).masked_fill(mask[:, 0], 0).unsqueeze(2)
            p = z.softmax(dim=-1, dtype=torch.float32)
            return torch.einsum("bsht,bthc->bshc", p.type_as(q), v).transpose(1, 2)
        if self.kind == "after":
            p = (q @ k.transpose(2, 3) * scale).masked_fill(~causal(mask.shape[-1]), -torch.inf).softmax(-1) * mask
            return (p / p.sum(-1, keepdim=True)) @ v
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


class Plain(nn.Module):
    """Two layers of one kind; the same one twice where ``shared``. Returns logits ``within`` something."""

    def __init__(self, kind: str = "bool", shared: bool = False, within: str = "tensor") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(600, WIDTH)
        first = Attention(kind)
        self.layers = nn.ModuleList([first, first if shared else Attention(kind)])
        self.within = within

    def forward(self, input_ids: torch.Tensor):
        x = self.tokens(input_ids) + self.places(torch.arange(input_ids.shape[1]))
        self.told = []
        for layer in self.layers:
            x = layer(x)
            self.told.append(layer.told)
        logits = x @ self.tokens.weight.T
        return {"tensor": logits, "tuple": (logits, None, None), "mapping": {"logits": logits, "loss": None}}[
            self.within
        ]


class Told:
    """The same model behind a ``trace`` written by hand."""

    def __init__(self, model: Plain, index_topk: int | None = K) -> None:
        self.model, self.vocabulary, self.index_topk = model, VOCABULARY, index_topk

    def trace(self, input_ids: torch.Tensor, select: bool = True) -> Trace:
        try:
            for layer in self.model.layers:
                layer.dense = not select
            logits = self.model(input_ids)
        finally:
            for layer in self.model.layers:
                layer.dense = False
        return Trace(logits, self.model.told)
