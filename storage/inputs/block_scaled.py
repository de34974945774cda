"""Weights in float8 with a scale for each block (DeepSeek's fp8 checkpoints), multiplied out while they are loaded.

Technique: a weight w in float8_e4m3 lies beside ``weight_scale_inv``, one number s for each block of 128 x 128, and
stands for w * s. Transformers' own loader pairs them and calls its Fp8Dequantize; here it may be called where
transformers' quantiser asks for packages and GPUs that the multiplication does not need, and blocks that are cut off
at the edge of a weight, as of a latent of 576 channels, are scaled as they were meant.
Source: https://github.com/deepseek-ai/DeepSeek-V3/blob/main/inference/kernel.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.core_model_loading import build_glob_alternation
from transformers.integrations.finegrained_fp8 import Fp8Dequantize
from transformers.quantizers.quantizer_finegrained_fp8 import FineGrainedFP8HfQuantizer
from transformers.utils.quantization_config import FineGrainedFP8Config

from indexscope.storage.inputs.block_config import blocks_of


def multiplied_out(told: Mapping[str, Any], dtypes: WantedTypes) -> FineGrainedFP8HfQuantizer:
    """What transformers' loader asks about such weights.

    Args:
        told: As `block_scaled` gives it.
        dtypes: Of the model's weights in memory.
    """
    blocks = blocks_of(told)
    assert blocks is not None
    return _Quantizer(blocks, dtypes)


def grid(shape: Sequence[int], blocks: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the scales of a weight; blocks at its edge may be cut off.

    >>> grid((576, 256), (128, 128))
    (5, 2)
    """
    return -(-shape[-2] // blocks[0]), -(-shape[-1] // blocks[1])


def multiplied(
    quantized: torch.Tensor, scales: torch.Tensor, blocks: tuple[int, int], dtype: torch.dtype | None
) -> torch.Tensor:
    """What a weight in float8 stands for.

    Args:
        quantized: [..., rows, columns].
        scales: One for each block, as `grid` has them.
        blocks: Rows and columns of a block.
        dtype: Of the result; None for float32, in which it is computed.
    """
    rows, columns = quantized.shape[-2:]
    wide = scales.float().repeat_interleave(blocks[0], -2)[..., :rows, :]
    wide = wide.repeat_interleave(blocks[1], -1)[..., :columns]
    return wide.mul_(quantized.float()).to(dtype or torch.float32)


class WantedTypes:
    """The type of each weight in memory.

    Args:
        model: Whose.
        dtype: Of all that the model does not want in another one.
    """

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype) -> None:
        self._dtype, self._plan = dtype, model._get_dtype_plan(dtype)
        if self._plan:
            self._known, self._names, _ = build_glob_alternation(list(self._plan))

    def of(self, name: str) -> torch.dtype:
        """Of the weight of this name."""
        found = self._known.search(name) if self._plan else None
        return self._dtype if found is None else self._plan[self._names[found.lastgroup]]


class _Quantizer(FineGrainedFP8HfQuantizer):  # type: ignore[misc]  # transformers is untyped
    """Never replaces a module: weights are numbers of the model's type as soon as they are loaded."""

    def __init__(self, blocks: tuple[int, int], dtypes: WantedTypes) -> None:
        super().__init__(FineGrainedFP8Config(weight_block_size=blocks, dequantize=True), pre_quantized=True)
        self.dtypes = dtypes

    def get_load_operations(self) -> dict[str, type[Fp8Dequantize]]:
        return {"dequantize": _Dequantize}


class _Dequantize(Fp8Dequantize):  # type: ignore[misc]  # transformers is untyped
    def _get_target_dtype(self, model: Any, full_layer_name: str | None) -> torch.dtype:
        found: torch.dtype = self.hf_quantizer.dtypes.of(full_layer_name or "")
        return found

    def _dequantize_one(
        self, quantized: torch.Tensor, scales: torch.Tensor, output_dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        blocks: tuple[int, int] = self.hf_quantizer.quantization_config.weight_block_size
        fits = tuple(scales.shape[-2:]) == grid(quantized.shape, blocks)
        if quantized.dtype != torch.float8_e4m3fn or not fits or scales.element_size() < 2:
            out: torch.Tensor = super()._dequantize_one(quantized, scales, output_dtype=output_dtype)
            return out
        return multiplied(quantized, scales, blocks, output_dtype)

    def convert(self, input_dict: Any, full_layer_name: str | None = None, model: Any = None, **kwargs: Any) -> Any:
        """As transformers', but that what has no scale gets the type of its place in the model too."""
        made = super().convert(input_dict, full_layer_name=full_layer_name, model=model, **kwargs)
        dtype = self._get_target_dtype(model, full_layer_name)
        return {key: self._cast(value, dtype) for key, value in made.items()}

    def _cast(self, value: Any, dtype: torch.dtype) -> Any:
        if isinstance(value, list):
            return [self._cast(one, dtype) for one in value]
        return value.to(dtype) if value.is_floating_point() else value
