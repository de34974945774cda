"""Which files of a checkpoint folder hold its weights, with refusals for everything that is not plain safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from indexscope.errors import IndexscopeError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json of a checkpoint folder.

    Raises:
        IndexscopeError: There is none, it is not JSON, or it names no model type.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        if (folder / "adapter_config.json").is_file():
            reason = "holds an adapter, not a model"
            raise IndexscopeError(folder, reason, "merge it into its base model and save that") from error
        remedy = "give a folder saved with save_pretrained (config.json and *.safetensors)"
        raise IndexscopeError(folder, "has no config.json", remedy) from error
    except (ValueError, RecursionError) as error:
        raise IndexscopeError(path, "is not valid JSON", "save or download the checkpoint again") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise IndexscopeError(path, "names no model_type", "give the config.json of a transformers model")
    return config


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that a load would read, sorted by name.

    Raises:
        IndexscopeError: There are none (only pickles, perhaps), or the index names files that are missing or elsewhere.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        return _indexed(folder)
    if any(next(folder.glob(pattern), None) for pattern in PICKLES):
        reason = "holds its weights as pickle only, which can run code when loaded"
        raise IndexscopeError(folder, reason, "convert them with save_pretrained, which writes safetensors")
    remedy = "save the model with save_pretrained"
    raise IndexscopeError(folder, f"has neither {WEIGHTS} nor {INDEX}", remedy)


def _indexed(folder: Path) -> list[Path]:
    index = folder / INDEX
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IndexscopeError(index, "is not a valid weight index", "download the checkpoint again") from error
    for name in names:
        # A checkpoint is foreign data: it may not point outside its own folder, nor at a pickle.
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            reason = f"names {name!r}, which is not a safetensors file of this folder"
            raise IndexscopeError(index, reason, "use a checkpoint whose index names its own files")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        reason = f"lacks {len(missing)} of {len(names)} weight files, first {missing[0]}"
        raise IndexscopeError(folder, reason, "download the checkpoint again")
    if not names:
        raise IndexscopeError(index, "names no weight file", "download the checkpoint again")
    return [folder / name for name in names]
