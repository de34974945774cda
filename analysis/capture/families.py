"""What is known of each family of lightning indexers, and the generic shape for those that nobody has described."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from indexscope.analysis.capture.chunk import EntryKind
from indexscope.analysis.capture.indexer import Seen, indexers
from indexscope.analysis.capture.readers import (
    read_blocks,
    read_compressed,
    read_groups,
    read_pools,
    read_tokens,
    read_unknown,
)
from indexscope.analysis.capture.site import Reading, Site

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """How one family is read, and what docs/families.md says of it.

    Attributes:
        name: As in docs/families.md.
        read: Tells selection and scores from what the attention was called with and what the indexer showed.
        skip: What an indexer that scores nothing would return, given its arguments; None where it has to run.
        additive: Whether the layers need a float mask because they join further columns to it; None lets the model's
            own support for sdpa decide.
        uniform_blanks: In its layers with an indexer, a query that sees no key gets the mean of all values, later
            ones included. Its indexer scores padding, so that this reaches the tokens: left padding runs in one chunk.
        kind: What an entry is, in one word.
        grouped: Whether groups of heads select for themselves.
        forced: Whether some keys are visible whatever the indexer says.
        heads: Whether single indexer heads add up to the score, and can be told apart.
        layers: Which layers select.
        entry: What an entry is.
        scored: What the index score of an entry is.
        selection: How the selection comes about.
        always: What is visible whatever the indexer says.
        dense: What recall is measured against.
        nulls: What is null, and why.
        chunked: Whether a sequence in chunks gives what it gives whole.
        padding: Where padding changes what the family computes.
        precision: What its indexers score in when served, of `indexscope.analysis.conventions.TIME`; None where nothing
            is published, so that their operations count whole.
    """

    name: str
    read: Callable[[Site, Seen | None], Reading]
    skip: Callable[[Arguments], torch.Tensor] | None = None
    additive: bool | None = None
    uniform_blanks: bool = False
    kind: EntryKind = "token"
    grouped: bool = False
    forced: bool = False
    heads: bool = True
    layers: str = "all"
    entry: str = "a token"
    scored: str = "Σ_j w[t,j] · ReLU(q[t,j] · k[s])"
    selection: str = "the top index_topk of E_t"
    always: str = "nothing"
    dense: str = "E_t"
    nulls: str = "none"
    chunked: str = "yes"
    padding: str = "no effect"
    precision: str | None = None


def _no_keys(arguments: Arguments) -> torch.Tensor:
    hidden: torch.Tensor = arguments["hidden_states"]
    return hidden.new_zeros((*hidden.shape[:2], 0), dtype=torch.int32)


def _no_entries(arguments: Arguments) -> torch.Tensor:
    return _no_keys(arguments).long()


def _no_blocks(arguments: Arguments) -> torch.Tensor:
    return _no_entries(arguments).unsqueeze(1)


def _every_key(arguments: Arguments) -> torch.Tensor:
    hidden: torch.Tensor = arguments["hidden_states"]
    return hidden.new_ones((1, 1, 1, 1), dtype=torch.bool)


SHARING = "all; some share an earlier layer's selection"
SHARED = "scores in layers that share a selection: they compute none"

KNOWN: dict[str, Family] = {
    # Both are served with DeepGEMM's fp8_mqa_logits (vllm-project/vllm#48576, sgl-project/sglang#32947).
    "DeepseekV32Indexer": Family("deepseek_v32", read_tokens, _no_keys, precision="fp8"),
    "GlmMoeDsaIndexer": Family("glm_moe_dsa", read_tokens, _no_keys, layers=SHARING, nulls=SHARED, precision="fp8"),
    "AXK2Indexer": Family("axk2", read_tokens, _no_keys),
    "Dots3NoteTextIndexer": Family(
        "dots3_note", read_tokens, _no_keys, layers="those of full attention; the others have a sliding window",
        nulls="selection and scores in sliding-window layers: they have no indexer",
    ),
    "HYV4Indexer": Family(
        # Its own attention is eager only because of the sinks, but it hands its mask on as it is.
        "hy_v4", read_tokens, _no_keys, additive=False, layers=SHARING,
        always="nothing; a learned sink takes weight but is no key",
        dense="E_t, without the sink's weight", nulls=SHARED,
    ),
    "MistralLarge4TextIndexer": Family(
        "mistral_large4", read_tokens, _no_keys, layers=SHARING, nulls=SHARED,
        padding="left padding moves the positions, by which queries are scaled, as in the model",
    ),
    "DeepseekV4Indexer": Family(
        "deepseek_v4", read_compressed, _no_entries, additive=True, kind="compressed", forced=True,
        layers="compressed_sparse_attention; heavily_compressed_attention sees every entry, sliding_attention none",
        entry="a compressed key of 2m tokens, one every m (of m' tokens, one every m', where heavily compressed)",
        selection="the top index_topk of the entries whose last token is not after t",
        always="the window of tokens; a learned sink takes weight but is no key",
        dense="the window and every entry that is ready, without the sink's weight",
        nulls="selection and scores in layers without an indexer; scores of chunks before the first entry",
        padding="left padding is pooled into the entries, as in the model",
    ),
    "Glm5NextTextIndexer": Family(
        "glm5_next", read_pools, _no_keys, kind="pool", forced=True,
        layers="indexed_attention, some sharing an earlier layer's selection; linear_attention has no map",
        entry="a pool of index_kpool tokens, counted from the first token",
        selection="the top index_topk / index_kpool of the complete pools", always="the tokens of the incomplete pool",
        nulls=SHARED + "; scores of chunks before the first complete pool",
    ),
    "Qwen4ExpTextQSAIndexer": Family(
        "qwen4_exp", read_blocks, _every_key, kind="block", forced=True,
        layers="indexed_attention; linear_attention has no map",
        entry="a block of indexer_compress_ratio tokens, counted from the first token",
        scored="Σ_j ReLU(q[t,j] · k[s]) / sqrt(d), k from the mean of the block",
        selection="the top indexer_budget / indexer_compress_ratio of the complete blocks",
        always="the tokens of the incomplete block", nulls="scores of chunks before the first complete block",
    ),
    "MiniMaxM3VLIndexer": Family(
        "minimax_m3_vl", read_groups, _no_blocks, uniform_blanks=True, kind="block", grouped=True, forced=True,
        heads=False, layers="minimax_m3_sparse; full_attention has no indexer",
        entry="a block of index_block_size keys, counted from index 0",
        scored="max of q[t,g] · k[s] over the block, by key-value group g",
        selection="the top index_topk_blocks, local ones included, by key-value group",
        always="the index_local_blocks blocks up to the query's own",
        nulls="head scores and weights: one head scores for a group, without ReLU; selection and scores in layers "
        "without an indexer",
        chunked="yes; with left padding in one chunk",
        padding="left padding shifts the blocks, is scored, and can be chosen, as in the model",
    ),
}  # fmt: skip

UNKNOWN = Family(
    "any other", read_unknown, layers="those with a module named *Indexer",
    scored="what goes into its one topk, by key", selection="passed on as indices=, or put into the layer's mask",
    nulls="head scores, unless one ReLU and one product with weights make the score",
    chunked="if the model's own cache is exact",
)  # fmt: skip
DENSE = Family("no indexer", read_unknown)


def family_of(model: nn.Module) -> Family:
    """The family of a model's indexers by their class; `UNKNOWN` for a class that is not described here."""
    found = indexers(model)
    return KNOWN.get(type(found[0]).__name__, UNKNOWN) if found else DENSE
