"""Loading a causal language model with everything that could be wrong with it said in one line."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError

from indexscope.errors import IndexscopeError, is_out_of_memory
from indexscope.foreign import COPY_AGAIN, words
from indexscope.storage.inputs.model_config import check_config
from indexscope.storage.inputs.quiet import quiet
from indexscope.storage.inputs.safetensors_header import read_header
from indexscope.storage.inputs.weight_files import read_config, weight_files

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Dtype = Literal["float32", "bfloat16", "float16"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
#: Elements looked at together when weights are checked for NaN.
CHECKED_AT_ONCE = 1 << 24
#: A weight's name up to the number of its layer.
BLOCK = re.compile(r".*?\.\d+\.")
_log = logging.getLogger(__name__)


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


def load_skeleton(path: Path, dtype: Dtype | None = None) -> PreTrainedModel:
    """A checkpoint's model without its weights, on the meta device: it has its modules and their shapes.

    Args:
        path: Folder with config.json.
        dtype: Type that its weights would have; None for the configuration's.

    Raises:
        IndexscopeError: The folder is no checkpoint, or transformers cannot make its model.
    """
    from transformers import AutoConfig

    config = read_config(path)
    check_config(path, config)
    try:
        with quiet(), torch.device("meta"):
            given = {} if dtype is None else {"dtype": DTYPES[dtype]}
            parsed = AutoConfig.from_pretrained(path)
            made: PreTrainedModel = _loader(config["model_type"]).from_config(parsed, **given)
    # A foreign configuration can fail anywhere inside transformers; the reason is in its own words.
    except Exception as error:
        raise _unloadable(path, error) from error
    return made.eval()


def resolve_device(device: str) -> str:
    """Name the device that a setting means: "auto" is CUDA where there is one, else the CPU.

    Raises:
        IndexscopeError: It is no device that torch can use here.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    remedy = "choose auto, cpu, cuda or cuda:N"
    try:
        known = torch.device(device)
    except RuntimeError as error:
        raise IndexscopeError("device", f"{device!r} is unknown", remedy) from error
    if known.type not in ("cpu", "cuda"):
        raise IndexscopeError("device", f"{device!r} is not supported", remedy)
    if known.type == "cuda" and (known.index or 0) >= torch.cuda.device_count():
        reason = f"{device!r} is not here: torch sees {torch.cuda.device_count()} CUDA devices"
        raise IndexscopeError("device", reason, "choose auto or cpu, or install the CUDA build of torch")
    return device


def check_finite(model: torch.nn.Module, where: object) -> None:
    """Refuse a model with a weight, or a stored buffer, that is NaN or infinite; see `refuse_infinite`."""
    parameters = dict(model.named_parameters())
    stored = model.state_dict()  # holds the buffers that are saved, such as routing biases, and no scratch ones
    found = {**parameters, **{name: stored[name] for name in stored.keys() - parameters.keys()}}
    refuse_infinite({name: tensor for name, tensor in found.items() if isinstance(tensor, torch.Tensor)}, where)


def refuse_infinite(weights: Mapping[str, torch.Tensor], where: object) -> None:
    """Refuse weights that are NaN or infinite.

    Reads every one once where it lies, at the speed of memory (25 GB/s on one core of a desktop machine).

    Raises:
        IndexscopeError: It names the first such weight and how many of its elements are not finite.
    """
    for name, tensor in weights.items():
        if not tensor.is_floating_point():
            continue
        pieces = torch.split(tensor.detach().flatten(), CHECKED_AT_ONCE)
        if all(map(_is_finite, pieces)):
            continue
        bad = sum(int((~torch.isfinite(piece.float())).sum()) for piece in pieces)
        reason = f"weight {name} has {bad} of {tensor.numel()} elements that are NaN or infinite"
        raise IndexscopeError(where, reason, "use an intact checkpoint, or dtype float32 if this type overflowed")


def _is_finite(piece: torch.Tensor) -> bool:
    if not piece.numel():
        return True
    # Types of eight bits have no order of their own.
    low, high = (piece.float() if piece.element_size() == 1 else piece).aminmax()  # both are NaN if any element is
    return bool(torch.isfinite(low) & torch.isfinite(high))


def too_large(path: Path, device: str) -> IndexscopeError:
    """The error for weights that a device has no room for."""
    remedy = "use dtype bfloat16, another device, or a smaller model"
    return IndexscopeError(path, f"does not fit into the memory of {device}", remedy)


def _loader(family: str) -> Any:
    """The class that loads a model type: causal language models, else those that also see and are saved as such."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    )

    known = family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or family not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    return AutoModelForCausalLM if known else AutoModelForImageTextToText


def _from_pretrained(path: Path, family: str, dtype: torch.dtype) -> tuple[PreTrainedModel, dict[str, Any]]:
    try:
        with quiet():
            loaded: Any = _loader(family).from_pretrained(
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
        raise _unloadable(path, error) from error
    model, info = loaded
    return model, info


def _unloadable(path: Path, error: Exception) -> IndexscopeError:
    remedy = "check that it is a causal language model saved with save_pretrained"
    return IndexscopeError(path, f"cannot be loaded ({words(error)})", remedy)


def check_loading(path: Path, info: dict[str, Any], model: torch.nn.Module) -> None:
    """Refuse a checkpoint that is not what its configuration says.

    Args:
        path: Its folder.
        info: What transformers says of loading it: keys that are missing, unexpected or of another shape, and errors.
        model: The model.

    Raises:
        IndexscopeError: It names the first such weight.
    """
    remedy = "save the whole model again; a weight that is not in the file would be random"
    missing = sorted(info["missing_keys"])
    if missing:
        reason = f"lacks weights that the model needs: {len(missing)}, first {missing[0]}"
        raise IndexscopeError(path, reason, remedy)
    mismatched = sorted(info["mismatched_keys"])
    if mismatched:
        name, stored, needed = mismatched[0]
        reason = f"weight {name} has shape {tuple(stored)} where config.json asks for {tuple(needed)}"
        raise IndexscopeError(path, reason, "use the config.json that belongs to these weights")
    if info["error_msgs"]:
        raise IndexscopeError(path, f"cannot be loaded ({info['error_msgs'][0]})", remedy)
    unexpected = sorted(info["unexpected_keys"])
    known = {match[0] for name, _ in model.named_parameters() if (match := BLOCK.match(name))}
    foreign = [name for name in unexpected if (match := BLOCK.match(name)) and match[0] in known]
    if foreign:
        # An indexer or a scale that its own layer would not use: another model than the one that was trained.
        reason = f"has weights that its layers would not use: {len(foreign)}, first {foreign[0]}"
        raise IndexscopeError(path, reason, "use the config.json that belongs to these weights")
    if unexpected:
        # Extra heads (multi-token prediction, value heads) are common and change nothing here.
        _log.warning("%s: weights that the model does not use: %d, first %s", path, len(unexpected), unexpected[0])
