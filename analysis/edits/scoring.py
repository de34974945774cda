"""Inside an indexer's forward: its queries and keys, rounded as a kernel of another precision would take them."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from indexscope.analysis.capture.indexer import PRECISION, WatchTopk
from indexscope.analysis.edits.edit import Precision

MATMUL = (torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__)
Round = Callable[[torch.Tensor], torch.Tensor]
"""From vectors [..., width], to be multiplied with others of that width, to what a kernel makes of them."""

FP8_LARGEST, INT8_LARGEST = torch.finfo(torch.float8_e4m3fn).max, 127.0
#: Magnitudes of e2m1: a sign, two bits of exponent, one of mantissa.
FP4_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
#: Values that share a scale, a power of two (OCP Microscaling Formats 1.0, MXFP4).
FP4_BLOCK = 32


def as_fp8(vectors: torch.Tensor) -> torch.Tensor:
    """float8_e4m3fn with one scale a vector, as DeepGEMM's fp8_mqa_logits takes queries and keys."""
    step = _largest(vectors) / FP8_LARGEST
    rounded: torch.Tensor = (vectors / step).clamp(-FP8_LARGEST, FP8_LARGEST).to(torch.float8_e4m3fn).float()
    return rounded * step


def as_int8(vectors: torch.Tensor) -> torch.Tensor:
    """Whole numbers up to 127 with one scale a vector."""
    step = _largest(vectors) / INT8_LARGEST
    return (vectors / step).round() * step


def as_fp4(vectors: torch.Tensor) -> torch.Tensor:
    """e2m1 with one scale every 32 values, a power of two: 2^(floor(log2 max) - 2), as in MXFP4."""
    width = vectors.shape[-1]
    padded = nn.functional.pad(vectors, (0, -width % FP4_BLOCK)).view(*vectors.shape[:-1], -1, FP4_BLOCK)
    step = torch.exp2(_largest(padded).log2().floor() - 2)
    values = padded.new_tensor(FP4_VALUES)
    middles = (values[1:] + values[:-1]) / 2
    # Ties go to the value whose mantissa bit is zero.
    size = (padded / step).abs()
    low, high = torch.bucketize(size, middles), torch.bucketize(size, middles, right=True)
    nearest = torch.where(low % 2 == 0, low, high)
    return (values[nearest] * padded.sign() * step).flatten(-2)[..., :width]


def rotated(round_: Round) -> Round:
    """Rounding after a Hadamard rotation, which spreads outliers and leaves products as they are.

    Source: `rotate_activation` in DeepSeek-V3.2-Exp's inference code. Widths that are no power of two are not rotated.
    """

    def rounded(vectors: torch.Tensor) -> torch.Tensor:
        width = vectors.shape[-1]
        if width & (width - 1):
            return round_(vectors)
        return round_(vectors @ _hadamard(width).to(vectors))

    return rounded


def _cast(dtype: torch.dtype) -> Round:
    return lambda vectors: vectors.to(dtype).float()


ROUNDED: dict[Precision, Round] = {
    "bfloat16": _cast(torch.bfloat16),
    "float16": _cast(torch.float16),
    "fp8": rotated(as_fp8),
    "fp4": rotated(as_fp4),
    "int8": rotated(as_int8),
}


@lru_cache(maxsize=8)
def _hadamard(width: int) -> torch.Tensor:
    matrix = torch.ones(1, 1)
    while len(matrix) < width:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix.mul(width**-0.5)


def _largest(vectors: torch.Tensor) -> torch.Tensor:
    """The largest magnitude, [..., 1]; 1 where all are zero."""
    largest = vectors.abs().amax(-1, keepdim=True)
    return torch.where(largest > 0, largest, 1.0)


@dataclass
class Operands:
    """What an indexer multiplied last in this thread.

    Attributes:
        query: [batch, queries, heads, width].
        key: [batch, keys, width].
        weights: w[t, j], [batch, queries, heads].
    """

    query: torch.Tensor
    key: torch.Tensor
    weights: torch.Tensor


class _Last(threading.local):
    def __init__(self) -> None:
        self.of: weakref.WeakKeyDictionary[nn.Module, Operands] = weakref.WeakKeyDictionary()
        self.open: list[_Scoring] = []


_last = _Last()


def operands_of(indexer: nn.Module) -> Operands:
    """What an indexer under `watch_scoring` multiplied last in this thread."""
    return _last.of[indexer]


class _Scoring(WatchTopk):
    """Rounds both sides of the product that makes the head scores: the first one before ReLU.

    In all families that score tokens queries come as [batch, queries, heads, width], keys as [batch, 1, width, keys].
    """

    def __init__(self, precision: Precision | None) -> None:
        super().__init__(heads=True)
        self.precision = precision
        self.operands: tuple[torch.Tensor, torch.Tensor] | None = None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in MATMUL and self.operands is None:
            query, key = args[0], args[1].transpose(-1, -2)
            if self.precision is not None:
                query, key = ROUNDED[self.precision](query), ROUNDED[self.precision](key)
            self.operands = query, key
            return torch.matmul(query, key.transpose(-1, -2))
        return super().__torch_function__(func, types, args, kwargs)


def mark_precision(indexer: nn.Module, precision: Precision, undo: ExitStack) -> None:
    """Have an indexer's cost count in a precision."""
    setattr(indexer, PRECISION, precision)
    undo.callback(delattr, indexer, PRECISION)


def watch_scoring(indexer: nn.Module, precision: Precision | None, undo: ExitStack) -> None:
    """Round what an indexer multiplies from now on, and keep it until the indexer runs again.

    Args:
        indexer: Of a family that scores tokens.
        precision: What queries and keys are rounded to; None leaves them.
        undo: Takes what ends it.
    """
    if precision is not None:
        mark_precision(indexer, precision, undo)

    def enter(*_: object) -> None:
        mode = _Scoring(precision)
        mode.__enter__()  # type: ignore[no-untyped-call]
        _last.open.append(mode)

    def leave(module: nn.Module, *_: object) -> None:
        mode = _last.open.pop()
        mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        if mode.operands is not None and mode.weights:
            query, key = mode.operands
            weights = mode.weights[-1].reshape(query.shape[:3])
            _last.of[module] = Operands(query, key.squeeze(1), weights)

    undo.callback(indexer.register_forward_pre_hook(enter).remove)
    undo.callback(indexer.register_forward_hook(leave, always_call=True).remove)
