"""A decoder with DeepSeek Sparse Attention in plain torch, and a twin that leaks: nothing here knows Indexscope."""

import torch
from torch import nn
from torch.nn import functional

VOCABULARY = 256  # a token is a byte


class Indexer(nn.Module):
    """I[t, s] = sum over heads j of w[t, j] ReLU(q[t, j] . k[s]) (DeepSeek-V3.2, equation 1)."""

    def __init__(self, width, heads, dim):
        super().__init__()
        self.heads, self.dim = heads, dim
        self.query = nn.Linear(width, heads * dim, bias=False)
        self.key = nn.Linear(width, dim, bias=False)
        self.weights = nn.Linear(width, heads, bias=False)

    def forward(self, x):
        batch, length, _ = x.shape
        query = self.query(x).view(batch, length, self.heads, self.dim)
        scores = torch.einsum("bthd,bsd->bths", query, self.key(x)).relu()
        return torch.einsum("bths,bth->bts", scores, self.weights(x) * self.dim**-0.5)


class SparseAttention(nn.Module):
    def __init__(self, width, heads, top_k, leaks):
        super().__init__()
        self.heads, self.top_k, self.leaks = heads, top_k, leaks
        self.indexer = Indexer(width, heads=4, dim=16)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)

    def forward(self, x):
        batch, length, width = x.shape
        causal = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        query, key, value = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = self.indexer(x.detach()).masked_fill(~causal, float("-inf"))
        picked = scores.topk(min(self.top_k, length), dim=-1).indices
        mask = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, picked, True)
        if not self.leaks:  # topk always picks k keys: of a query with fewer before it, some come after it
            mask = mask & causal
        out = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask.unsqueeze(1))
        return self.out(out.transpose(1, 2).reshape(batch, length, width)), self.index_loss(query, key, scores, causal)

    def index_loss(self, query, key, scores, causal):
        """KL of the indexer's distribution to the heads' mean dense attention, by which the indexer learns."""
        if not self.training:
            return 0.0
        logits = (query.detach() @ key.detach().transpose(-1, -2) * query.shape[-1] ** -0.5).masked_fill(~causal, -1e9)
        target, learned = logits.softmax(-1).mean(1), scores.masked_fill(~causal, -1e9).log_softmax(-1)
        return functional.kl_div(learned, target, reduction="none").sum(-1).mean()


class Block(nn.Module):
    def __init__(self, width, **attention):
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(2))
        self.attention = SparseAttention(width, **attention)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        out, loss = self.attention(self.norms[0](x))
        x = x + out
        return x + self.mlp(self.norms[1](x)), loss


class SparseModel(nn.Module):
    def __init__(self, top_k=16, leaks=False, width=128, heads=4, layers=2, positions=256):
        super().__init__()
        self.embed, self.place = nn.Embedding(VOCABULARY, width), nn.Embedding(positions, width)
        self.head = nn.Sequential(nn.RMSNorm(width), nn.Linear(width, VOCABULARY, bias=False))
        self.blocks = nn.ModuleList(Block(width, heads=heads, top_k=top_k, leaks=leaks) for _ in range(layers))

    def forward(self, input_ids):
        x, loss = self.embed(input_ids) + self.place(torch.arange(input_ids.shape[1], device=input_ids.device)), 0.0
        for block in self.blocks:
            x, own = block(x)
            loss = loss + own
        return self.head(x), loss


def load_sparse(weights, **settings):
    model = SparseModel(**settings)
    model.load_state_dict(torch.load(weights, weights_only=True))
    return model
