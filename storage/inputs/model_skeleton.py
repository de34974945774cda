"""A checkpoint's model without its weights, and what every way of loading shares: types, devices, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from indexscope.errors import IndexscopeError
from indexscope.foreign import words
from indexscope.storage.inputs.block_config import KEY as QUANTIZED
from indexscope.storage.inputs.block_config import block_scaled
from indexscope.storage.inputs.model_config import check_config
from indexscope.storage.inputs.quiet import quiet
from indexscope.storage.inputs.weight_files import read_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Dtype = Literal["float32", "bfloat16", "float16"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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
            made: PreTrainedModel = loader_of(config["model_type"]).from_config(parsed, **given)
    # A foreign configuration can fail anywhere inside transformers; the reason is in its own words.
    except Exception as error:
        raise unloadable(path, error) from error
    if block_scaled(config) is not None:
        for part in {id(one): one for one in (made.config, made.config.get_text_config(decoder=True))}.values():
            part.__dict__.pop(QUANTIZED, None)  # whoever loads its weights multiplies them out
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


def too_large(path: Path, device: str) -> IndexscopeError:
    """The error for weights that a device has no room for."""
    remedy = "use dtype bfloat16, another device, or a smaller model"
    return IndexscopeError(path, f"does not fit into the memory of {device}", remedy)


def loader_of(family: str) -> Any:
    """The class that loads a model type: causal language models, else those that also see and are saved as such."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    )

    known = family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or family not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    return AutoModelForCausalLM if known else AutoModelForImageTextToText


def unloadable(path: Path, error: Exception) -> IndexscopeError:
    """The error for whatever a foreign configuration made transformers raise."""
    remedy = "check that it is a causal language model saved with save_pretrained"
    return IndexscopeError(path, f"cannot be loaded ({words(error)})", remedy)
