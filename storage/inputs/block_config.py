"""What a configuration says of weights in float8 with a scale for each block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

METHOD, KEY = "fp8", "quantization_config"


def block_scaled(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a configuration says of its block-scaled weights; None where they are stored otherwise.

    Args:
        config: The content of config.json.
    """
    text = config.get("text_config")
    for part in (config, text if isinstance(text, dict) else {}):
        told = part.get(KEY)
        if isinstance(told, dict) and told.get("quant_method") == METHOD and blocks_of(told) is not None:
            return told if str(told.get("fmt", "e4m3")) == "e4m3" else None
    return None


def blocks_of(told: Mapping[str, Any]) -> tuple[int, int] | None:
    """Rows and columns of a block; None where it says nothing that can be meant."""
    size = told.get("weight_block_size", (128, 128))
    if not isinstance(size, (list, tuple)) or len(size) != 2 or not all(type(one) is int and one > 0 for one in size):
        return None
    return size[0], size[1]
