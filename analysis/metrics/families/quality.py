"""How well the model predicts, with its own selection and with every key selected."""

from __future__ import annotations

import numpy as np

from indexscope.analysis.metrics.metric import Derived, Family, Metric, Ratio, column_metric

FAMILY = Family(
    order=10,
    title="Quality",
    about="Prediction of the next token over the tokens of the dataset, each token weighing the same.",
    metrics=(
        column_metric(
            "tokens",
            "nll",
            "lower",
            "mean over tokens of -ln p_model(x[t+1] | x[<=t])",
            meaning="Negative log-likelihood of the next token, with the model's own selection.",
            per_layer=False,
            range="≥ 0",
            misleads="Depends on tokenizer and text, so that only models with the same tokenizer on the same samples "
            "compare. The first tokens of a sample have little context and raise it for short samples.",
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
            misleads="Differences look larger at high loss: the same change in nats is a bigger change in perplexity. "
            "Not comparable between tokenizers.",
        ),
        column_metric(
            "tokens",
            "accuracy",
            "higher",
            "mean over tokens of [argmax p_model(. | x[<=t]) = x[t+1]]",
            meaning="Share of tokens whose most likely prediction is the true next token.",
            per_layer=False,
            range="0 to 1",
            misleads="Frequent easy tokens (whitespace, word endings) make up most of it, so that losses on the rare "
            "tokens that need far context hardly show.",
        ),
        column_metric(
            "tokens",
            "dense_nll",
            "lower",
            "nll of a second run with S_t = E_t in every layer",
            meaning="The same model's negative log-likelihood when every eligible key is selected.",
            per_layer=False,
            range="≥ 0",
            misleads="A model trained with its selection has not seen dense attention and may predict worse with it, "
            "so that this is no upper bound of its quality. Null if extract.dense_reference is off.",
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
            "the cost looks small whatever the indexer does. Read it by context length.",
        ),
    ),
)
