"""Does a model see the future? Change the tokens after t and watch the logits up to t."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import torch
from transformers import PreTrainedModel

from analysis.capture.model import own_attention

AUDIT = {"passed": pl.Boolean, "max_logit_change": pl.Float64, "tolerance": pl.Float64, "positions_checked": pl.Int32}
SAMPLES = 3
# Of the largest logit; equal shapes run the same kernels, so a causal model moves by nothing or by rounding.
RELATIVE_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}


def audit_causality(model: PreTrainedModel, sequences: Sequence[Sequence[int]]) -> pl.DataFrame:
    """Perturb the tokens after several positions and require the logits up to each not to move.

    A top-k mask used as the only attention mask lets queries with n_t < k see the future, so short prefixes are
    checked as well as long ones. The model runs with its own attention, not with the capture's.

    Args:
        model: A causal language model in eval mode.
        sequences: Token ids; the first three of at least 2 tokens are used.

    Returns:
        One row: passed, the largest change of a logit, the tolerance it was held to, positions checked. ``passed`` is
        null when there was nothing to check.
    """
    k = getattr(model.config, "index_topk", None) or 64
    random = torch.Generator().manual_seed(0)
    change, scale, checked = 0.0, 0.0, 0
    with own_attention(model), torch.inference_mode():
        for sequence in [sequence for sequence in sequences if len(sequence) > 1][:SAMPLES]:
            ids = torch.tensor([list(sequence)], device=model.device)
            length = ids.shape[1]
            logits = model(input_ids=ids, use_cache=False).logits.float()
            scale = max(scale, float(logits.abs().max()))
            for t in sorted({0, k // 2, length // 4, length // 2, length - 2}):
                if t > length - 2:
                    continue
                other = ids.clone()
                fresh = torch.randint(1, model.config.vocab_size, (1, length - t - 1), generator=random)
                # Adding 1 .. vocabulary - 1 always gives a different token.
                other[:, t + 1 :] = (ids[:, t + 1 :] + fresh.to(ids.device)) % model.config.vocab_size
                moved = model(input_ids=other, use_cache=False).logits.float()
                change = max(change, float((moved[:, : t + 1] - logits[:, : t + 1]).abs().max()))
                checked += 1
    tolerance = RELATIVE_TOLERANCE.get(model.dtype, 1e-5) * scale
    row = {
        "passed": change <= tolerance if checked else None,
        "max_logit_change": change if checked else None,
        "tolerance": tolerance if checked else None,
        "positions_checked": checked,
    }
    return pl.DataFrame([row], schema=AUDIT)
