"""Write the built-in models, and keep their pre-trained body so that an interrupted training need not start over."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from indexscope.storage.inputs.model_saving import save_weights
from indexscope.storage.inputs.quiet import quiet
from indexscope.storage.inputs.stdlib import Document

BODY = "body.safetensors"


def body_key(recipe: Mapping[str, object], documents: Sequence[Document]) -> str:
    """Hash of what determines a body's weights: the recipe's pre-training settings and every training document."""
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode())
    for document in documents:
        digest.update(f"{document.name}\0{len(document.text)}\0{document.text}".encode())
    return digest.hexdigest()


def load_body(work: Path, key: str) -> dict[str, torch.Tensor] | None:
    """The body that an earlier run left, or None if there is none or it was made from something else."""
    path = work / BODY
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("key") != key:
                return None
        return load_file(path)
    except (OSError, SafetensorError):
        return None


def save_body(work: Path, key: str, body: Mapping[str, torch.Tensor]) -> None:
    """Keep a body. Tied weights are kept once: lm_head follows the embedding."""
    work.mkdir(parents=True, exist_ok=True)
    temporary = work / f".{BODY}.{os.getpid()}"
    tensors = {name: tensor.contiguous() for name, tensor in body.items() if name != "lm_head.weight"}
    save_file(tensors, temporary, metadata={"key": key})
    temporary.replace(work / BODY)


def save_checkpoint(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, card: str) -> None:
    """Write a model in bfloat16 safetensors with its tokenizer and its card."""
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(model.to(torch.bfloat16), folder)
    with quiet():
        tokenizer.save_pretrained(folder)
    (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")
