"""Which kinds of tokens are selected."""

from __future__ import annotations

from indexscope.analysis.metrics.metric import Computed, Family, Metric


def _lift(kind: str, meaning: str, members: str, misleads: str, source: str = "") -> Metric:
    return Metric(
        f"{kind}_lift",
        "ratio",
        "neither",
        meaning,
        f"sum of selections / sum of k_t / n_t over the eligible keys with: {members}; over sampled queries in effect",
        Computed("token_content", "token_content"),
        source=source,
        range="≥ 0",
        misleads=misleads,
    )


FAMILY = Family(
    order=180,
    title="Token content",
    about=(
        "Lift = selections / expected selections by kind of token, as for positional bias: each eligible key is taken "
        "by chance with probability k_t / n_t. Only sampled queries in effect count, each weighted by the queries that "
        "it stands for. The first six kinds part the tokens by their text as the tokenizer has it; the last three "
        "overlap with them and with each other. Kinds are not spread evenly over positions (first occurrences are "
        "early, repeated tokens may be near), so a preference for positions shows in these lifts too."
    ),
    metrics=(
        _lift(
            "special",
            "Lift of control tokens.",
            "a special token, or one without text",
            "Special tokens mostly stand at the start, so that this is often the lift of the sink.",
        ),
        _lift(
            "whitespace",
            "Lift of spaces and line breaks.",
            "text of nothing but whitespace",
            "Line breaks bound statements and sentences: a lift may be one of structure rather than of blanks.",
        ),
        _lift(
            "punctuation",
            "Lift of punctuation and symbols.",
            "text without letters, marks and numbers",
            "Which symbols a tokenizer glues to words differs, so that tokenizers are not comparable.",
        ),
        _lift(
            "digit",
            "Lift of numbers.",
            "text with numbers and without letters or marks",
            "Tables and literals cluster in few documents: look at n, and expect wide intervals.",
        ),
        _lift(
            "word_start",
            "Lift of tokens that begin a word.",
            "letters behind leading whitespace",
            "Words after a bracket or a line break have no leading space and count as continuation.",
        ),
        _lift(
            "continuation",
            "Lift of tokens inside words, and of words with no space before them.",
            "letters without leading whitespace, or a part of a character's bytes",
            "Long and rare words have more of these tokens, so that it also follows how rare words are treated.",
        ),
        _lift(
            "induction",
            "Lift of keys that follow an earlier copy of the query's token.",
            "token[s-1] = token[t], s - 1 < t",
            "Frequent tokens have copies everywhere, near ones above all: recency alone lifts it.",
            "Olsson et al. 2022, In-context Learning and Induction Heads",
        ),
        _lift(
            "repeated",
            "Lift of earlier copies of the query's token.",
            "token[s] = token[t], s < t",
            "Copies are nearer than other keys in most texts, so that recency alone lifts it.",
        ),
        _lift(
            "first_occurrence",
            "Lift of tokens that the text has not had before.",
            "token[s] differs from all token[s'], s' < s",
            "First occurrences are early: what an indexer thinks of old keys shows here.",
        ),
    ),
)
