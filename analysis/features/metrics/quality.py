"""How well the model predicts, with its own selection and with every key selected."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from indexscope.analysis.features.feature import FeatureFamily, of_tokens
from indexscope.analysis.metrics.metric import Derived, Metric, Ratio

if TYPE_CHECKING:
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
    import torch

    target = input_ids[:, start + 1 : start + 1 + logits.shape[1]]
    known = logits[:, : target.shape[1]].float()
    # One row a token: of [batch, vocabulary, queries], as it takes them too, it is four times as slow.
    nll = torch.nn.functional.cross_entropy(known.flatten(0, 1), target.flatten(), reduction="none").view_as(target)
    right = (known.argmax(-1) == target).float()
    missing = (0, logits.shape[1] - target.shape[1])
    return {
        "nll": torch.nn.functional.pad(nll, missing, value=torch.nan),
        "accuracy": torch.nn.functional.pad(right, missing, value=torch.nan),
    }


FAMILY = FeatureFamily(
    order=10,
    title="Quality",
    about="Prediction of the next token over the tokens of the dataset, each token weighing the same.",
    metrics=(
        of_tokens(
            "nll",
            "nats",
            "Negative log-likelihood of the next token, with the model's own selection.",
            "mean over tokens of -ln p_model(x[t+1] | x[<=t])",
            better="lower",
            range="≥ 0",
            misleads="Depends on tokenizer and text, so that only models with the same tokenizer on the same samples "
            "compare. The first tokens of a sample have little context and raise it for short samples.",
            label="next-token loss",
            headline=True,
        ),
        Metric(
            "perplexity",
            "tokens",
            "lower",
            "Perplexity: among how many equally likely tokens the model seems to choose.",
            "exp(nll); the exponential of the dataset's mean, not a mean of per-sample perplexities",
            Derived("tokens", ("nll",), np.exp),
            per_layer=False,
            range="≥ 1",
            least_margin=0.001,
            misleads="Differences look larger at high loss: the same change in nats is a bigger change in perplexity. "
            "Not comparable between tokenizers.",
        ),
        of_tokens(
            "accuracy",
            "share",
            "Share of tokens whose most likely prediction is the true next token.",
            "mean over tokens of [argmax p_model(. | x[<=t]) = x[t+1]]",
            better="higher",
            misleads="Frequent easy tokens (whitespace, word endings) make up most of it, so that losses on the rare "
            "tokens that need far context hardly show.",
            label="next-token accuracy",
            headline=True,
        ),
        of_tokens(
            "dense_nll",
            "nats",
            "The same model's negative log-likelihood when every eligible key is selected; null for samples "
            "without a dense reference.",
            "nll of a second run with S_t = E_t in every layer",
            better="lower",
            range="≥ 0",
            misleads="A model trained with its selection has not seen dense attention and may predict worse with it, "
            "so that this is no upper bound of its quality. Measured on some of the samples (extract.dense_reference): "
            "the loss to put beside it is that on the same samples, as sparsity_cost does.",
            label="next-token loss with every key",
            margin_of="nll",
        ),
        Metric(
            "sparsity_cost",
            "nats",
            "lower",
            "What the selection costs in likelihood; below zero, the selection helps.",
            "nll - dense_nll, over the tokens that have both",
            Ratio("tokens", "nll", "tokens", minus="dense_nll"),
            per_layer=False,
            range="any real number",
            misleads="Averages over queries before in effect, where it is exactly or nearly 0: with a small in_effect "
            "the cost looks small whatever the indexer does. Read it by context length. Its interval is that of the "
            "samples with a dense reference, by default 32 or a quarter of them (extract.dense_reference).",
            headline=True,
            margin_of="nll",
            repeats=("nll",),
        ),
    ),
)
