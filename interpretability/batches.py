"""Batches of a notebook as samples: token ids without padding, or hidden states of a module with an indexer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from indexscope import IndexscopeError
from indexscope.storage.inputs.samples import Sample
from interpretability.models import Subject

SHAPES = "give token ids [B, S], or a mapping with input_ids and, where there is padding, attention_mask"


def read_dataset(dataset: object, subject: Subject) -> Iterator[list[Sample]]:
    """The samples of each batch, numbered through; a batch by itself is a dataset of one.

    Args:
        dataset: An iterable of batches, taken once and never held.
        subject: The model; it is told how it will be called, and keeps the current batch's hidden states.

    Raises:
        TypeError: It is no iterable of batches, or holds something that is no token id.
        IndexscopeError: A batch has another rank, holes in its mask, or a sample without tokens.
    """
    batches = [dataset] if is_batch(dataset) else dataset
    if isinstance(batches, str | bytes) or not isinstance(batches, Iterable):
        raise TypeError(f"dataset is {type(dataset).__name__}, not an iterable of batches; {SHAPES}")
    first = 0
    for number, batch in enumerate(batches):
        samples = read_batch(batch, subject, number, first)
        first += len(samples)
        yield samples


def is_batch(given: object) -> bool:
    """Whether this is one batch rather than several: a tensor or array of ids, or a mapping with input_ids."""
    if isinstance(given, Mapping):
        return "input_ids" in given
    return isinstance(given, torch.Tensor | np.ndarray) and given.ndim <= 3


def read_batch(batch: object, subject: Subject, number: int = 0, first: int = 0) -> list[Sample]:
    """The samples of one batch, padding left out.

    Args:
        batch: Token ids [B, S] as a tensor, an array or lists; a mapping with input_ids and attention_mask; a tuple
            that begins with ids, as data loaders make them; hidden states [B, S, width] where the model takes them.
        subject: The model.
        number: Which batch it is, for names and messages.
        first: Index of its first sample.

    Raises:
        TypeError: It is something else.
        IndexscopeError: It has another rank, holes in its mask, or a sample without tokens.
    """
    where = f"batch {number}"
    mask = None
    if isinstance(batch, Mapping):
        if "input_ids" not in batch:
            raise IndexscopeError(where, f"has no input_ids, only {', '.join(map(str, batch)) or 'nothing'}", SHAPES)
        if batch.get("attention_mask") is not None:
            mask = _tensor(batch["attention_mask"], f"{where} attention_mask").bool()
        given = batch["input_ids"]
    elif isinstance(batch, tuple | list) and len(batch) and isinstance(batch[0], torch.Tensor) and batch[0].ndim > 1:
        given = batch[0]
    else:
        given = batch
    if subject.shown is not None:
        subject.shown.as_mapping = isinstance(batch, Mapping)
        subject.shown.hidden.clear()
    tensor = _tensor(given, where)
    if subject.shown is not None:
        subject.shown.device = tensor.device
    if tensor.ndim == 3 and tensor.is_floating_point() and subject.takes_hidden and subject.shown is not None:
        subject.shown.hidden.update({first + row: each for row, each in enumerate(tensor)})
        length = tensor.shape[1]
        return [Sample(first + row, f"{where} row {row}", (first + row,) * length) for row in range(len(tensor))]
    if tensor.ndim != 2:
        reason = f"has {tensor.ndim} dimensions, {list(tensor.shape)}"
        raise IndexscopeError(where, reason, SHAPES)
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{where}: is {tensor.dtype}, not token ids; {SHAPES}")
    if not tensor.numel():
        raise IndexscopeError(where, f"is empty, {list(tensor.shape)}", "leave it out")
    if mask is not None and mask.shape != tensor.shape:
        reason = f"has shape {list(mask.shape)} for ids {list(tensor.shape)}"
        raise IndexscopeError(f"{where} attention_mask", reason, "give one entry a token")
    samples = []
    for row, ids in enumerate(tensor.cpu()):
        name = f"{where} row {row}"
        samples.append(
            Sample(first + row, name, tuple((ids if mask is None else _kept(ids, mask[row], name)).tolist()))
        )
    return samples


def digest(sample: Sample, subject: Subject) -> str:
    """What tells whether two analyses saw the same sample: a hash of its ids, or of its hidden states."""
    hidden = {} if subject.shown is None else subject.shown.hidden
    if sample.index in hidden:
        data = hidden[sample.index].detach().cpu().float().numpy().tobytes()
    else:
        data = np.asarray(sample.input_ids, dtype="<i8").tobytes()
    return hashlib.sha256(data).hexdigest()[:20]


def _kept(ids: torch.Tensor, mask: torch.Tensor, where: str) -> torch.Tensor:
    places = torch.nonzero(mask.cpu()).squeeze(-1)
    if not len(places):
        raise IndexscopeError(where, "is nothing but padding", "leave it out")
    if int(places[-1]) - int(places[0]) + 1 != len(places):
        raise IndexscopeError(
            f"{where} attention_mask", "has padding between tokens", "pad on the left or on the right"
        )
    return ids[places]


def _tensor(given: Any, where: str) -> torch.Tensor:
    if isinstance(given, torch.Tensor):
        return given.detach()
    try:
        return torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{where}: {type(given).__name__} is no tensor of token ids ({error}); {SHAPES}") from None
