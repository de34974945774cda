"""Whether the indexer prefers some positions over others, and whether it follows the attention in that."""

from __future__ import annotations

from indexscope.analysis.metrics.metric import Computed, Family, Metric

_POSITIONAL = Computed("positional_bias", "positions")
_EDGE = (
    "All selections of queries with few keys lie here too, and k_t / n_t bounds it: its largest possible value is "
    "n_t / k_t, so that lifts of models with another k or other lengths do not compare."
)


def _lift(name: str, meaning: str, formula: str, misleads: str, of_attention: bool = False) -> Metric:
    return Metric(
        name,
        "ratio",
        "neither",
        meaning,
        formula,
        _POSITIONAL,
        range="≥ 0",
        misleads=misleads,
        of_attention=of_attention,
    )


def _bits(
    name: str,
    meaning: str,
    formula: str,
    misleads: str,
    headline: bool = False,
    of_attention: bool = False,
    part: bool = False,
) -> Metric:
    return Metric(
        name,
        "bits",
        "neither",
        meaning,
        formula,
        _POSITIONAL,
        range="0 to 6",
        misleads=misleads,
        headline=headline,
        of_attention=of_attention,
        margin_of="positional_bias" if part else "",
    )


FAMILY = Family(
    order=80,
    title="Positional bias",
    about=(
        "Lift = selections / expected selections. The expectation is that of a random selector of the same size: each "
        "eligible key is taken with probability k_t / n_t, so that early keys, which are eligible for more queries, do "
        "not look preferred. Lift 1 is no preference. Only queries in effect count. recency_bias, oldest_bias and "
        "other_bias are the terms of positional_bias and add up to it; positional_bias_floor is what a random selector "
        "would show. The lift of the attention is attention / uniform attention over the same queries (all "
        "queries in models without an indexer)."
    ),
    metrics=(
        _bits(
            "positional_bias",
            "How far selections by distance and age are from what chance would give; 0 is no bias, 1 a factor of two.",
            "sum over parts b of (expected_b / sum of expected) |log2(selections_b / expected_b)|; parts are the "
            "distance bins d = 0 and 2^(b-1) <= d < 2^b, from d = 32 on each in two: the oldest tenth of the eligible "
            "keys and the others; |log2| is capped at 6, so that a part that is never selected counts as a factor of "
            "64; the overall value runs over all (layer, part) cells, so that opposite layers do not "
            "cancel; noise keeps it slightly above 0 even without bias; its interval is that of its linearisation "
            "(first-order influence of each sample)",
            "Never 0 in finite data: read it against positional_bias_floor. Attention itself has a bias, and following "
            "it is right (see excess_bias).",
            headline=True,
        ),
        _bits(
            "positional_bias_floor",
            "The bias that a random selector would show at the same counts, by noise alone.",
            "expectation of positional_bias if the selections of each query in effect were k of its n keys drawn at "
            "random: parts are normal with the hypergeometric variance sum over queries of k (m/n)(1 - m/n)(n - k)/"
            "(n - 1), m the query's keys in the part, or binomial with that variance where it is below 50; n is taken "
            "as an arithmetic progression from k + 1 with the sum of 1/n that the table holds; no interval: it is an "
            "expectation",
            "Queries of a random selector are independent; one that goes by content selects the same keys for many "
            "queries and scatters more, so that a bias slightly above the floor is no proof of a preference.",
        ),
        _bits(
            "recency_bias",
            "The part of positional_bias that lies within the 32 nearest keys, preferred or avoided.",
            "the terms of positional_bias with d < 32",
            "Has no sign: recency_lift says whether near keys are preferred or avoided. A strong preference for near "
            "keys leaves fewer selections elsewhere and so makes the other parts large too.",
            part=True,
        ),
        _bits(
            "oldest_bias",
            "The part of positional_bias that lies in the oldest tenth of the keys (sinks), preferred or avoided.",
            "the terms of positional_bias with d >= 32 and floor(10 r / n_t) = 0, r the rank of s in E_t",
            "Has no sign: oldest_lift says whether old keys are preferred or avoided. A tenth of a long context is far "
            "more than the sinks. Where n_t < 36 the oldest tenth reaches into the nearest 32 keys, which count as "
            "recent.",
            part=True,
        ),
        _bits(
            "other_bias",
            "The rest of positional_bias: keys that are neither near nor among the oldest.",
            "the terms of positional_bias with d >= 32 and floor(10 r / n_t) > 0",
            "Mostly an echo of the other two: what they gain, these keys lose. A preference of its own shows as a peak "
            "of the lift at some distance.",
            part=True,
        ),
        _bits(
            "excess_bias",
            "How far the selection's lift by distance and age differs from that of the attention it stands for.",
            "sum over the parts b of positional_bias of (expected_b / sum of expected) |log2(lift_b / attention "
            "lift_b)|, |log2| capped at 6; interval by linearisation",
            "Not 0 for the best selection: attention weighs keys, a selection counts them, so that a few sinks with "
            "most of the mass have an attention lift that no selection of k keys can reach.",
            of_attention=True,
        ),
        _lift(
            "recency_lift",
            "How much more often than by chance the 32 nearest keys are selected.",
            "sum of selections with t - s < 32 / sum of their expected selections",
            _EDGE,
        ),
        _lift(
            "oldest_lift",
            "How much more often than by chance the oldest tenth of the eligible keys is selected (sinks are there).",
            "sum of selections with floor(10 r / n_t) = 0, r the rank of s in E_t / sum of their expected selections",
            "A tenth of a long context is far more than the sinks: four sinks that are always selected hardly raise it "
            "there. Bounded by n_t / k_t.",
        ),
        _bits(
            "attention_positional_bias",
            "How far dense attention by distance and age is from uniform attention, by the formula of positional_bias.",
            "as positional_bias, with attention mass in place of selections and uniform attention as the expectation",
            "Models with an indexer are measured over queries in effect, models without over all queries: compare "
            "the two with care. Few keys may hold most of the mass of a bin.",
            of_attention=True,
        ),
        _lift(
            "attention_recency_lift",
            "How much more attention than uniform attention the 32 nearest keys get.",
            "sum of attention with t - s < 32 / sum of the same under uniform attention",
            "At most n_t / 32, so that it grows with the context for the same local mass. Over queries in effect where "
            "there is an indexer, else over all queries.",
            of_attention=True,
        ),
        _lift(
            "attention_oldest_lift",
            "How much more attention than uniform attention the oldest tenth of the eligible keys gets.",
            "sum of attention with floor(10 r / n_t) = 0 / sum of the same under uniform attention",
            "At most 10; one sink token is enough to reach it. Over queries in effect where there is an indexer, else "
            "over all queries.",
            of_attention=True,
        ),
    ),
)
