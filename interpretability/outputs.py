"""How well a model predicts, read off whatever a user has of its outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from indexscope.analysis.features.metrics.quality import next_token_quality
from interpretability.inputs import refuse

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
    """

    nll: NDArray[np.float64] | None
    tokens: NDArray[np.float64]
    accuracy: NDArray[np.float64] | None
    reference: NDArray[np.float64] | None
    reason: str | None


def as_quality(outputs: object, batch: int) -> Quality:
    """Read the quality off model outputs.

    Args:
        outputs: One of: a mapping or an object (of transformers, say) with logits and labels (or input_ids), or with a
            loss; a pair (logits, labels); a loss by itself, one for all samples or one a sample; hidden states. With
            dense_logits or dense_loss beside them, the dense model is the reference.
        batch: Samples of the attention.

    Raises:
        ValueError: Logits, labels or losses do not fit each other or the batch, or are not finite.
    """
    ones = np.ones(batch)
    if outputs is None:
        return Quality(None, ones, None, None, "no model outputs were given")
    if isinstance(outputs, tuple) and len(outputs) == 2 and all(hasattr(part, "shape") for part in outputs):
        outputs = {"logits": outputs[0], "labels": outputs[1]}
    parts = _parts(outputs, batch)
    labels = parts.get("labels", parts.get("input_ids"))
    reference = None
    if "dense_logits" in parts and labels is not None:
        reference = _of_logits(parts["dense_logits"], labels, batch, "dense_logits")[0]
    elif "dense_loss" in parts:
        reference = _losses(parts["dense_loss"], batch, "dense_loss")
    if "logits" in parts and labels is not None:
        nll, tokens, accuracy = _of_logits(parts["logits"], labels, batch, "logits")
        return Quality(nll, tokens, accuracy, reference, None)
    if "loss" in parts:
        return Quality(_losses(parts["loss"], batch, "loss"), ones, None, reference, None)
    if "logits" in parts:
        reason = "logits without labels do not tell what was right; add labels (the input ids) to model_outputs"
    else:
        reason = "hidden states say nothing of how well a model predicts; give logits with labels, or a loss"
    return Quality(None, ones, None, None, reason)


_NAMES = ("logits", "labels", "input_ids", "loss", "dense_logits", "dense_loss", "hidden_states", "last_hidden_state")


def _parts(outputs: object, batch: int) -> dict[str, Any]:
    """What is known, by name."""
    if isinstance(outputs, Mapping):
        parts = {name: outputs[name] for name in _NAMES if outputs.get(name) is not None}
    elif isinstance(outputs, int | float | np.number | np.ndarray | torch.Tensor):
        values = _tensor(outputs)
        parts = {"loss" if values.dim() == 0 or values.shape == (batch,) else "hidden_states": values}
    else:
        parts = {name: getattr(outputs, name) for name in _NAMES if getattr(outputs, name, None) is not None}
    if not parts:
        named = sorted(map(str, outputs)) if isinstance(outputs, Mapping) else type(outputs).__name__
        refuse("model_outputs", f"is {named}", f"give a mapping with some of {', '.join(_NAMES[:6])}, or a loss")
    return parts


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
