"""By what convention an operation counts: which heads attend, and in what precision the indexer scores.

Multi-head latent attention runs in either of two modes that give the same output. As *MHA* every head has keys and
values of its own, expanded from the latents. As *MQA* all heads share the latents as keys and values: of DeepSeek-V3.2
576 and 512 channels a head and pair instead of 192 and 128, 3.4 times as many operations, and far less memory traffic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: Tensor-core time of an operation relative to one in bf16, by the precision that an indexer scores in when served
#: (dense rates of NVIDIA's H100 and B200 datasheets; FP4 from Blackwell on).
TIME: Mapping[str, float] = {"fp8": 0.5, "int8": 0.5, "fp4": 0.25}


@dataclass(frozen=True)
class Convention:
    """How the cost of sparse attention is held against that of dense attention.

    Attributes:
        name: In tables and in the report.
        sparse_latent: Whether layers that attend to a selection work on the latents, where they have any.
        dense_latent: Whether dense attention does.
        precision: Whether an operation of the indexer counts by its time in the precision that it is served in.
        meaning: In words.
    """

    name: str
    sparse_latent: bool
    dense_latent: bool
    precision: bool
    meaning: str


SERVED = Convention(
    "as served",
    sparse_latent=True,
    dense_latent=False,
    precision=True,
    meaning="sparse attention as latent MQA and dense prefill as MHA, operations of an FP8 indexer counting half",
)
EXPANDED = Convention(
    "MHA against MHA",
    sparse_latent=False,
    dense_latent=False,
    precision=False,
    meaning="both with keys and values of each head's own, every operation counting whole",
)
MIXED = Convention(
    "MQA against MHA",
    sparse_latent=True,
    dense_latent=False,
    precision=False,
    meaning="sparse attention on the latents, dense attention not, every operation counting whole",
)
LATENT = Convention(
    "MQA against MQA",
    sparse_latent=True,
    dense_latent=True,
    precision=False,
    meaning="both on the latents, as in decoding, every operation counting whole",
)
CONVENTIONS = (SERVED, EXPANDED, MIXED, LATENT)
