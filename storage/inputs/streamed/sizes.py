"""How large a checkpoint's parts are in memory, told by its modules alone, and how fast its files can be read."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter

from indexscope.errors import IndexscopeError
from indexscope.storage.inputs.model_skeleton import DTYPES, Dtype, load_skeleton
from indexscope.storage.inputs.streamed.layers import decoder_layers
from indexscope.storage.inputs.streamed.routed import fused, routed_share
from indexscope.storage.inputs.streamed.stacked import stacks
from indexscope.storage.inputs.weight_files import weight_files

#: Bytes that are read to see how fast a disk is.
TRIED = 64 << 20


@dataclass(frozen=True)
class Sizes:
    """What a model takes in memory, in bytes, and what a token passes through.

    Attributes:
        whole: All weights; tied ones count once.
        largest: What the largest decoder layer takes while it is loaded: with what it is made from, where that is not
            read into its place.
        first: The same of the first one, which needs the embedding beside it.
        others: What is neither in a layer nor in the embedding or the output head.
        ends: The larger one of embedding and output head.
        token: Parameters that a token meets: of experts those that it is routed to.
        state: Outputs of one layer for one token: its hidden state, in all streams where it has several.
        routed: Whether it has experts, which are read as tokens are routed to them.
    """

    whole: int
    largest: int
    first: int
    others: int
    ends: int
    token: float
    state: int
    routed: bool

    @property
    def streamed(self) -> int:
        """Weights that are in memory at once, at most."""
        return max(self.largest, self.first, self.ends) + self.others


def sizes(path: Path, dtype: Dtype) -> Sizes:
    """Look at the modules of a checkpoint's model; no weight is read.

    Raises:
        IndexscopeError: Transformers cannot make its model, or it has no list of decoder layers.
    """
    model = load_skeleton(path, dtype)
    layers = decoder_layers(model)
    inlet, outlet = model.get_input_embeddings(), model.get_output_embeddings()
    ends = [_bytes(part) for part in (inlet, outlet) if part is not None]
    whole, inside = _bytes(model), _bytes(layers)
    tied = outlet is not None and bool(getattr(model, "all_tied_weights_keys", None))
    config = model.config.get_text_config(decoder=True)
    share = routed_share(config)
    token = sum(one.numel() * (share if one.ndim == 3 else 1.0) for one in layers.parameters())
    loading = _loading(model)
    streams = next((n for name in ("hc_mult", "hc_count") if isinstance(n := getattr(config, name, None), int)), 1)
    return Sizes(
        whole=whole,
        largest=max(map(loading, layers)),
        first=loading(layers[0]) + (0 if inlet is None else _bytes(inlet)),
        others=max(0, whole - inside - (max(ends) if tied else sum(ends))),
        ends=max(ends),
        token=token + (0 if outlet is None else sum(one.numel() for one in outlet.parameters())),
        state=config.hidden_size * streams * DTYPES[dtype].itemsize,
        routed=any(map(fused, layers.modules())),
    )


def reading_speed(path: Path) -> float | None:
    """Bytes a second that a checkpoint's largest file gives, its end being read once; None where that cannot be seen.

    What the system has of the file in memory is let go of first, where the system does so.
    """
    try:
        file = max(weight_files(path), key=lambda one: one.stat().st_size)
        size = file.stat().st_size
        with file.open("rb", buffering=0) as opened:
            start = max(0, size - TRIED)
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(opened.fileno(), start, 0, os.POSIX_FADV_DONTNEED)
            opened.seek(start)
            began = time.perf_counter()
            while opened.read(1 << 20):
                pass
            seconds = time.perf_counter() - began
    except (OSError, IndexscopeError):
        return None
    return min(size, TRIED) / seconds if seconds > 0 else None


def _loading(model: PreTrainedModel) -> Callable[[nn.Module], int]:
    """What gives the bytes that a part of a model takes while it is loaded.

    Whatever transformers makes of several stored tensors is there beside them; experts are read into their place.
    """
    mapping = get_model_conversion_mapping(model, None, None)
    made = [one for one in mapping if isinstance(one, WeightConverter) and not stacks(one)]
    patterns = [re.compile(re.sub(r"\\\d", ".*", pattern)) for one in made for pattern in one.target_patterns]

    def loading(part: nn.Module) -> int:
        twice = [one for name, one in part.named_parameters() if any(found.search(name) for found in patterns)]
        return _bytes(part) + sum(one.numel() * one.element_size() for one in twice)

    return loading


def _bytes(module: nn.Module) -> int:
    return sum(one.numel() * one.element_size() for one in module.parameters())
