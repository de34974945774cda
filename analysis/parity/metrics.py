"""How far selections from elsewhere are those of the baseline."""

from __future__ import annotations

from indexscope.analysis.metrics.metric import Better, Family, Metric, Paired


def _parity(
    name: str, unit: str, better: Better, meaning: str, formula: str, misleads: str, range: str = "", label: str = ""
) -> Metric:
    rule = Paired("parity", "counted", of_dump=True)
    return Metric(name, unit, better, meaning, formula, rule, range=range, misleads=misleads, label=label)


_SCORED = "Unknown where the baseline shows no index scores: layers that share a selection, and two dumps."
FAMILY = Family(
    order=178,
    title="Parity",
    about=(
        "S is the baseline's selection at a query, S' that of a dump (docs/selections.md) at the same query of the "
        "same tokens. All queries in effect count that the dump has rows of, each the same. The table parity_where has "
        "rows and overlap by layer and position, parity_distances what is missing and extra by distance, "
        "parity_samples where each sample parts. From the first layer that differs on, the two programs may see other "
        "hidden states, so that later layers differ for that reason alone."
    ),
    metrics=(
        _parity(
            "rows_identical",
            "share",
            "higher",
            "Rows (queries of a layer) whose set of selected keys is exactly the baseline's.",
            "mean over queries in effect of 1 if S' = S and no entry is of the future or out of range, else 0",
            "One key of thousands makes a row count as different; ties alone may do so. Read rows_identical_up_to_ties "
            "and selection_overlap beside it.",
        ),
        _parity(
            "rows_identical_up_to_ties",
            "share",
            "higher",
            "Rows that are identical, or differ only in keys whose score is the k-th.",
            "mean over queries in effect of 1 if S' = S, or |S'| = |S| and |I[t,s] - kth score| <= tie_tolerance times "
            "the row's largest |I| for every key of one alone, else 0",
            f"Scores are the baseline's, as captured here: a program that computes in lower precision has other ties. "
            f"{_SCORED}",
            label="rows identical up to ties",
        ),
        _parity(
            "selection_overlap",
            "share",
            "higher",
            "Share of the baseline's selected keys that the dump selects too.",
            "mean over queries in effect of |S and S'| / |S|",
            "With S' larger than S it can be 1 while keys are extra: see extra_keys. It says nothing of which keys "
            "differ; dumped_recall_lost does.",
            label="selection overlap",
        ),
        _parity(
            "missing_keys",
            "keys",
            "lower",
            "Keys of a row that the baseline alone selects.",
            "mean over queries in effect of |S \\ S'|",
            "A mean over all rows: many rows that miss one key and few that miss all look alike.",
            "0 to k_t",
        ),
        _parity(
            "extra_keys",
            "keys",
            "lower",
            "Keys of a row that the dump alone selects.",
            "mean over queries in effect of |S' \\ S|, entries of the future, out of range and repeated left out",
            "Equals missing_keys where both select equally many.",
            "≥ 0",
        ),
        _parity(
            "differences_from_ties",
            "share",
            "neither",
            "Share of the keys selected by one of the two alone that were exchanged at the k-th score.",
            "sum over queries of 2 min(tied keys of S \\ S', tied keys of S' \\ S) / sum of the keys of both, tied: "
            "|I[t,s] - kth score| <= tie_tolerance times the row's largest |I|",
            f"The k-th key ties with itself, so that only pairs count; a key of the k-th score that another of a lower "
            f"score replaces is no tie. {_SCORED}",
            label="differences that ties explain",
        ),
        _parity(
            "differing_key_gap",
            "sd",
            "lower",
            "How far the scores of keys selected by one of the two alone lie from the k-th score.",
            "sum over keys of S \\ S' and S' \\ S of |I[t,s] - kth score| / standard deviation of the row's I, over "
            "the number of such keys",
            f"Rounding moves keys near the edge, so that its gaps are small; wrong scores or positions move any key. "
            f"Where a row's scores are all but equal, small gaps are large differences. {_SCORED}",
            "≥ 0",
        ),
        _parity(
            "dumped_recall",
            "share",
            "higher",
            "Dense attention of the baseline, head mean, on the keys of the dump.",
            "mean over queries in effect of sum over s in S' of p[t,s]",
            "By the attention of the model as it runs here, at its own hidden states. Larger with more keys.",
            label="recall of the dump",
        ),
        _parity(
            "dumped_recall_lost",
            "share",
            "lower",
            "Dense attention on the baseline's keys less that on the dump's.",
            "mean over queries in effect of sum over s in S of p[t,s] - sum over s in S' of p[t,s]",
            "Below 0 where the dump selects more keys, or better ones. What it does to outputs was not measured.",
            "-1 to 1",
            label="recall lost",
        ),
        _parity(
            "dumped_evidence_selected",
            "share",
            "higher",
            "Share of the evidence's tokens that the dump selects at the answer's queries, where the data mark any.",
            "mean over samples, layers and the answer's queries of |E and S'| / |E|",
            "The evidence_selected of the dump, from its rows alone: what the answer is with them nobody has seen. "
            "Samples whose answer has queries without a row do not count; the plan names them.",
            label="evidence selected by the dump",
        ),
        _parity(
            "dumped_evidence_lost",
            "share",
            "lower",
            "Share of the evidence that the baseline selects at the answer's queries, less that of the dump.",
            "mean over samples, layers and the answer's queries of (|E and S| - |E and S'|) / |E|",
            "Of the same samples and queries. From the first layer that differs on, the dump's program may have seen "
            "other hidden states.",
            "-1 to 1",
            label="evidence lost by the dump",
        ),
        _parity(
            "rows_incomplete",
            "share",
            "lower",
            "Rows not in effect, in which every key is to be selected, that miss one.",
            "mean over queries with n_t <= k_t of 1 if S' lacks a key of S, else 0",
            "Not among the rows of the other metrics.",
        ),
        _parity(
            "future_keys",
            "keys",
            "lower",
            "Entries of a row that name a later token.",
            "mean over all queries that the dump has of the entries with t < s < sequence length",
            "Many of them may be no leak: a dump may hold slots of a cache in place of positions (docs/selections.md).",
            "≥ 0",
        ),
        _parity(
            "out_of_range_keys",
            "keys",
            "lower",
            "Entries of a row that name no token, or one that the query may not select.",
            "mean over all queries of the entries below -1, beyond the sequence, or outside E_t; -1 is no entry",
            "The same as for future_keys.",
            "≥ 0",
        ),
        _parity(
            "repeated_keys",
            "keys",
            "lower",
            "Entries of a row that name a key that another entry names too.",
            "mean over all queries of entries of eligible keys less different ones",
            "A row with repeated keys selects fewer than it seems.",
            "≥ 0",
        ),
    ),
)
