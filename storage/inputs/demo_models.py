"""Write the built-in models, and keep what each stage makes of their body, so that none is made twice."""

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

from indexscope.errors import IndexscopeError
from indexscope.storage.inputs.model_saving import save_weights
from indexscope.storage.inputs.quiet import quiet
from indexscope.storage.inputs.stdlib import Document
from indexscope.storage.inputs.weight_files import read_config, weight_files

#: The body after pre-training, and after it has learnt to copy.
BODY, COPYING = "body.safetensors", "body-copying.safetensors"
#: Keys of config.json that the shapes of a body's weights follow from.
_SHAPE = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "q_lora_rank",
    "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "tie_word_embeddings",
)  # fmt: skip


def body_key(recipe: Mapping[str, object], documents: Sequence[Document]) -> str:
    """Hash of what determines a body's weights: the recipe's pre-training settings and every training document."""
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode())
    for document in documents:
        digest.update(f"{document.name}\0{len(document.text)}\0{document.text}".encode())
    return digest.hexdigest()


def copying_key(recipe: Mapping[str, object], documents: Sequence[Document], body: Mapping[str, torch.Tensor]) -> str:
    """Hash of what determines what the second stage comes to: its settings, its text, and the body it begins with."""
    digest = hashlib.sha256(body_key(recipe, documents).encode())
    for name in sorted(body):
        if name != "lm_head.weight":
            digest.update(name.encode() + body[name].contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_body(folder: Path, wanted: Mapping[str, object]) -> None:
    """Refuse a checkpoint whose body is not one of the recipe.

    Args:
        folder: A checkpoint.
        wanted: What its config.json must say, the settings of indexers aside.

    Raises:
        IndexscopeError: It is of another shape or kind, or is no checkpoint.
    """
    config = read_config(folder)
    for name in ("model_type", *_SHAPE):
        if config.get(name) != wanted[name]:
            reason = f"has {name} {config.get(name)} where the recipe has {wanted[name]}"
            raise IndexscopeError(folder, reason, "give a model that train-demo made, such as builtin:baseline")
    weight_files(folder)


def body_of(folder: Path) -> dict[str, torch.Tensor]:
    """The body of a built-in model that was written earlier, in float32, without its indexers."""
    found: dict[str, torch.Tensor] = {}
    for file in weight_files(folder):
        found |= {name: one.float() for name, one in load_file(file).items() if ".indexer." not in name}
    return found


def load_body(work: Path, key: str, name: str = BODY) -> dict[str, torch.Tensor] | None:
    """The body that an earlier run left, or None if there is none or it was made from something else."""
    path = work / name
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("key") != key:
                return None
        return load_file(path)
    except (OSError, SafetensorError):
        return None


def save_body(work: Path, key: str, body: Mapping[str, torch.Tensor], name: str = BODY) -> None:
    """Keep a body. Tied weights are kept once: lm_head follows the embedding."""
    work.mkdir(parents=True, exist_ok=True)
    temporary = work / f".{name}.{os.getpid()}"
    tensors = {one: tensor.contiguous() for one, tensor in body.items() if one != "lm_head.weight"}
    save_file(tensors, temporary, metadata={"key": key})
    temporary.replace(work / name)


def save_checkpoint(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, card: str) -> None:
    """Write a model in bfloat16 safetensors with its tokenizer and its card."""
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(model.to(torch.bfloat16), folder)
    with quiet():
        tokenizer.save_pretrained(folder)
    (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")
