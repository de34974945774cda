"""Checkpoints: where they lie, what they say of themselves, and their tokenizers. Safetensors only, no remote code."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexscope.errors import IndexscopeError
from indexscope.foreign import reading
from indexscope.storage.inputs.fingerprints import FingerprintMode, fingerprint
from indexscope.storage.inputs.hub import download_model, is_hub_name
from indexscope.storage.inputs.model_config import check_config
from indexscope.storage.inputs.model_loading import load_model
from indexscope.storage.inputs.model_skeleton import Dtype, resolve_device
from indexscope.storage.inputs.quiet import quiet
from indexscope.storage.inputs.safetensors_header import read_header
from indexscope.storage.inputs.weight_files import read_config, read_object, weight_files

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "CheckpointFolder",
    "CheckpointInfo",
    "describe",
    "find_tokenizer",
    "fingerprint",
    "load_model",
    "load_tokenizer",
    "resolve",
    "resolve_device",
    "rope_of",
    "told_by_config",
]

BUILTIN = "builtin:"
BUILTIN_FOLDER = Path(__file__).parents[1] / "builtin"
#: What a load reads beside config.json, where it is there.
BESIDE = ("generation_config.json",)
#: No tokenizer has as many tokens; a table of them is kept in memory.
LARGEST_ID = 1 << 24
HUB_FILES = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", "*.tiktoken", "merges.txt", "vocab.txt")


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says of itself, read without loading it. None where its configuration does not say.

    Attributes:
        family: model_type of the configuration, such as "deepseek_v32".
        architecture: Class that it was saved from.
        parameters: Numbers stored in the weight files (tied weights are stored once).
        bytes: Size of the weight files.
        dtypes: Types of the stored weights, most numerous first.
        layers: Decoder layers.
        hidden_size: Width of the residual stream.
        attention_heads: Query heads a layer.
        vocab_size: Number of token ids.
        max_positions: Longest sequence that it was made for, in tokens.
        indexer_heads: Heads of the lightning indexer; None for a model without one.
        indexer_dim: Width of an indexer head.
        index_topk: Keys that the indexer selects for a query.
        selects_all_of: Tokens of context up to which the indexer selects everything, whatever its entries are.
        rope: Parameters of its rotary positions, as transformers has them.
        own_code: Whether it is none of transformers.
    """

    family: str
    architecture: str | None = None
    parameters: int = 0
    bytes: int = 0
    dtypes: tuple[str, ...] = ()
    layers: int | None = None
    hidden_size: int | None = None
    attention_heads: int | None = None
    vocab_size: int | None = None
    max_positions: int | None = None
    indexer_heads: int | None = None
    indexer_dim: int | None = None
    index_topk: int | None = None
    selects_all_of: int | None = None
    rope: Mapping[str, Any] | None = field(default=None, hash=False)
    own_code: bool = False


@dataclass(frozen=True)
class CheckpointFolder:
    """A model as its folder has it."""

    folder: str

    def fingerprint(self, mode: FingerprintMode) -> str:
        """See `indexscope.storage.inputs.fingerprints.fingerprint`."""
        return fingerprint(Path(self.folder), mode)

    def load(self, dtype: Dtype, device: str) -> PreTrainedModel:
        """See `indexscope.storage.inputs.model_loading.load_model`."""
        return load_model(Path(self.folder), dtype, device)

    def told(self) -> AbstractContextManager[None]:
        """Transformers' code is nobody's to mend here: what it raises stays as it is."""
        return nullcontext()


def resolve(name_or_path: str | os.PathLike[str]) -> Path:
    """Find the folder of a checkpoint.

    Args:
        name_or_path: "builtin:<name>", a folder, or a hub name (`owner/name`, `owner/name@revision`).

    Raises:
        IndexscopeError: There is no such checkpoint.
    """
    text = os.fspath(name_or_path)
    if text.startswith(BUILTIN):
        return _builtin(text)
    # os.path answers False where a foreign string is no possible path; pathlib raises.
    folder = os.path.expanduser(text)
    if os.path.isdir(folder):
        return Path(folder).resolve()
    if os.path.exists(folder):
        remedy = "give the folder that holds config.json, or a loader that reads the file (docs/own-models.md)"
        raise IndexscopeError(text, "is a file, not a checkpoint folder", remedy)
    if not is_hub_name(text):
        raise IndexscopeError(text, "does not exist", "give a checkpoint folder, builtin:<name> or a hub name")
    with quiet():
        return download_model(text, HUB_FILES)


def builtin_names() -> list[str]:
    """Names of the checkpoints that come with Indexscope, sorted."""
    return sorted(path.parent.name for path in BUILTIN_FOLDER.glob("*/config.json"))


def describe(path: Path) -> CheckpointInfo:
    """Read what a checkpoint says of itself, without loading it.

    Raises:
        IndexscopeError: The folder is no checkpoint, a file is truncated, or the model needs code that transformers
            does not have.
    """
    config = read_config(path)
    files = weight_files(path)
    parsed = check_config(path, config)
    for name in BESIDE:
        if (path / name).is_file():
            read_object(path / name)
    headers = [read_header(file) for file in files]
    counts: dict[str, int] = {}
    for tensor in (tensor for header in headers for tensor in header.tensors):
        counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.elements
    return replace(
        told_by_config(config),
        parameters=sum(counts.values()),
        bytes=sum(header.size for header in headers),
        dtypes=tuple(sorted(counts, key=lambda dtype: (-counts[dtype], dtype))),
        rope=rope_of(parsed),
    )


def told_by_config(config: Mapping[str, Any]) -> CheckpointInfo:
    """What a configuration of transformers says of its model; nothing of weights."""
    architectures = config.get("architectures")
    text = config.get("text_config") if isinstance(config.get("text_config"), dict) else config
    return CheckpointInfo(
        family=config["model_type"],
        architecture=str(architectures[0]) if isinstance(architectures, list) and architectures else None,
        layers=_integer(text, "num_hidden_layers", "n_layer"),
        hidden_size=_integer(text, "hidden_size", "n_embd"),
        attention_heads=_integer(text, "num_attention_heads", "n_head"),
        vocab_size=_integer(text, "vocab_size"),
        max_positions=_integer(text, "max_position_embeddings", "n_positions"),
        indexer_heads=_integer(text, "index_n_heads"),
        indexer_dim=_integer(text, "index_head_dim"),
        index_topk=_integer(text, "index_topk"),
        selects_all_of=_selects_all_of(text),
    )


def rope_of(config: PreTrainedConfig) -> Mapping[str, Any] | None:
    """The parameters of rotary positions that a configuration has, in the words of this transformers."""
    found = getattr(config.get_text_config(decoder=True), "rope_parameters", None)
    return dict(found) if isinstance(found, Mapping) else None


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint folder, without remote code and without the network.

    Raises:
        IndexscopeError: The folder has no tokenizer that transformers knows.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerBase

    remedy = "save one there with save_pretrained, or give token ids in a column input_ids"
    if not any((path / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")):
        raise IndexscopeError(path, "has no tokenizer", remedy)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (path / name).is_file():
            read_object(path / name)
    with reading(path, remedy, "has a tokenizer that cannot be loaded"):
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)
        largest = max(tokenizer.get_vocab().values(), default=0)
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise IndexscopeError(path, "has no tokenizer", remedy)
    if largest > LARGEST_ID:
        raise IndexscopeError(path, f"has a tokenizer that gives a token the id {largest}", remedy)
    return tokenizer


def find_tokenizer(path: Path) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a checkpoint folder, None where it has none, which token ids do not need.

    Raises:
        IndexscopeError: The folder has one that transformers does not know.
    """
    try:
        return load_tokenizer(path)
    except IndexscopeError as error:
        if error.reason == "has no tokenizer":
            return None
        raise


def _builtin(text: str) -> Path:
    name = text.removeprefix(BUILTIN)
    names = builtin_names()
    if name in names:
        return BUILTIN_FOLDER / name
    if not names:
        reason = "is not in this installation, which has no built-in checkpoints"
        raise IndexscopeError(text, reason, "make them with `indexscope train-demo`, or reinstall the package")
    choices = ", ".join(BUILTIN + known for known in names)
    raise IndexscopeError(text, "is no built-in checkpoint", f"choose one of {choices}")


def _selects_all_of(config: Any) -> int | None:
    """What is selected in tokens: an entry may be a token, a block, or one a stretch of tokens (docs/families.md)."""
    blocks, size = _integer(config, "index_topk_blocks"), _integer(config, "index_block_size")
    if blocks is not None and size is not None:
        return blocks * size
    keys = _integer(config, "index_topk", "indexer_budget")
    rates = config.get("compress_rates")
    stretch = _integer(rates, "compressed_sparse_attention") if isinstance(rates, dict) else None
    return None if keys is None else keys * (stretch or 1)


def _integer(config: Any, *names: str) -> int | None:
    values = (config.get(name) for name in names)
    return next((value for value in values if type(value) is int), None)
