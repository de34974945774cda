"""The dimensions of DeepSeek-V3.2, to project costs to the model that the lightning indexer was published with."""

from __future__ import annotations

from indexscope.analysis.conventions import TIME
from indexscope.analysis.flops import AttentionLayer, Shape

THIS = "this checkpoint"
DEEPSEEK_V32 = "DeepSeek-V3.2"

# config.json of deepseek-ai/DeepSeek-V3.2-Exp (hub), which transformers' DeepseekV32Config has as its defaults.
LAYERS = 61
HEADS = 128
QK_NOPE_WIDTH, QK_ROPE_WIDTH, VALUE_WIDTH = 128, 64, 128
LATENT_WIDTH = 512
HIDDEN, QUERY_RANK = 7168, 1536
INDEXER_HEADS, INDEXER_WIDTH = 64, 128
TOP_K = 2048
# wq_b, wk and weights_proj, with weight and bias of the norm of the keys.
INDEXER_PARAMETERS = (
    QUERY_RANK * INDEXER_HEADS * INDEXER_WIDTH + HIDDEN * INDEXER_WIDTH + HIDDEN * INDEXER_HEADS + 2 * INDEXER_WIDTH
)


def deepseek_v32() -> Shape:
    """DeepSeek-V3.2 (arXiv 2512.02556), every layer sparse with an indexer of its own, which scores in FP8."""
    pair = 2.0 * HEADS * (QK_NOPE_WIDTH + QK_ROPE_WIDTH + VALUE_WIDTH)
    latent = 2.0 * HEADS * (LATENT_WIDTH + QK_ROPE_WIDTH + LATENT_WIDTH)
    return Shape(
        attention=(AttentionLayer(pair, None, True, latent=latent),) * LAYERS,
        indexer_pair=2.0 * LAYERS * INDEXER_HEADS * (INDEXER_WIDTH + 1),
        indexer_token=2.0 * LAYERS * INDEXER_PARAMETERS,
        top_k=TOP_K,
        indexer_time=TIME["fp8"],
    )
