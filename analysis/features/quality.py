"""How well the next tokens are predicted."""

from __future__ import annotations

import torch


def next_token_quality(logits: torch.Tensor, input_ids: torch.Tensor, start: int) -> dict[str, torch.Tensor]:
    """Negative log-likelihood of each next token in nats, and whether it came first; NaN for the last token.

    Args:
        logits: Of queries from start on, [batch, queries, vocabulary].
        input_ids: The whole sequences, [batch, sequence].
        start: Position of the first query.

    Returns:
        nll and accuracy, [batch, queries].
    """
    target = input_ids[:, start + 1 : start + 1 + logits.shape[1]]
    known = logits[:, : target.shape[1]].float()
    nll = torch.nn.functional.cross_entropy(known.transpose(1, 2), target, reduction="none")
    right = (known.argmax(-1) == target).float()
    missing = (0, logits.shape[1] - target.shape[1])
    return {
        "nll": torch.nn.functional.pad(nll, missing, value=torch.nan),
        "accuracy": torch.nn.functional.pad(right, missing, value=torch.nan),
    }
