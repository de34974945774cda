"""What config.json may say: checked before anything that reads it, so that the key at fault is told by its name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError
from transformers import CONFIG_MAPPING, PreTrainedConfig

from indexscope.errors import IndexscopeError
from indexscope.foreign import reading, words
from indexscope.storage.inputs.block_config import KEY, METHOD, block_scaled
from indexscope.storage.inputs.quiet import quiet

#: Keys that count something, of whatever family; a model has at least one of each.
COUNTS = (
    *("num_hidden_layers", "n_layer", "hidden_size", "n_embd", "num_attention_heads", "n_head", "vocab_size"),
    *("max_position_embeddings", "n_positions", "index_n_heads", "index_head_dim", "index_topk"),
)
OWN_CONFIG = "use the config.json that belongs to these weights"
#: Methods that say nothing of how weights lie in a safetensors file.
ELSEWHERE = {"gguf"}


def check_config(path: Path, config: dict[str, Any]) -> PreTrainedConfig:
    """Refuse a configuration that transformers' own code cannot serve from this folder's safetensors alone.

    Args:
        path: The checkpoint's folder.
        config: The content of its config.json, which names a model type.

    Returns:
        The configuration as its family's own class reads it.

    Raises:
        IndexscopeError: The model type is unknown or needs remote code, weights lie elsewhere or beside an adapter, a
            key is not of the type or in the range that the family has, or the weights are stored in a way that this
            installation cannot read.
    """
    file, family = path / "config.json", config["model_type"]
    if family not in CONFIG_MAPPING:
        reason, remedy = f"model type {family!r} is unknown to transformers", "upgrade transformers"
        if "auto_map" in config:
            reason = f"model type {family!r} needs code of its own"
            remedy = "write a loader that imports that code (docs/own-models.md); it is never run by itself"
        raise IndexscopeError(file, reason, remedy)
    if "transformers_weights" in config:
        reason = "names a weight file of its own (transformers_weights)"
        raise IndexscopeError(file, reason, "save the model again with save_pretrained")
    if (path / "adapter_config.json").is_file():
        reason = "holds an adapter beside the model"
        raise IndexscopeError(path, reason, "merge it into the model and save that, or remove adapter_config.json")
    parts = {"": config, "text_config.": config.get("text_config")}
    for prefix, part in parts.items():
        if isinstance(part, dict):
            _check_counts(file, prefix, part)
            _check_quantization(file, prefix, part.get("quantization_config"))
    parsed = _parsed(file, family, config)
    quantised = any(isinstance(part, dict) and part.get("quantization_config") for part in parts.values())
    if quantised and block_scaled(config) is None:
        _check_quantizer(file, parsed)
    return parsed


def _check_counts(file: Path, prefix: str, part: dict[str, Any]) -> None:
    for key in COUNTS:
        value = part.get(key)
        # A family may give one number a layer; whether this one does, its own class knows.
        if isinstance(value, (int, float, str)) and (type(value) is not int or value < 1):
            raise IndexscopeError(f"{file}: {prefix}{key}", f"is {value!r}, not a whole number above 0", OWN_CONFIG)


def _check_quantization(file: Path, prefix: str, quantization: Any) -> None:
    """Transformers passes over a method that it does not know, and takes the stored numbers for the weights."""
    if quantization is None:
        return
    where = f"{file}: {prefix}quantization_config"
    if not isinstance(quantization, dict):
        raise IndexscopeError(where, f"is {quantization!r}, not an object", OWN_CONFIG)
    method = quantization.get("quant_method")
    if method == "bitsandbytes" or quantization.get("load_in_8bit") or quantization.get("load_in_4bit"):
        return
    blocks = quantization.get("weight_block_size")
    if method == METHOD and block_scaled({KEY: quantization}) is None and (blocks is not None or "fmt" in quantization):
        reason = f"float8 of fmt {quantization.get('fmt', 'e4m3')!r} in blocks of {blocks!r} is unknown here"
        raise IndexscopeError(where, reason, _other_storage())
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

    if not isinstance(method, str) or method not in AUTO_QUANTIZER_MAPPING:
        said = "names no quant_method" if method is None else f"quant_method {method!r} is unknown to transformers"
        raise IndexscopeError(where, said, _other_storage())


def _check_quantizer(file: Path, parsed: PreTrainedConfig) -> None:
    """Ask the loader itself whether it can read these weights here; often a package or a GPU is missing."""
    from transformers.quantizers.auto import get_hf_quantizer

    try:
        with quiet():
            get_hf_quantizer(parsed, None, None, True, {})
    except Exception as error:
        reason = f"cannot be read by this installation ({words(error)})"
        raise IndexscopeError(f"{file}: quantization_config", reason, _other_storage()) from error


def _other_storage() -> str:
    supported = ", ".join(_supported()) or "none"
    return f"save the model unquantised in bfloat16, or stored in a way that can be read here: {supported}"


def _supported() -> list[str]:
    """Names of the methods that the loader accepts on this machine, as far as they need no settings of their own."""
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING, get_hf_quantizer

    found = []
    for method in AUTO_QUANTIZER_MAPPING.keys() - ELSEWHERE:
        probe = PreTrainedConfig(quantization_config={"quant_method": method, "bits": 4})
        try:
            with quiet():
                get_hf_quantizer(probe, None, None, True, {})
        except Exception:  # a package, a GPU or an operating system that is not here
            continue
        found.append(method)
    return sorted(found)


def _parsed(file: Path, family: str, config: dict[str, Any]) -> PreTrainedConfig:
    """The configuration as the family's own class reads it, which knows the type of every key."""
    try:
        with reading(file, OWN_CONFIG, f"is no configuration of {family}", passing=_STRICT), quiet():
            parsed: PreTrainedConfig = CONFIG_MAPPING[family].from_dict(dict(config))
            return parsed
    except StrictDataclassFieldValidationError as error:
        # "Validation error for field 'x':\n    TypeError: Field 'x' expected int, got str (value: 'two')"
        key = re.search(r"'([^']*)'", str(error))
        said = re.search(r"expected [^;]*", str(error))
        where = f"{file}: {key[1]}" if key else str(file)
        raise IndexscopeError(where, said[0] if said else words(error), OWN_CONFIG) from error
    except StrictDataclassClassValidationError as error:
        # "Class validation error for validator 'x':\n    ValueError: …"
        cause = str(error).partition("\n")[2].partition("Error:")[2].strip() or str(error)
        raise IndexscopeError(file, f"contradicts itself ({words(Exception(cause))})", OWN_CONFIG) from error


_STRICT = (StrictDataclassFieldValidationError, StrictDataclassClassValidationError)
