"""What changed between the selections of the baseline and those of a candidate."""

from __future__ import annotations

from indexscope.analysis.metrics.metric import Better, Family, Metric, Paired


def _choice(
    name: str,
    better: Better,
    meaning: str,
    formula: str,
    misleads: str,
    range: str = "0 to 1",
    table: str = "selections",
) -> Metric:
    return Metric(
        name, "share", better, meaning, formula, Paired("selection_changes", table), range=range, misleads=misleads
    )


_YARDSTICK = "p the baseline's dense attention of the head mean"

FAMILY = Family(
    order=175,
    title="Selection changes",
    about=(
        "S is the baseline's selection at a query, S' the candidate's at the same query of the same sample. The "
        "sampled queries whose selections are stored count, each weighted by the queries that it stands for, and "
        "of those the ones at which either model leaves a key out. Layers in which both select from the same "
        "entries are compared; each model sees the hidden states of its own earlier layers. Attention "
        "(selection_mass_...) is known of samples of the close-up. The table selection_changes_where has everything by "
        "layer and position, selection_changes_by what was dropped and added by distance, relative position and kind "
        "of token, selection_changes_worst the samples that changed most."
    ),
    metrics=(
        _choice(
            "selection_overlap_with_baseline",
            "neither",
            "Jaccard similarity of the candidate's selection with the baseline's.",
            "mean over queries of |S ∩ S'| / |S ∪ S'|",
            "Says nothing of which keys differ: a thousand keys without attention may change and no prediction with "
            "them. Ties at the k-th score change it between two runs of one model. Read it beside "
            "selection_overlap_by_chance, which is near 1 where k_t is near n_t.",
        ),
        _choice(
            "selection_overlap_by_chance",
            "neither",
            "The same for a random selection of the candidate's size.",
            "mean over queries of the expectation of X / (k_t + k'_t - X), X hypergeometric of n_t, k_t and k'_t",
            "Uniform over eligible keys: two indexers that both prefer near keys overlap more than this without "
            "agreeing on anything else.",
        ),
        _choice(
            "selection_kept",
            "neither",
            "Share of the baseline's selected keys that the candidate selects too.",
            "mean over queries of |S ∩ S'| / k_t; the share dropped is 1 less this",
            "A candidate that selects more keys keeps more, whatever it learnt.",
        ),
        _choice(
            "selection_added",
            "neither",
            "Share of the candidate's selected keys that the baseline does not select.",
            "mean over queries of |S' \\ S| / k'_t",
            "Equals the share dropped where both select equally many; a candidate that selects fewer keys adds fewer.",
        ),
        _choice(
            "selection_mass_lost",
            "lower",
            "Attention of the baseline that its own selection holds and the candidate's does not, net.",
            f"mean over sampled queries of sum over s in S of p[t,s] - sum over s in S' of p[t,s], {_YARDSTICK}",
            "Judges the candidate by an attention that it never computes: it shows what is lost to the baseline, not "
            "whether training let the candidate do without. Below 0 the candidate's selection serves the baseline "
            "better than its own.",
            "-1 to 1",
            "attended",
        ),
        _choice(
            "selection_mass_dropped",
            "neither",
            "Attention of the baseline on the keys that the candidate dropped.",
            f"mean over sampled queries of sum over s in S \\ S' of p[t,s], {_YARDSTICK}",
            "Takes no account of what was added in their place: see selection_mass_lost.",
            table="attended",
        ),
        _choice(
            "selection_mass_added",
            "neither",
            "Attention of the baseline on the keys that the candidate added.",
            f"mean over sampled queries of sum over s in S' \\ S of p[t,s], {_YARDSTICK}",
            "Rises with the number of keys that are added.",
            table="attended",
        ),
        _choice(
            "selection_mass_estimated",
            "neither",
            "How much of the two above is not measured key by key.",
            "mean over sampled queries of the attention on dropped and added keys that are not among the "
            "closeup.attended_keys most attended ones: what the query's remaining attention on selected (on other) "
            "keys gives if those keys share it evenly",
            "No bound of the error: between the built-in models the error of selection_mass_lost was a fifth to a half "
            "of it. Where it is not small beside that, the loss may have the wrong sign: raise closeup.attended_keys.",
            table="attended",
        ),
        _choice(
            "selection_mass_lost_own",
            "lower",
            "The net loss by the candidate's own attention.",
            "as selection_mass_lost, p the candidate's dense attention of the head mean",
            "Below 0 wherever training let the attention follow the selection, so that it flatters the candidate.",
            "-1 to 1",
            "attended",
        ),
    ),
)
