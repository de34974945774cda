"""Loading a causal language model with everything that could be wrong with it said in one line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from indexscope.errors import IndexscopeError, is_out_of_memory
from indexscope.foreign import COPY_AGAIN, words
from indexscope.storage.inputs.block_config import block_scaled
from indexscope.storage.inputs.model_config import check_config
from indexscope.storage.inputs.model_skeleton import DTYPES, Dtype, loader_of, resolve_device, too_large, unloadable
from indexscope.storage.inputs.quiet import quiet
from indexscope.storage.inputs.safetensors_header import read_header
from indexscope.storage.inputs.weight_checks import check_finite, check_loading
from indexscope.storage.inputs.weight_files import read_config, weight_files

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_model(path: Path, dtype: Dtype = "float32", device: str = "auto") -> PreTrainedModel:
    """Load a checkpoint folder for inference: safetensors only, no remote code, no network.

    Safe to call from several threads: loads happen one at a time. Gradients are off.

    Args:
        path: Folder with config.json and safetensors files.
        dtype: Type of the weights in memory.
        device: "auto" (CUDA if there is one), "cpu", "cuda" or "cuda:N".

    Raises:
        IndexscopeError: The folder is no checkpoint; weights are pickled, truncated, missing, of another shape, or not
            finite; the model needs code that transformers does not have; the device does not exist or is too small.
    """
    target = resolve_device(device)
    if dtype not in DTYPES:
        raise IndexscopeError("dtype", f"{dtype!r} is unknown", f"choose one of {', '.join(DTYPES)}")
    config = read_config(path)
    check_config(path, config)
    stored = {tensor.name for file in weight_files(path) for tensor in read_header(file).tensors}
    if not stored:
        raise IndexscopeError(path, "holds no weights", "save the model with save_pretrained")
    if block_scaled(config) is not None:
        from indexscope.storage.inputs.streamed.weights import StreamedWeights

        weights = StreamedWeights(path, dtype, target)
        weights.load(weights.model)
        return weights.model.requires_grad_(False)
    model, info = _from_pretrained(path, config["model_type"], DTYPES[dtype])
    check_loading(path, info, model)
    try:
        torch.nn.Module.to(model, target)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise too_large(path, target) from error
    check_finite(model, path)
    model.train(False)
    model.requires_grad_(False)
    return model


def _from_pretrained(path: Path, family: str, dtype: torch.dtype) -> tuple[PreTrainedModel, dict[str, Any]]:
    try:
        with quiet():
            loaded: Any = loader_of(family).from_pretrained(
                path,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
                # Reported by check_loading, in one line.
                ignore_mismatched_sizes=True,
            )
    except SafetensorError as error:
        raise IndexscopeError(path, f"has unreadable weights ({words(error)})", COPY_AGAIN) from error
    # A foreign configuration can fail anywhere inside transformers; the reason is in its own words.
    except Exception as error:
        if is_out_of_memory(error):
            raise too_large(path, "cpu") from error
        raise unloadable(path, error) from error
    model, info = loaded
    return model, info
