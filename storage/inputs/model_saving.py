"""Writing a model as a checkpoint folder, whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from indexscope.errors import IndexscopeError
from indexscope.storage.inputs.quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: Files of the model that it was made from which go with it, where they are there: all but weights and configuration.
BESIDE = (
    "tokenizer*",
    "*.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.tiktoken",
)


def save_model(model: PreTrainedModel, folder: Path, source: Path | None = None, card: str | None = None) -> None:
    """Write config.json and safetensors, with the tokenizer of another folder.

    The folder appears when all of it is there.

    Args:
        model: In the types that are to be stored.
        folder: Must not exist, or be empty.
        source: Checkpoint whose tokenizer goes with it.
        card: Text of README.md.

    Raises:
        IndexscopeError: The folder exists and is not empty.
    """
    refuse_taken(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as name:
        made = Path(name) / folder.name
        save_weights(model, made)
        for file in {file for pattern in BESIDE for file in source.glob(pattern)} if source is not None else ():
            shutil.copyfile(file, made / file.name)
        if card is not None:
            (made / "README.md").write_text(card, encoding="utf-8")
        if folder.is_dir():
            folder.rmdir()
        made.replace(folder)


def save_weights(model: PreTrainedModel, folder: Path) -> None:
    """Write config.json and safetensors, which everybody may read."""
    with quiet():
        model.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):
        weights.chmod(0o644)  # safetensors writes for the owner alone


def refuse_taken(folder: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        IndexscopeError: It does, or is a file.
    """
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists():
        raise IndexscopeError(folder, "exists already", "give a folder that does not exist, or remove it first")
