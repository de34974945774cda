"""Datasets: texts or token ids in, a fixed list of samples out.

The order is defined, and reading stops as soon as there are enough samples:

1. The files of a folder are put in the order of the SHA-256 of "<seed> <name>", so that the ones read first stay first
   when others are not there (a partly downloaded dataset).
2. Documents are read in that order into windows: a window ends with the document that brings it to 8 Mi characters
   (or token ids).
3. Within a window the documents are shuffled, packed, and the sequences shuffled again, so that the sequences of one
   long document do not follow each other. The remainder of the packing goes on into the next window.
4. Windows follow each other. Samples are the first `samples` sequences.

Documents that mark an answer (`evidence`) are samples of their own, whatever is packed.

So a dataset of up to one window is shuffled as a whole, a longer one window by window, and asking for more samples only
ever adds to the ones before.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from indexscope.errors import IndexscopeError
from indexscope.foreign import reading
from indexscope.storage.inputs.data_files import data_files
from indexscope.storage.inputs.dataset_settings import BUILTIN, NEEDLE, STDLIB, DatasetSettings
from indexscope.storage.inputs.documents import Document, documents
from indexscope.storage.inputs.evidence import in_tokens, predicted
from indexscope.storage.inputs.needle.make import needle_documents
from indexscope.storage.inputs.packing import Packer, Piece, TokenDocument, truncated
from indexscope.storage.inputs.samples import Sample, dataset_fingerprint, shard
from indexscope.storage.inputs.stdlib import Split, split_of, stdlib_documents

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["DatasetSettings", "Sample", "dataset_fingerprint", "load_samples", "shard"]

Part = Literal["all"] | Split

#: Characters or token ids of a window.
WINDOW = 8 * 2**20
#: Documents given to the tokenizer together.
TOKENIZED_AT_ONCE = 64


def load_samples(
    settings: DatasetSettings, tokenizer: PreTrainedTokenizerBase | None, vocab_size: int, part: Part = "all"
) -> list[Sample]:
    """Read a dataset and cut it into samples.

    Args:
        settings: Source, lengths, number, seed and packing.
        tokenizer: Turns text into token ids, with its own special tokens; None will do where the data are token ids.
        vocab_size: Number of ids that the model knows.
        part: Which documents: all, or those that are trained on, or those held out from that, a tenth by the hash of
            their names. The built-in dataset is what is held out of the standard library.

    Raises:
        IndexscopeError: The source or its column does not exist or is not readable, text meets no tokenizer, a token id
            is not the model's, or no sequence is long enough.
    """
    pieces = _pieces(settings, tokenizer, part)
    # One integer object per id, however often it occurs: a sample then costs eight bytes a token.
    vocabulary = tuple(range(vocab_size))
    samples = [
        Sample(index, piece.name, _known(piece, vocabulary, settings.source), piece.evidence, piece.cut_off)
        for index, piece in enumerate(islice(pieces, settings.samples))
    ]
    if not samples:
        reason = f"has no sequence of at least {settings.min_length} tokens"
        raise IndexscopeError(settings.source, reason, "lower min_length or give other data")
    return samples


def _pieces(settings: DatasetSettings, tokenizer: PreTrainedTokenizerBase | None, part: Part) -> Iterator[Piece]:
    if settings.source == NEEDLE:
        for made in needle_documents(settings.needle, _needed(tokenizer, settings), settings.seed, part == "train"):
            yield from truncated(made, settings.length)
        return
    separator = getattr(tokenizer, "eos_token_id", None)
    packer = Packer(settings.length, separator if isinstance(separator, int) else None)
    for number, window in enumerate(_windows(_documents(settings, part))):
        generator = random.Random(f"window {number} of seed {settings.seed}")
        generator.shuffle(window)
        cut: list[Piece] = []
        for document in _tokenized(window, tokenizer, settings):
            cut.extend(packer.add(document) if document.joins else truncated(document, settings.length))
        generator.shuffle(cut)
        yield from (piece for piece in cut if len(piece.input_ids) >= settings.min_length)
    yield from (piece for piece in packer.rest() if len(piece.input_ids) >= settings.min_length)


def _documents(settings: DatasetSettings, part: Part) -> Iterator[Document]:
    if settings.source == STDLIB:
        found = stdlib_documents("train" if part == "train" else "held_out")
        return (Document(name, text) for name, text in found)
    if settings.source.startswith(BUILTIN):
        raise IndexscopeError(
            settings.source, "is no built-in dataset", f"use {STDLIB}, {NEEDLE} or a dataset of your own"
        )
    files = data_files(settings.source, settings.split)
    every = documents(sorted(files, key=lambda file: _draw(settings.seed, file.name)), settings.column)
    return (document for document in every if part in ("all", split_of(document.name)))


def _draw(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed} {name}".encode("utf-8", "surrogateescape")).digest()


def _windows(found: Iterable[Document]) -> Iterator[list[Document]]:
    window: list[Document] = []
    size = 0
    for document in found:
        window.append(document)
        size += len(document.content)
        if size >= WINDOW:
            yield window
            window, size = [], 0
    if window:
        yield window


def _tokenized(
    window: Sequence[Document], tokenizer: PreTrainedTokenizerBase | None, settings: DatasetSettings
) -> Iterator[TokenDocument]:
    for start in range(0, len(window), TOKENIZED_AT_ONCE):
        batch = window[start : start + TOKENIZED_AT_ONCE]
        texts = [document.content for document in batch if isinstance(document.content, str)]
        encode = _needed(tokenizer, settings) if texts else None
        marked = any(document.marks is not None for document in batch if isinstance(document.content, str))
        if marked and not getattr(encode, "is_fast", False):
            reason = "marks evidence in characters, and this tokenizer does not tell where its tokens lie"
            remedy = "use a tokenizer with a tokenizer.json, or give token ids with evidence_tokens"
            raise IndexscopeError(settings.source, reason, remedy)
        with reading(settings.source, "use the tokenizer that belongs to the model", "cannot be cut into tokens"):
            encoded = encode(texts, verbose=False, return_offsets_mapping=marked) if encode else {"input_ids": []}
        ids = iter(encoded["input_ids"])
        offsets = iter(encoded["offset_mapping"] if marked else [()] * len(texts))
        for document in batch:
            if isinstance(document.content, str):
                own = tuple(next(ids))
                yield _marked(document, own, next(offsets), settings.packing)
            else:
                evidence = None if document.marks is None else predicted(document.marks, document.name)
                yield TokenDocument(document.name, document.content, False, evidence)


def _marked(document: Document, ids: tuple[int, ...], offsets: Sequence[tuple[int, int]], joins: bool) -> TokenDocument:
    """A text in tokens. One with an answer is never joined: it would be asked behind other texts."""
    if document.marks is None:
        return TokenDocument(document.name, ids, joins)
    return TokenDocument(document.name, ids, False, in_tokens(document.marks, offsets, document.name))


def _needed(tokenizer: PreTrainedTokenizerBase | None, settings: DatasetSettings) -> PreTrainedTokenizerBase:
    if tokenizer is None:
        remedy = "save one beside the checkpoint, give a loader's model one by tokenizer, or set column to token ids"
        raise IndexscopeError(settings.source, "is text, and the baseline has no tokenizer", remedy)
    return tokenizer


def _known(piece: Piece, vocabulary: Sequence[int], source: str) -> tuple[int, ...]:
    if min(piece.input_ids) < 0 or max(piece.input_ids) >= len(vocabulary):
        foreign = next(token for token in piece.input_ids if not 0 <= token < len(vocabulary))
        where = piece.name if Path(source).name in piece.name else f"{source}: {piece.name}"
        reason = f"has token id {foreign}, but the model's vocabulary holds ids 0 to {len(vocabulary) - 1}"
        raise IndexscopeError(where, reason, "use the tokenizer that belongs to the model")
    return tuple(vocabulary[token] for token in piece.input_ids)
