"""How well a model predicts, read off whatever a user has of its outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from indexscope.analysis.features.metrics.quality import next_token_quality
from interpretability.inputs import refuse, whole

LIKELIHOOD = "probability of the true token, exp(-nll)"
_IGNORED = -100


@dataclass(frozen=True)
class Quality:
    """What outputs say of a model's predictions.

    Attributes:
        nll: Mean negative log-likelihood of each sample's next tokens in nats, [batch]; None where outputs do not tell.
        tokens: Predicted tokens behind each, [batch]; 1 each where only losses are known.
        accuracy: Share of right first guesses, [batch]; None without logits.
        reference: The same as nll for the dense model; None without one.
        reason: Why there is no nll; None where there is one.
        notes: What was taken for what, where it was not named.
    """

    nll: NDArray[np.float64] | None
    tokens: NDArray[np.float64]
    accuracy: NDArray[np.float64] | None
    reference: NDArray[np.float64] | None
    reason: str | None
    notes: tuple[str, ...] = ()


def as_quality(outputs: object, samples: int, batch: object = None, vocabulary: int | None = None) -> Quality:
    """Read the quality off model outputs.

    Args:
        outputs: One of: a mapping or an object (of transformers, say) with logits and labels (or input_ids), or with a
            loss; a tuple that begins with logits, or with a loss and then logits, whatever follows; logits by
            themselves; a loss by itself, one for all samples or one a sample; hidden states. With dense_logits or
            dense_loss beside them, the dense model is the reference. A tensor without a name is taken for logits,
            unless its last dimension is too short for the labels or the vocabulary.
        samples: Samples of the attention.
        batch: What the model was given, for the labels that outputs do not hold: a mapping with labels or input_ids
            (and attention_mask), or the ids.
        vocabulary: Entries of the model's vocabulary.

    Raises:
        ValueError: Logits, labels or losses do not fit each other or the batch, or are not finite.
    """
    ones = np.ones(samples)
    if outputs is None:
        return Quality(None, ones, None, None, "no model outputs were given")
    parts = _parts(outputs, samples)
    labels = parts.get("labels", parts.get("input_ids"))
    labels = labels_of(batch) if labels is None else labels
    notes: tuple[str, ...] = ()
    if "unnamed" in parts:
        kind, notes = _kind(parts["unnamed"], labels, vocabulary)
        parts[kind] = parts.pop("unnamed")
    reference = None
    if "dense_logits" in parts and labels is not None:
        reference = _of_logits(parts["dense_logits"], labels, samples, "dense_logits")[0]
    elif "dense_loss" in parts:
        reference = _losses(parts["dense_loss"], samples, "dense_loss")
    if "logits" in parts and labels is not None:
        nll, tokens, accuracy = _of_logits(parts["logits"], labels, samples, "logits")
        return Quality(nll, tokens, accuracy, reference, None, notes)
    if "loss" in parts:
        return Quality(_losses(parts["loss"], samples, "loss"), ones, None, reference, None, notes)
    if "logits" in parts:
        reason = "logits without labels do not tell what was right; give batch=, which holds the input ids, or labels"
    else:
        reason = "hidden states say nothing of how well a model predicts; give logits with labels, or a loss"
    return Quality(None, ones, None, None, reason, notes)


_NAMES = ("logits", "labels", "input_ids", "loss", "dense_logits", "dense_loss", "hidden_states", "last_hidden_state")


def labels_of(batch: object) -> object:
    """The labels that a model was given, or its ids; None where there is no batch.

    Raises:
        ValueError: It is neither a mapping with labels or input_ids nor ids.
    """
    if batch is None:
        return None
    if not isinstance(batch, Mapping):
        given = batch[0] if isinstance(batch, tuple | list) and len(batch) and hasattr(batch[0], "shape") else batch
        if isinstance(given, str) or not isinstance(given, torch.Tensor | np.ndarray | list):
            refuse("batch", f"is {type(batch).__name__}", "give a mapping with labels or input_ids, or the ids")
        return given
    if batch.get("labels") is not None:
        return batch["labels"]
    if batch.get("input_ids") is None:
        refuse("batch", f"holds {sorted(map(str, batch))}", "give a mapping with labels or input_ids, or the ids")
    ids, mask = _tensor(batch["input_ids"]), batch.get("attention_mask")
    if mask is None or _tensor(mask).shape != ids.shape:
        return ids
    return ids.masked_fill(_tensor(mask).to(ids.device) == 0, _IGNORED)


def _parts(outputs: object, samples: int) -> dict[str, Any]:
    """What is known, by name; what may be logits or hidden states as ``unnamed``."""
    if isinstance(outputs, Mapping):
        parts = {name: outputs[name] for name in _NAMES if outputs.get(name) is not None}
    elif isinstance(outputs, int | float | np.number | np.ndarray | torch.Tensor):
        parts = _of_tuple((outputs,), samples)
    else:
        parts = {name: getattr(outputs, name) for name in _NAMES if getattr(outputs, name, None) is not None}
        if not parts and isinstance(outputs, tuple | list):
            parts = _of_tuple(outputs, samples)
    if not parts:
        named = sorted(map(str, outputs)) if isinstance(outputs, Mapping) else type(outputs).__name__
        remedy = f"give a mapping with some of {', '.join(_NAMES[:6])}, a tuple that begins with logits, or a loss"
        refuse("model_outputs", f"is {named}", remedy)
    return parts


def _of_tuple(outputs: Sequence[Any], samples: int) -> dict[str, Any]:
    """What models return as a tuple: perhaps a loss, then logits, then labels or what is of no use here."""
    parts: dict[str, Any] = {}
    for part in outputs:
        if not isinstance(part, int | float | np.number | np.ndarray | torch.Tensor):
            continue
        values = _tensor(part)
        single = values.numel() == 1 or tuple(values.shape) == (samples,)
        if not values.is_floating_point() and values.dim() in (1, 2):
            parts.setdefault("labels", values)
        elif single and not {"loss", "unnamed"} & set(parts):
            parts["loss"] = values.double()
        elif not single:
            parts.setdefault("unnamed", values)
    return parts if {"loss", "unnamed"} & set(parts) else {}


def _kind(values: torch.Tensor, labels: object, vocabulary: int | None) -> tuple[str, tuple[str, ...]]:
    """Whether a tensor without a name is logits or hidden states, and the note that says so where nothing proves it."""
    width = values.shape[-1]
    least = 0 if vocabulary is None else whole(vocabulary, "vocabulary", 1, 2**31)
    if labels is not None and _tensor(labels).numel():
        least = max(least, int(_tensor(labels).max()) + 1)
    if width < least:
        return "hidden_states", ()
    if width == vocabulary:
        return "logits", ()
    taken = f"model_outputs {list(values.shape)} has no name and is taken for logits of {width} tokens"
    return "logits", (f"{taken}; if it is hidden states, say vocabulary= or give {{'hidden_states': ...}}",)


def _of_logits(
    given: object, truth: object, batch: int, name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean nll, predicted tokens and accuracy of each sample."""
    logits, labels = _tensor(given), _tensor(truth)
    logits = logits[None] if logits.dim() == 2 else logits
    labels = labels[None] if labels.dim() == 1 else labels
    if logits.dim() != 3 or logits.shape[0] != batch:
        refuse(name, f"has shape {list(logits.shape)}", f"give [{batch}, S, vocabulary], as many samples as attention")
    if labels.shape[-1] != logits.shape[1] or labels.shape[0] not in (1, batch) or labels.is_floating_point():
        reason = f"has shape {list(labels.shape)} and type {labels.dtype} for {name} {list(logits.shape)}"
        refuse("labels", reason, "give the input ids, not shifted; -100 leaves a token out")
    if not bool(logits.isfinite().all()):
        refuse(name, "hold NaN or infinity", "run in float32, and check the weights")
    labels = labels.expand(batch, -1).to(logits.device).long()
    known = labels != _IGNORED
    if bool(((labels < 0) & known).any()) or int(labels.max()) >= logits.shape[2]:
        refuse("labels", f"hold ids outside 0 to {logits.shape[2] - 1}", "use those that belong to the logits")
    found = next_token_quality(logits, labels.clamp(min=0), 0)
    counted = torch.nn.functional.pad(known[:, 1:], (0, 1)) & ~found["nll"].isnan()
    tokens = counted.sum(-1).double()
    if not bool((tokens > 0).all()):
        refuse("labels", "leave nothing to predict in some sample", "give at least two tokens, and not -100 for all")
    means = [torch.where(counted, found[key], 0.0).double().sum(-1) / tokens for key in ("nll", "accuracy")]
    nll, accuracy, counts = (value.cpu().numpy() for value in (*means, tokens))
    return nll, counts, accuracy


def _losses(given: object, batch: int, name: str) -> NDArray[np.float64]:
    losses = _tensor(given).double().cpu().numpy()
    if losses.shape not in ((), (1,), (batch,)):
        refuse(name, f"has shape {list(losses.shape)}", f"give one mean loss, or one a sample, [{batch}]")
    if not np.isfinite(losses).all() or (losses < 0).any():
        refuse(name, "is negative or not finite", "give the mean cross entropy in nats")
    return np.broadcast_to(losses.reshape(-1), (batch,)).astype(np.float64)


def _tensor(value: Any) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value.detach()
    return torch.from_numpy(np.asarray(value))
