"""Whether the selection holds the evidence, and what becomes of the answers."""

from __future__ import annotations

from typing import Any

from indexscope.analysis.metrics.metric import Better, Computed, Family, Metric, Ratio

_OF_LAYERS, _OF_ANSWERS = "evidence", "answers"


def _metric(
    name: str,
    label: str,
    unit: str,
    better: Better,
    meaning: str,
    formula: str,
    misleads: str,
    rule: Ratio | Computed,
    **more: Any,
) -> Metric:
    """A metric that there is of samples of one length too."""
    return Metric(name, unit, better, meaning, formula, rule, label=label, misleads=misleads, per_length=True, **more)


def _of_layers(column: str, over: str = "") -> Ratio:
    """Over samples and layers, all of which count the same."""
    return Ratio(_OF_LAYERS, column, "", over=over)


def _of_answers(column: str) -> Ratio:
    """Over samples, all of which count the same."""
    return Ratio(_OF_ANSWERS, column, "")


FAMILY = Family(
    order=118,
    title="Evidence and answers",
    about=(
        "Of samples whose data mark an answer and the evidence that it needs (docs/evidence.md). An answer's queries "
        "are the positions that predict its tokens, a - 1 to b - 2 for tokens a to b - 1; each sees the true tokens "
        "before it (teacher forcing), and nothing is generated. E is the evidence's tokens, S_t what a query "
        "selects. Values are means over the queries of an answer, then over samples and layers, each the same. The "
        "analysis' table `evidence_cells` has them by kind of question, length and depth, and a gate may ask for one "
        "length: `evidence_selected >= 0.95 at length 8192`."
    ),
    metrics=(
        _metric(
            "evidence_selected",
            "evidence selected",
            "share",
            "higher",
            "Share of the evidence's tokens that the answer's queries select.",
            "mean over samples, layers and the answer's queries of |E and S_t| / |E|",
            "A query that sees no more keys than are selected holds everything, and a selection of n_t / 2 keys "
            "holds half by chance: read it at lengths well above k. Few layers and queries need the evidence, and of "
            "an answer's digits each needs one: the best choice may hold a fifth of it and lose no answer. Whether "
            "it holds what is looked at says evidence_attention_kept.",
            _of_layers("selected"),
            at_equal_k=True,
        ),
        _metric(
            "evidence_kept_whole",
            "layers that keep all evidence",
            "share",
            "higher",
            "Share of layers that select all of the evidence at every query of the answer.",
            "mean over samples and layers of [E within S_t at every query of the answer]",
            "The more tokens evidence and answer have, the less often it is met; compare equal kinds of questions.",
            _of_layers("kept_all"),
            at_equal_k=True,
        ),
        _metric(
            "evidence_least_selected",
            "evidence selected in the worst layer",
            "share",
            "higher",
            "Share of the evidence's tokens that is selected in the layer that selects least of it.",
            "mean over samples of min over layers of the mean over queries of |E and S_t| / |E|",
            "A minimum falls with the number of layers, so that models of other depths do not compare.",
            Computed("evidence", _OF_ANSWERS),
            at_equal_k=True,
            per_layer=False,
        ),
        _metric(
            "evidence_by_chance",
            "evidence selected by chance",
            "share",
            "neither",
            "What of the evidence a random selection of as many keys would hold.",
            "mean over samples, layers and the answer's queries of k_t / n_t",
            "It is there to be held beside evidence_selected, and says nothing of the indexer.",
            _of_layers("chance"),
        ),
        _metric(
            "evidence_attention",
            "attention on evidence",
            "share",
            "neither",
            "Dense attention on the evidence, averaged over heads: how much the model looks at it.",
            "mean over samples, layers and the answer's queries of sum over E of p[t,s]",
            "Few heads look up what an answer needs, and the mean over all hides them; a small value is no sign that "
            "the evidence is not used.",
            _of_layers("attention"),
            of_attention=True,
        ),
        _metric(
            "evidence_attention_kept",
            "attention on evidence that is kept",
            "share",
            "higher",
            "Of the dense attention on the evidence, the part that is on selected tokens.",
            "sum of attention on E and S_t / sum of attention on E, over samples, layers and the answer's queries",
            "Layers that look at the evidence most decide it. Dense attention in later layers follows from what "
            "earlier layers selected.",
            _of_layers("attention_kept", over="attention"),
            headline=True,
            of_attention=True,
            at_equal_k=True,
        ),
        _metric(
            "evidence_best_rank",
            "rank of the best evidence token",
            "keys",
            "lower",
            "Rank by index score of the evidence token that has the highest.",
            "mean over samples, layers and the answer's queries of min over E of |{s' in E_t: I[t,s'] >= I[t,s]}|",
            "Equal scores count against it, so that a token with a score of exactly 0 ranks behind all of them. A "
            "mean of ranks is decided by the worst ones.",
            _of_layers("best_rank"),
            range="≥ 0",
        ),
        _metric(
            "evidence_worst_rank",
            "rank of the worst evidence token",
            "keys",
            "lower",
            "Rank by index score of the evidence token that has the lowest: the k that a query would have needed.",
            "mean over samples, layers and the answer's queries of max over E of |{s' in E_t: I[t,s'] >= I[t,s]}|",
            "As for the best rank. Where entries are blocks or pools, or the selection comes from no scores, there "
            "is none.",
            _of_layers("worst_rank"),
            range="≥ 0",
        ),
        _metric(
            "evidence_keys_needed",
            "keys that would keep all evidence",
            "keys",
            "lower",
            "Fewest keys k with which a layer would have kept all of the evidence at every query of the answer.",
            "mean over samples and layers of the max over the answer's queries of the worst rank",
            "A mean of maxima: the analysis' table `evidence_keys` has quantiles, which say more. It supposes that "
            "what earlier layers select stays as it is.",
            _of_layers("needed"),
            range="≥ 0",
        ),
        _metric(
            "answer_nll",
            "loss on answers",
            "nats",
            "lower",
            "Negative log-likelihood of the answer's tokens, with the model's own selection.",
            "mean over samples of the mean over the answer's tokens of -ln p(x[t+1] | x[<=t])",
            "Depends on how the answer is worded and cut into tokens; a model that was not trained on such questions "
            "is bad at them whatever it selects.",
            _of_answers("nll"),
            range="≥ 0",
            per_layer=False,
        ),
        _metric(
            "answer_exact",
            "exact answers",
            "share",
            "higher",
            "Share of answers of which every token is the likeliest one.",
            "mean over samples of [argmax p(. | x[<=t]) = x[t+1] at every query of the answer]",
            "The true tokens before each are given, which is kinder than generation: a wrong first digit does not "
            "lead the others astray. Longer answers are harder.",
            _of_answers("exact"),
            headline=True,
            per_layer=False,
        ),
        _metric(
            "dense_answer_nll",
            "loss on answers with every key",
            "nats",
            "lower",
            "The same model's loss on answers when every eligible key is selected; null without a dense reference.",
            "answer_nll of a second run with S_t = E_t in every layer",
            "A model that was trained with its selection may answer worse without it. By default all samples with an "
            "answer have a dense reference (extract.dense_reference).",
            _of_answers("dense_nll"),
            range="≥ 0",
            per_layer=False,
        ),
        _metric(
            "dense_answer_exact",
            "exact answers with every key",
            "share",
            "higher",
            "Share of answers that the same model gives exactly when every eligible key is selected.",
            "answer_exact of a second run with S_t = E_t in every layer",
            "As for the loss on answers with every key.",
            _of_answers("dense_exact"),
            per_layer=False,
        ),
        _metric(
            "answers_lost",
            "answers lost to the selection",
            "share",
            "lower",
            "Answers that the model gives exactly with every key and not with its selection.",
            "mean over samples with a dense reference of [exact with S_t = E_t] x [not exact with S_t]",
            "Answers that are nearly missed either way flip by chance: hold it against those that are gained, in the "
            "analysis' table `answer_outcomes`.",
            Computed("evidence", _OF_ANSWERS),
            per_layer=False,
        ),
        _metric(
            "evidence_missing_where_lost",
            "lost answers without their evidence",
            "share",
            "neither",
            "Of the answers lost to the selection, those whose evidence was missing: whether it was the indexer.",
            "share of lost answers with (sum of attention on E and S_t / sum of attention on E, over queries and "
            "layers) < analyses.evidence.missing; where attention is unknown, |E and S_t| / |E| in its place",
            "A threshold: evidence that is held by half may still be lost at the query that needs it, and layers look "
            "at what earlier layers made of the selection. The table `answer_outcomes` has the same of answers that "
            "were kept, which it is to be held against.",
            Computed("evidence", _OF_ANSWERS),
            per_layer=False,
        ),
    ),
)
