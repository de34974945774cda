"""Which operators cost how many FLOPs, as torch counts them and where torch does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count


def flop_counter() -> FlopCounterMode:
    """A counter that also knows the CPU's fused attention and the grouped products of experts.

    torch counts operators that it does not know as nothing: without this, a dense model's attention on the CPU and
    all routed experts would cost nothing. Softmax, topk, norms and all else that is no matrix product stay uncounted.
    """
    return FlopCounterMode(display=False, custom_mapping=_rules())


def _rules() -> dict[Any, Callable[..., int]]:
    rules: tuple[tuple[Any, str, Callable[..., int]], ...] = (
        (torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", _attention),
        (torch.ops.aten, "_grouped_mm", _grouped),
        (torch.ops.transformers, "grouped_mm_fallback", _grouped),
    )
    return {getattr(space, name): rule for space, name, rule in rules if hasattr(space, name)}


def _attention(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _grouped(rows: Any, weights: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """[tokens, inputs] x [experts, inputs, outputs], each token by one expert."""
    return int(2 * rows[0] * rows[1] * weights[-1])
