"""Which files of a checkpoint folder hold its weights, with refusals for everything that is not plain safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from indexscope.errors import IndexscopeError
from indexscope.foreign import COPY_AGAIN, parse_json, read_file, read_json, reading

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SAVE_AGAIN = "save or download the checkpoint again"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json of a checkpoint folder.

    Raises:
        IndexscopeError: There is none, it is not JSON, or it names no model type.
    """
    path = folder / "config.json"
    try:
        config = parse_json(read_file(path, COPY_AGAIN, passing=FileNotFoundError), path, SAVE_AGAIN)
    except FileNotFoundError as error:
        if (folder / "adapter_config.json").is_file():
            reason = "holds an adapter, not a model"
            raise IndexscopeError(folder, reason, "merge it into its base model and save that") from error
        remedy = "give a folder saved with save_pretrained (config.json and *.safetensors)"
        raise IndexscopeError(folder, "has no config.json", remedy) from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise IndexscopeError(path, "names no model_type", "give the config.json of a transformers model")
    return config


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file of a checkpoint that must hold an object.

    Raises:
        IndexscopeError: It cannot be read, or holds something else.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise IndexscopeError(path, "is not a JSON object", COPY_AGAIN)
    return content


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that a load would read, sorted by name.

    Raises:
        IndexscopeError: There are none (only pickles, perhaps), or the index names files that are missing or elsewhere.
    """
    with reading(folder, COPY_AGAIN):
        whole, indexed = (folder / WEIGHTS).is_file(), (folder / INDEX).is_file()
        pickled = any(next(folder.glob(pattern), None) for pattern in PICKLES)
    if whole:
        return [folder / WEIGHTS]
    if indexed:
        return _indexed(folder)
    if pickled:
        reason = "holds its weights as pickle only, which can run code when loaded"
        raise IndexscopeError(folder, reason, "convert them with save_pretrained, which writes safetensors")
    remedy = "save the model with save_pretrained"
    raise IndexscopeError(folder, f"has neither {WEIGHTS} nor {INDEX}", remedy)


def _indexed(folder: Path) -> list[Path]:
    index = folder / INDEX
    content = read_json(index, reason="is not a valid weight index")
    with reading(index, COPY_AGAIN, "is not a valid weight index"):
        names = sorted(set(content["weight_map"].values()))
    for name in names:
        # A checkpoint is foreign data: it may not point outside its own folder, nor at a pickle.
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            reason = f"names {name!r}, which is not a safetensors file of this folder"
            raise IndexscopeError(index, reason, "use a checkpoint whose index names its own files")
    with reading(index, COPY_AGAIN):
        missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        reason = f"lacks {len(missing)} of {len(names)} weight files, first {missing[0]}"
        raise IndexscopeError(folder, reason, "download the checkpoint again")
    if not names:
        raise IndexscopeError(index, "names no weight file", "download the checkpoint again")
    return [folder / name for name in names]
